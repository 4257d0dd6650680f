"""Speed of keras_fcn and a plain PyTorch baseline: interleaved runs, outputs compared first."""

import argparse
import atexit
import dataclasses
import functools
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from benchmarks import avx2, devices
from benchmarks.contestant import NUM_CLASSES, OPTIMIZERS
from benchmarks.peers.weights import SKIPS, multiplications

# Largest accepted difference of logits, relative to the largest logit.
TOLERANCE = {"float32": 1e-4, "tensorfloat32": 1e-2, "bfloat16": 5e-2, "float16": 1e-2}


@dataclasses.dataclass(frozen=True)
class Case:
    """One comparison: a task on one backend against the baseline.

    Args:
        task: `"forward"`, a whole `predict` from NumPy to NumPy; `"step"`, `train_on_batch`; or
            `"metrics"`, the mean IoU of logits of that size.
        backend: Keras's backend.
        precision: One of `devices.PRECISIONS` (weights in float32), of both sides.
        padding: `"paper"` or `"same"`.
        model: `"FCN32s"`, `"FCN16s"` or `"FCN8s"`.
        size: (height, width) in pixels.
        peer_precision: Precision of the baseline, if it differs.
        batch_size: Number of images.
        checkpointing: Whether keras_fcn uses gradient checkpointing.
        optimizer: One of `contestant.OPTIMIZERS`.
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
    optimizer: str = OPTIMIZERS[0]

    @property
    def name(self) -> str:
        """Readable name of the case, the key of its result."""
        words = [self.task, self.backend, self.precision, self.padding, self.model]
        words.append("x".join(map(str, self.size)))
        words += [f"batch {self.batch_size}"] if self.batch_size > 1 else []
        words += [f"peer in {self.peer_precision}"] if self.peer_precision else []
        words += ["checkpointing"] if self.checkpointing else []
        words += [self.optimizer] if self.optimizer != OPTIMIZERS[0] else []
        return " ".join(words)


def measure(case: Case, runs: int) -> dict:
    """Returns seconds of every run, peak memory and matmul throughput in FLOP/s of all sides.

    The sides are keras_fcn (`"ours"`) and the baseline (`"peer"`), on a GPU also the baseline with
    `torch.compile`. Their processes run concurrently and alternate, keras_fcn first, after one
    warm-up run each.

    Raises:
        RuntimeError: If a process fails, or the outputs differ.
    """
    is_on_gpu = devices.gpu() is not None
    names = ["ours", "peer"]
    if is_on_gpu and case.task != "metrics":
        names.append("compiled peer")
    with tempfile.TemporaryDirectory() as folder:
        files = {name: Path(folder) / f"{name}.npy" for name in names}
        if is_on_gpu and case.backend == "jax":
            _compile(case)
        processes = {name: start(case, name, file) for name, file in files.items()}
        try:
            product = {name: answer(process)["product"] for name, process in processes.items()}
            outputs = {name: np.load(file) for name, file in files.items()}
            # NumPy's maximum propagates NaN.
            difference = float(np.max([_difference(outputs, name) for name in names[1:]]))
            precisions = {case.precision, case.peer_precision or case.precision}
            tolerance = max(TOLERANCE[precision] for precision in precisions)
            if not difference <= (0 if case.task == "metrics" else tolerance):
                raise RuntimeError(
                    f"The outputs must equal the baseline's. Received: a relative difference of "
                    f"{difference:.1e} in {case.name}."
                )
            seconds, peak = alternate(processes, runs)
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


def _difference(outputs, name):
    return np.abs(outputs["ours"] - outputs[name]).max() / np.abs(outputs[name]).max()


def _compile(case):
    """Fills JAX's compilation cache: XLA's autotuning allocates memory that would count as peak."""
    process = start(case, "ours")
    try:
        answer(process)
        run(process)
    finally:
        process.kill()
        process.wait()


def start(case, name, outputs=None):
    """Starts the process of one side; its first `answer` arrives when it is ready."""
    command = ["benchmarks.contestant", name, "--task", case.task]
    command += ["--model", case.model, "--padding", case.padding, "--size", *map(str, case.size)]
    precision = case.precision if name == "ours" else case.peer_precision or case.precision
    command += ["--precision", precision, "--batch-size", str(case.batch_size)]
    command += ["--optimizer", case.optimizer]
    command += ["--outputs", str(outputs)] if outputs else []
    command += ["--checkpointing"] if case.checkpointing and name == "ours" else []
    return start_process(command, case.backend)


def start_process(command, backend):
    """Starts a module with arguments, `command`, as a process that `run` and `answer` talk to."""
    environment = {**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
    if devices.gpu() is not None:
        # The sides share the GPU's memory.
        environment |= {"XLA_PYTHON_CLIENT_PREALLOCATE": "false", "TF_FORCE_GPU_ALLOW_GROWTH": "1"}
        environment |= {"JAX_COMPILATION_CACHE_DIR": _jax_cache()}
    return subprocess.Popen(
        [sys.executable, "-m", *command],
        env=environment,
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )


def resident(process):
    """Returns the resident memory of a process in bytes."""
    with open(f"/proc/{process.pid}/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@functools.cache
def _jax_cache():
    folder = tempfile.mkdtemp(prefix="jax-cache-")
    atexit.register(shutil.rmtree, folder)
    return folder


def alternate(processes: dict, runs: int) -> tuple[dict, dict]:
    """Lets the processes run in turn, after one warm-up run each.

    Returns:
        Seconds of every run, and peak memory in bytes, by the names of the processes.
    """
    seconds: dict = {name: [] for name in processes}
    peak = {}
    for turn in range(runs + 1):
        for name, process in processes.items():
            measured = run(process)
            peak[name] = measured["peak"]
            if turn:
                seconds[name].append(measured["seconds"])
    return seconds, peak


def run(process):
    """Runs the task once; returns its seconds and the peak memory in bytes."""
    process.stdin.write("run\n")
    process.stdin.flush()
    return answer(process)


def answer(process):
    """Returns the next answer of the process.

    Raises:
        RuntimeError: If the process has ended.
    """
    line = process.stdout.readline()
    if not line:
        raise RuntimeError(f"{' '.join(process.args)} ended with status {process.wait()}.")
    return json.loads(line)


def ratio(result: dict, peer: str = "peer") -> tuple[float, float, float]:
    """Returns the speed-up over a baseline: of the medians, then the smallest and largest run."""
    turns = [
        theirs / ours
        for ours, theirs in zip(result["seconds"]["ours"], result["seconds"][peer], strict=True)
    ]
    median = statistics.median(result["seconds"][peer]) / statistics.median(
        result["seconds"]["ours"]
    )
    return median, min(turns), max(turns)


def table(results: list[dict]) -> str:
    """Returns the results as a Markdown table, one row per baseline."""
    lines = [
        "| task | backend | precision | padding | model | size | keras_fcn s | baseline s "
        "| speed-up | % of peak matmul throughput | matmul GFLOP/s, keras_fcn and baseline "
        "| peak GB, keras_fcn and baseline |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for result in results:
        lines += [_row(result, name) for name in result["seconds"] if name != "ours"]
    return "\n".join(lines)


def _row(result, name):
    ours, peer = (statistics.median(result["seconds"][side]) for side in ("ours", name))
    median, least, most = ratio(result, name)
    task = result["task"] + (", checkpointing" if result["checkpointing"] else "")
    optimizer = result.get("optimizer", OPTIMIZERS[0])  # Older files do not name it.
    task += f", {optimizer}" if optimizer != OPTIMIZERS[0] else ""
    precision, peer_precision = result["precision"], result["peer_precision"]
    precision += f", baseline {peer_precision}" if peer_precision else ""
    precision += ", compiled baseline" if name == "compiled peer" else ""
    size = "×".join(map(str, result["size"]))
    size += f", batch {result['batch_size']}" if result["batch_size"] > 1 else ""
    product, peak = (
        [result[key][side] / 1e9 for side in ("ours", name)] for key in ("product", "peak")
    )
    best_product = max(result["product"].values()) / 1e9
    fraction = f"{result['flop'] / 1e9 / ours / best_product:.0%}" if result["flop"] else ""
    return (
        f"| {task} | {result['backend']} | {precision} | {result['padding']} "
        f"| {result['model']} | {size} | {ours:.3g} | {peer:.3g} "
        f"| **{median:.2f}** ({least:.2f} to {most:.2f}) "
        f"| {fraction} | {product[0]:.0f}, {product[1]:.0f} | {peak[0]:.2f}, {peak[1]:.2f} |"
    )


def main() -> None:
    """Measures one case and prints its row."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--task", choices=["forward", "step", "metrics"], default="forward")
    parser.add_argument("--backend", choices=["tensorflow", "jax", "torch"], default="tensorflow")
    parser.add_argument("--precision", choices=list(TOLERANCE), default="float32")
    parser.add_argument(
        "--peer-precision", choices=list(TOLERANCE), help="of the baseline, if it differs"
    )
    parser.add_argument("--padding", choices=["paper", "same"], default="paper")
    parser.add_argument("--model", choices=list(SKIPS), default="FCN8s")
    parser.add_argument("--size", type=int, nargs=2, default=(500, 500), metavar=("H", "W"))
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument("--checkpointing", action="store_true")
    parser.add_argument("--optimizer", choices=OPTIMIZERS, default=OPTIMIZERS[0])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--avx2", action="store_true", help="use no instructions beyond AVX2")
    options = vars(parser.parse_args())
    if options.pop("avx2"):
        avx2.set_variables()
    if "tensorfloat32" in (options["precision"], options["peer_precision"]) and not devices.gpu():
        parser.error("`--precision` must not be tensorfloat32 without a GPU.")
    runs = options.pop("runs")
    print(table([measure(Case(**options | {"size": tuple(options["size"])}), runs)]))


if __name__ == "__main__":
    main()
