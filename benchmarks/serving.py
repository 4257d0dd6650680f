"""Requests of mixed sizes from several clients at `keras-fcn serve`: answers, time, memory.

    python -m benchmarks.serving --backend jax
    python -m benchmarks.serving --queue 4          # with requests that are sent away

The server runs in a separate process. Its resident memory is read after every 50 answers, while no
request runs.
"""

import argparse
import collections
import concurrent.futures
import http.client
import io
import os
import statistics
import subprocess
import sys
import time
from urllib.parse import urlsplit

import numpy as np
import psutil
from PIL import Image

ROUND = 50
HEADERS = {"Content-Type": "image/jpeg"}


def photo(rng: np.random.Generator, sides: tuple[int, int]) -> bytes:
    """Returns a JPEG of a random size between two sides."""
    height, width = rng.integers(*sides, 2, endpoint=True)
    coarse = Image.fromarray(rng.integers(0, 256, (9, 12, 3), "uint8"))
    file = io.BytesIO()
    coarse.resize((width, height), Image.Resampling.BICUBIC).save(file, "JPEG", quality=90)
    return file.getvalue()


def ask(address: str, body: bytes) -> tuple[list[int], float]:
    """Asks until the answer is not 429; returns all status codes, and the last answer's seconds."""
    statuses = []
    while True:
        started = time.perf_counter()
        connection = http.client.HTTPConnection(address, timeout=300)
        connection.request("POST", "/predict", body, HEADERS)
        answer = connection.getresponse()
        answer.read()
        connection.close()
        statuses.append(answer.status)
        if answer.status != 429:
            return statuses, time.perf_counter() - started
        time.sleep(int(answer.headers["Retry-After"]))


def start(model: str, backend: str, queue: int) -> tuple[subprocess.Popen, str]:
    """Starts the server; returns its process and its address."""
    process = subprocess.Popen(
        [sys.executable, "-m", "keras_fcn", "serve", model, "--port", "0", "--queue", str(queue)],
        env={**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"},
        stdout=subprocess.PIPE,
        text=True,
    )
    line = process.stdout.readline()
    if not line:
        raise SystemExit(f"The server ended with {process.wait()}.")
    return process, urlsplit(line.split()[-1]).netloc


def measure(options: argparse.Namespace) -> None:
    """Prints memory after every round, then status codes and seconds of all answers."""
    rng = np.random.default_rng(0)
    statuses, seconds = collections.Counter(), []
    process, address = start(options.model, options.backend, options.queue)
    try:
        resident = psutil.Process(process.pid).memory_info
        print(f"before the first request: {resident().rss / 2**20:.0f} MiB", flush=True)
        started = time.perf_counter()
        with concurrent.futures.ThreadPoolExecutor(options.clients) as clients:
            for done in range(ROUND, options.requests + 1, ROUND):
                photos = [photo(rng, options.sides) for _ in range(ROUND)]
                for codes, taken in clients.map(ask, [address] * ROUND, photos):
                    statuses.update(codes)
                    seconds.append(taken)
                print(f"after {done} answers: {resident().rss / 2**20:.0f} MiB", flush=True)
        elapsed = time.perf_counter() - started
    finally:
        process.terminate()
        code = process.wait()
    print(f"status codes: {dict(statuses)}; the server ended with {code}")
    slowest = statistics.quantiles(seconds, n=20)[-1]
    print(
        f"{len(seconds) / elapsed:.2f} answers per second; seconds per answer: median "
        f"{statistics.median(seconds):.2f}, 95th percentile {slowest:.2f}"
    )


def main() -> None:
    """Measures one server."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="camvid")
    parser.add_argument("--backend", default="tensorflow", choices=("tensorflow", "jax", "torch"))
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--requests", type=int, default=200, help=f"a multiple of {ROUND}")
    parser.add_argument("--queue", type=int, default=8)
    parser.add_argument("--sides", type=int, nargs=2, default=(96, 256), metavar="PIXELS")
    measure(parser.parse_args())


if __name__ == "__main__":
    main()
