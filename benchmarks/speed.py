"""FCN beside plain PyTorch: prediction and training step, interleaved, outputs compared first."""

import argparse
import dataclasses
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.contestant import NUM_CLASSES
from benchmarks.peers.weights import SKIPS, multiplications

# Largest difference of logits that may be, over the largest logit.
TOLERANCE = {"float32": 1e-4, "bfloat16": 5e-2}


@dataclasses.dataclass(frozen=True)
class Case:
    """What is compared: a task on one backend against the peer's.

    Args:
        task: `"forward"`, a whole `predict` from NumPy to NumPy; `"step"`, `train_on_batch`; or
            `"metrics"`, the mean IoU of logits of that size.
        backend: Keras's backend.
        precision: `"float32"` or `"bfloat16"` (weights in float32), of both.
        padding: `"paper"` or `"same"`.
        model: `"FCN32s"`, `"FCN16s"` or `"FCN8s"`.
        size: (height, width) in pixels.
        peer_precision: Precision of the peer, if it is another one.
        batch_size: Number of images.
        checkpointing: Whether ours recomputes its blocks instead of keeping what they hold.
    """

    task: str
    backend: str
    precision: str
    padding: str
    model: str
    size: tuple[int, int]
    peer_precision: str | None = None
    batch_size: int = 1
    checkpointing: bool = False

    @property
    def name(self) -> str:
        """The case in words, the key of its result."""
        words = [self.task, self.backend, self.precision, self.padding, self.model]
        words.append("x".join(map(str, self.size)))
        words += [f"batch {self.batch_size}"] if self.batch_size > 1 else []
        words += [f"peer in {self.peer_precision}"] if self.peer_precision else []
        words += ["checkpointing"] if self.checkpointing else []
        return " ".join(words)


def measure(case: Case, runs: int) -> dict:
    """Returns the seconds of every run, peak memories and matrix products in FLOP/s of both.

    Both processes live at once; they take turns, ours first, after one turn that does not count.

    Raises:
        RuntimeError: If a process fails, or the outputs of the two differ.
    """
    with tempfile.TemporaryDirectory() as folder:
        files = {name: Path(folder) / f"{name}.npy" for name in ("ours", "peer")}
        processes = {name: start(case, name, files[name]) for name in files}
        try:
            product = {name: answer(process)["product"] for name, process in processes.items()}
            ours, peer = (np.load(file) for file in files.values())
            difference = float(np.abs(ours - peer).max() / np.abs(peer).max())
            precision = (
                "bfloat16" if "bfloat16" in (case.precision, case.peer_precision) else "float32"
            )
            if not difference <= (0 if case.task == "metrics" else TOLERANCE[precision]):
                raise RuntimeError(
                    f"The outputs must be those of the peer. Received: a relative difference of "
                    f"{difference:.1e} in {case.name}."
                )
            seconds, peak = {name: [] for name in files}, {}
            for turn in range(runs + 1):
                for name, process in processes.items():
                    measured = run(process)
                    peak[name] = measured["peak"]
                    if turn:
                        seconds[name].append(measured["seconds"])
        finally:
            for process in processes.values():
                process.kill()
                process.wait()
    arithmetic = multiplications(case.model, NUM_CLASSES, *case.size, case.padding)
    flop = 2 * arithmetic * case.batch_size * {"forward": 1, "step": 3, "metrics": 0}[case.task]
    return {
        **dataclasses.asdict(case),
        "seconds": seconds,
        "peak": peak,
        "difference": difference,
        "product": product,
        "flop": flop,
    }


def start(case, name, outputs=None):
    """Starts the process of `"ours"` or `"peer"`; its first `answer` says that it is ready."""
    command = [sys.executable, "-m", "benchmarks.contestant", name, "--task", case.task]
    command += ["--model", case.model, "--padding", case.padding, "--size", *map(str, case.size)]
    precision = case.precision if name == "ours" else case.peer_precision or case.precision
    command += ["--precision", precision, "--batch-size", str(case.batch_size)]
    command += ["--outputs", str(outputs)] if outputs else []
    command += ["--checkpointing"] if case.checkpointing and name == "ours" else []
    environment = {**os.environ, "KERAS_BACKEND": case.backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
    return subprocess.Popen(
        command, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )


def run(process):
    """Returns seconds and peak memory in bytes of one run more."""
    process.stdin.write("run\n")
    process.stdin.flush()
    return answer(process)


def answer(process):
    """Returns what the process has to say next.

    Raises:
        RuntimeError: If it has ended.
    """
    line = process.stdout.readline()
    if not line:
        raise RuntimeError(f"{' '.join(process.args)} ended with status {process.wait()}.")
    return json.loads(line)


def ratio(result: dict) -> tuple[float, float, float]:
    """Returns how many times as fast as the peer: median, and the least and most of the turns."""
    turns = [
        peer / ours
        for ours, peer in zip(result["seconds"]["ours"], result["seconds"]["peer"], strict=True)
    ]
    median = statistics.median(result["seconds"]["peer"]) / statistics.median(
        result["seconds"]["ours"]
    )
    return median, min(turns), max(turns)


def table(results: list[dict]) -> str:
    """Returns the results as a Markdown table."""
    lines = [
        "| task | backend | precision | padding | model | size | ours s | peer s | peer / ours "
        "| of the product | product ours, peer GFLOP/s | peak ours, peer GB |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for result in results:
        ours = statistics.median(result["seconds"]["ours"])
        peer = statistics.median(result["seconds"]["peer"])
        median, least, most = ratio(result)
        peer_precision = result["peer_precision"]
        precision = result["precision"] + (f", peer {peer_precision}" if peer_precision else "")
        task = result["task"] + (", checkpointing" if result["checkpointing"] else "")
        product, peak = (
            [result[key][name] / 1e9 for name in ("ours", "peer")] for key in ("product", "peak")
        )
        share = f"{result['flop'] / 1e9 / ours / max(product):.0%}" if result["flop"] else ""
        size = "×".join(map(str, result["size"]))
        size += f", batch {result['batch_size']}" if result["batch_size"] > 1 else ""
        lines.append(
            f"| {task} | {result['backend']} | {precision} | {result['padding']} "
            f"| {result['model']} | {size} | {ours:.3g} | {peer:.3g} "
            f"| **{median:.2f}** ({least:.2f} to {most:.2f}) "
            f"| {share} | {product[0]:.0f}, {product[1]:.0f} | {peak[0]:.2f}, {peak[1]:.2f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Measures one case and prints its row."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--task", choices=["forward", "step", "metrics"], default="forward")
    parser.add_argument("--backend", choices=["tensorflow", "jax", "torch"], default="tensorflow")
    parser.add_argument("--precision", choices=list(TOLERANCE), default="float32")
    parser.add_argument("--peer-precision", choices=list(TOLERANCE))
    parser.add_argument("--padding", choices=["paper", "same"], default="paper")
    parser.add_argument("--model", choices=list(SKIPS), default="FCN8s")
    parser.add_argument("--size", type=int, nargs=2, default=(500, 500), metavar=("H", "W"))
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument("--checkpointing", action="store_true")
    parser.add_argument("--runs", type=int, default=5)
    options = vars(parser.parse_args())
    runs = options.pop("runs")
    print(table([measure(Case(**options | {"size": tuple(options["size"])}), runs)]))


if __name__ == "__main__":
    main()
