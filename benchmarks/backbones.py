"""FCN-8s on several backbones, and two PyTorch networks: parameters, FLOP, time and memory.

    python -m benchmarks.backbones --out backbones.json
    python -m benchmarks.backbones --out backbones.json --table   # the results in FILE, as Markdown

Predicts one image of 512x512 in float32 with random weights, from NumPy to NumPy, each case in a
separate process. On PyTorch, a backbone is also measured in channels first. Each result is written
as soon as it is measured. A second call measures only the missing results. torchvision and
segmentation_models_pytorch are needed for their own networks only.
"""

import argparse
import dataclasses
import functools
import importlib.util
import statistics
import sys
from importlib import metadata
from pathlib import Path

from benchmarks import __main__ as command
from benchmarks import devices
from benchmarks.speed import answer, resident, run, start_process

SIZE = (512, 512)
WARM_UP = 2
CHANNELS_FIRST = "torch, channels first"
BACKENDS = {
    "tensorflow": "TensorFlow",
    "jax": "JAX",
    "torch": "PyTorch",
    CHANNELS_FIRST: "PyTorch, channels first",
}


@dataclasses.dataclass(frozen=True)
class Network:
    """One row of the tables.

    Args:
        label: Name in the tables.
        name: Network of `keras.applications`, or the package of a peer.
        backends: Those that it is measured on.
        fc_units: Units of the head; the default if `None`.
    """

    label: str
    name: str
    backends: tuple[str, ...] = tuple(BACKENDS)
    fc_units: int | None = None

    @property
    def is_peer(self) -> bool:
        """Whether it is a network of another package."""
        return self.name.islower()


NETWORKS = (
    # VGG-16 is the package's own, which computes in channels first on PyTorch.
    Network("VGG16", "VGG16", ("tensorflow", "jax", "torch")),
    Network("ResNet50", "ResNet50"),
    Network("ResNet50, `fc_units=512`", "ResNet50", fc_units=512),
    Network("MobileNetV2", "MobileNetV2"),
    Network("MobileNetV2, `fc_units=512`", "MobileNetV2", fc_units=512),
    Network("MobileNetV3Large", "MobileNetV3Large"),
    Network("EfficientNetV2B0", "EfficientNetV2B0"),
    # Keras's ConvNeXt does not support channels first.
    Network("ConvNeXtTiny", "ConvNeXtTiny", ("tensorflow", "jax", "torch")),
    Network("torchvision `fcn_resnet50`", "torchvision", ("torch",)),
    Network("segmentation_models_pytorch `FPN`", "segmentation_models_pytorch", ("torch",)),
)


def grid() -> dict:
    """Returns the function that measures each case, by name."""
    tasks = {}
    for network in NETWORKS:
        tasks[f"count {network.label}"] = functools.partial(count, network)
        for backend in network.backends:
            if backend.split(",")[0] in command.installed():
                tasks[_name(network, backend)] = functools.partial(measure, network, backend)
    return tasks


def _name(network, backend):
    return f"{network.label} on {backend}"


def count(network: Network, size: tuple[int, int] = SIZE) -> dict:
    """Returns parameters and FLOP, counted on PyTorch for every network.

    Raises:
        RuntimeError: If the process fails, or the package of a peer is missing.
    """
    process = _start(network, "torch", size, "--count")
    try:
        return {**_version(network), **answer(process)}
    finally:
        process.kill()
        process.wait()


def measure(network: Network, backend: str, size: tuple[int, int] = SIZE, runs: int = 11) -> dict:
    """Returns seconds of every run, and memory in bytes: before the first prediction, and the peak.

    Raises:
        RuntimeError: If the process fails, or the package of a peer is missing.
    """
    process = _start(network, backend, size)
    try:
        answer(process)
        before = resident(process)
        measured = [run(process) for _ in range(WARM_UP + runs)]
    finally:
        process.kill()
        process.wait()
    seconds = [each["seconds"] for each in measured[WARM_UP:]]
    peak = measured[-1]["peak"]
    return {**_version(network), "seconds": seconds, "before": before, "peak": peak}


def _version(network):
    return {"version": metadata.version(network.name)} if network.is_peer else {}


def _start(network, backend, size, *arguments):
    if network.is_peer and importlib.util.find_spec(network.name) is None:
        raise RuntimeError(
            f"{network.label} needs {network.name}: install it with `pip install {network.name}`, "
            "in the release for the installed PyTorch."
        )
    line = ["benchmarks.backbones_worker", network.name, "--size", *map(str, size), *arguments]
    line += [] if network.fc_units is None else ["--fc-units", str(network.fc_units)]
    line += ["--channels-first"] if backend == CHANNELS_FIRST else []
    return start_process(line, backend.split(",")[0])


def tables(kept: dict) -> str:
    """Returns the results as two Markdown tables: arithmetic with time, and memory."""
    results, names = kept["results"], BACKENDS.values()
    time = [
        f"| network | parameters, million | GFLOP | {', ms | '.join(names)}, ms |",
        "|---|---|---|---|---|---|---|",
    ]
    memory = [f"| network | {', GB | '.join(names)}, GB |", "|---|---|---|---|---|"]
    for network in NETWORKS:
        counted = results.get(f"count {network.label}")
        if counted:
            cells = f"{counted['parameters'] / 1e6:.1f} | {counted['flop'] / 1e9:.1f}"
        else:
            cells = " | "
        cases = [results.get(_name(network, backend)) for backend in BACKENDS]
        time.append(f"| {network.label} | {cells} | {' | '.join(map(_milliseconds, cases))} |")
        memory.append(f"| {network.label} | {' | '.join(map(_gigabytes, cases))} |")
    return "\n".join([*time, "", *memory])


def _milliseconds(result):
    if result is None:
        return ""
    median, least, most = (
        1000 * function(result["seconds"]) for function in (statistics.median, min, max)
    )
    return f"{median:.0f} ({least:.0f} to {most:.0f})"


def _gigabytes(result):
    return "" if result is None else f"{result['peak'] / 1e9:.2f} ({result['before'] / 1e9:.2f})"


def main() -> None:
    """Measures the missing results and prints the tables."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.backbones",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--out", type=Path, required=True, help="JSON file of the results")
    parser.add_argument("--only", default="", help="only cases whose name contains this text")
    parser.add_argument("--table", action="store_true", help="only print the results in the file")
    options = parser.parse_args()
    if options.table:
        print(tables(command.load(options.out)))
        return
    if devices.gpu() is not None:
        sys.exit(f"This benchmark must run on a machine without a GPU. Received: {devices.gpu()}")
    kept = command.read(options.out)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    failed = command.measure_missing(grid(), kept, options.out, options.only)
    print(tables(kept))
    if failed:
        sys.exit("\n".join(["", "Failed:", *failed]))


if __name__ == "__main__":
    main()
