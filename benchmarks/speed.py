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
from benchmarks.peers.pytorch import SKIPS
from benchmarks.peers.weights import multiplications

# Largest difference of logits that may be, over the largest logit.
TOLERANCE = {"float32": 1e-4, "bfloat16": 5e-2}


@dataclasses.dataclass(frozen=True)
class Case:
    """What is compared: a task on one backend against the peer's.

    Args:
        task: `"forward"`, a whole `predict` from NumPy to NumPy, or `"step"`, `train_on_batch`.
        backend: Keras's backend.
        precision: `"float32"` or `"bfloat16"` (weights in float32), of both.
        padding: `"paper"` or `"same"`.
        model: `"FCN32s"`, `"FCN16s"` or `"FCN8s"`.
        size: (height, width) in pixels.
        peer_precision: Precision of the peer, if it is another one.
        checkpointing: Whether ours recomputes its blocks instead of keeping what they hold.
    """

    task: str
    backend: str
    precision: str
    padding: str
    model: str
    size: tuple[int, int]
    peer_precision: str | None = None
    checkpointing: bool = False

    @property
    def name(self) -> str:
        """The case in words, the key of its result."""
        words = [self.task, self.backend, self.precision, self.padding, self.model]
        words.append("x".join(map(str, self.size)))
        words += [f"peer in {self.peer_precision}"] if self.peer_precision else []
        words += ["checkpointing"] if self.checkpointing else []
        return " ".join(words)


def measure(case: Case, runs: int) -> dict:
    """Returns the seconds of every run, peak memories and FLOP/s of both.

    Both processes live at once; they take turns, ours first, after one turn that does not count.

    Raises:
        RuntimeError: If a process fails, or the logits of the two differ.
    """
    with tempfile.TemporaryDirectory() as folder:
        files = {name: Path(folder) / f"{name}.npy" for name in ("ours", "peer")}
        processes = {name: _start(case, name, files[name]) for name in files}
        try:
            product = max(_answer(process)["product"] for process in processes.values())
            ours, peer = (np.load(file) for file in files.values())
            difference = float(np.abs(ours - peer).max() / np.abs(peer).max())
            precision = (
                "bfloat16" if "bfloat16" in (case.precision, case.peer_precision) else "float32"
            )
            if not difference <= TOLERANCE[precision]:
                raise RuntimeError(
                    f"The logits must be those of the peer. Received: a relative difference of "
                    f"{difference:.1e} in {case.name}."
                )
            seconds, peak = {name: [] for name in files}, {}
            for turn in range(runs + 1):
                for name, process in processes.items():
                    process.stdin.write("run\n")
                    process.stdin.flush()
                    answer = _answer(process)
                    peak[name] = answer["peak"]
                    if turn:
                        seconds[name].append(answer["seconds"])
        finally:
            for process in processes.values():
                process.kill()
                process.wait()
    arithmetic = multiplications(case.model, NUM_CLASSES, *case.size, case.padding)
    flop = 2 * arithmetic * (1 if case.task == "forward" else 3)
    return {
        **dataclasses.asdict(case),
        "seconds": seconds,
        "peak": peak,
        "difference": difference,
        "product": product,
        "flop": flop,
    }


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
        "| of the product | peak ours, peer GB |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for result in results:
        ours = statistics.median(result["seconds"]["ours"])
        peer = statistics.median(result["seconds"]["peer"])
        median, least, most = ratio(result)
        peer_precision = result["peer_precision"]
        precision = result["precision"] + (f", peer {peer_precision}" if peer_precision else "")
        task = result["task"] + (", checkpointing" if result["checkpointing"] else "")
        lines.append(
            f"| {task} | {result['backend']} | {precision} | {result['padding']} "
            f"| {result['model']} | {'×'.join(map(str, result['size']))} | {ours:.2f} | {peer:.2f} "
            f"| **{median:.2f}** ({least:.2f} to {most:.2f}) "
            f"| {result['flop'] / ours / result['product']:.0%} "
            f"| {result['peak']['ours'] / 1e9:.2f}, {result['peak']['peer'] / 1e9:.2f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Measures one case and prints its row."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--task", choices=["forward", "step"], default="forward")
    parser.add_argument("--backend", choices=["tensorflow", "jax", "torch"], default="tensorflow")
    parser.add_argument("--precision", choices=list(TOLERANCE), default="float32")
    parser.add_argument("--peer-precision", choices=list(TOLERANCE))
    parser.add_argument("--padding", choices=["paper", "same"], default="paper")
    parser.add_argument("--model", choices=list(SKIPS), default="FCN8s")
    parser.add_argument("--size", type=int, nargs=2, default=(500, 500), metavar=("H", "W"))
    parser.add_argument("--checkpointing", action="store_true")
    parser.add_argument("--runs", type=int, default=5)
    options = vars(parser.parse_args())
    runs = options.pop("runs")
    print(table([measure(Case(**options | {"size": tuple(options["size"])}), runs)]))


def _start(case, name, logits):
    command = [sys.executable, "-m", "benchmarks.contestant", name, "--task", case.task]
    command += ["--model", case.model, "--padding", case.padding, "--size", *map(str, case.size)]
    precision = case.precision if name == "ours" else case.peer_precision or case.precision
    command += ["--precision", precision, "--logits", str(logits)]
    command += ["--checkpointing"] if case.checkpointing and name == "ours" else []
    environment = {**os.environ, "KERAS_BACKEND": case.backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
    return subprocess.Popen(
        command, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )


def _answer(process):
    line = process.stdout.readline()
    if not line:
        raise RuntimeError(f"{' '.join(process.args)} ended with status {process.wait()}.")
    return json.loads(line)


if __name__ == "__main__":
    main()
