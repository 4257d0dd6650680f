"""All benchmarks against a plain PyTorch baseline; an interrupted run can be resumed.

    python -m benchmarks --quick --out quick.json   # FCN-8s at 500x500, minutes
    python -m benchmarks --out speed.json           # the full grid, many hours
    python -m benchmarks --out speed.json --table   # the results in FILE, as Markdown

Each result is written as soon as it is measured. A second call measures only the missing results.
"""

import argparse
import datetime
import importlib.util
import itertools
import json
import os
import platform
import statistics
import sys
import tempfile
from importlib import metadata
from pathlib import Path

import numpy as np

from benchmarks import devices, pipeline, speed, startup

BACKENDS = ("tensorflow", "jax", "torch")
MODELS = ("FCN8s", "FCN16s", "FCN32s")
SIZES = ((500, 500), (224, 224), (1000, 1000))
PADDINGS = ("paper", "same")
STARTUP, PIPELINE = "start-up", "pipeline"
PACKAGES = ("keras", "tensorflow", "jax", "torch", "numpy")


def installed() -> list[str]:
    """Returns the Keras backends that are installed."""
    return [name for name in BACKENDS if importlib.util.find_spec(name)]


def grid(quick: bool) -> list[speed.Case]:
    """Returns the cases of all installed backends, those of `quick` first."""
    backends = installed()
    if devices.gpu() is not None:
        return _grid_on_gpu(backends, quick)
    first = [
        speed.Case(task, backend, "float32", "paper", "FCN8s", SIZES[0])
        for task in ("forward", "step", "metrics")
        for backend in backends
    ]
    if quick:
        return first
    # Each precision against the baseline in the same precision, bfloat16 also against float32.
    precisions = (("float32", None), ("bfloat16", None), ("bfloat16", "float32"))
    rest = [
        speed.Case(task, backend, precision, padding, model, size, peer_precision)
        for (precision, peer_precision), size, padding, model, task, backend in itertools.product(
            precisions, SIZES, PADDINGS, MODELS, ("forward", "step"), backends
        )
    ]
    checkpointed = [
        speed.Case("step", backend, "float32", padding, "FCN8s", size, checkpointing=True)
        for size in SIZES
        for padding in PADDINGS
        for backend in backends
    ]
    return list(dict.fromkeys([*first, *checkpointed, *rest]))


def _grid_on_gpu(backends, quick):
    """On GPUs, the grid varies precision and batch size; `quick` has only FCN-8s at 500x500."""
    sizes, paddings, models = (
        (SIZES, PADDINGS, MODELS) if not quick else (SIZES[:1], PADDINGS[:1], MODELS[:1])
    )
    return [
        speed.Case(task, backend, precision, padding, model, size, batch_size=batch_size)
        for size, padding, model, batch_size, precision, backend, task in itertools.product(
            sizes, paddings, models, (8, 1), devices.PRECISIONS, backends, ("forward", "step")
        )
    ]


def read_photos() -> dict:
    """Returns images per second of the training pipeline, from 64 JPEG files of 480x360 pixels."""
    from PIL import Image

    random = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        folders = [Path(folder) / name for name in ("images", "labels")]
        for path in folders:
            path.mkdir()
        for number in range(64):
            coarse = Image.fromarray(random.integers(0, 256, (12, 16, 3), "uint8"))
            photo = np.asarray(coarse.resize((480, 360), Image.Resampling.BICUBIC), "float32")
            photo = np.clip(photo + random.normal(0, 8, photo.shape), 0, 255).astype("uint8")
            Image.fromarray(photo).save(folders[0] / f"{number}.jpg", quality=90)
            label_map = Image.fromarray(random.integers(0, 11, (12, 16), "uint8"))
            label_map.resize((480, 360), Image.Resampling.NEAREST).save(
                folders[1] / f"{number}.png"
            )
        options = argparse.Namespace(
            images=folders[0], labels=folders[1], num_classes=11, ignore_class=11
        )
        return pipeline.in_own_process(pipeline.pipeline, options)


def machine() -> dict:
    """Returns the hardware and the package versions that the results are valid for."""
    processor = platform.processor()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            processor = line.split(":", 1)[1].strip()
            break
    return {
        "processor": processor,
        **({} if devices.gpu() is None else {"gpu": devices.gpu()}),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in PACKAGES if importlib.util.find_spec(name)},
    }


def load(file: Path) -> dict:
    """Returns the content of `file`.

    Raises:
        SystemExit: If it does not exist or was not written by this command.
    """
    try:
        kept = json.loads(file.read_text())
        kept["machine"], kept["results"]
    except OSError as error:
        sys.exit(
            f"`--out` must be a file written by this command. Received: {file}, {error.strerror}"
        )
    except (ValueError, KeyError, TypeError):
        sys.exit(f"`--out` must be a new file or one written by this command. Received: {file}")
    return kept


def read(file: Path) -> dict:
    """Returns the content of `file`, or an empty result if it does not exist.

    Raises:
        SystemExit: As in `load`, or if it was measured on another machine or with other versions.
    """
    here = machine()
    if not file.exists():
        return {"machine": here, "results": {}}
    kept = load(file)
    there = kept["machine"]
    differences = [
        f"{name} {there.get(name)} there, {value} here"
        for name, value in here.items()
        if there.get(name) != value
    ]
    if differences:
        sys.exit(
            f"`--out` must contain results of this machine and these versions. Received: {file}, "
            f"with {'; '.join(differences)}. Choose another file."
        )
    return kept


def write(file: Path, kept: dict) -> None:
    """Replaces the results atomically: temporary file, then rename."""
    unfinished = file.with_name(f".{file.name}.unfinished")
    unfinished.write_text(json.dumps(kept, indent=1))
    unfinished.replace(file)


def tables(kept: dict) -> str:
    """Returns machine and results as Markdown."""
    lines = [", ".join(f"{name} {value}" for name, value in kept["machine"].items())]
    results = kept["results"]
    pairs = [result for name, result in results.items() if name not in (STARTUP, PIPELINE)]
    if pairs:
        lines += ["", speed.table(pairs)]
    if PIPELINE in results:
        rates = results[PIPELINE]["images_per_second"]
        median = statistics.median(rates)
        lines += ["", f"pipeline: {median:.1f} images/s ({min(rates):.1f} to {max(rates):.1f})"]
    if STARTUP in results:
        lines += ["", startup.table(results[STARTUP]["seconds"])]
    return "\n".join(lines)


def measure_missing(tasks: dict, kept: dict, file: Path, only: str = "") -> list[str]:
    """Runs the tasks that have no result yet, writes each result, and returns the failures.

    Args:
        tasks: Functions without arguments that return a result, by name.
        kept: Content of the file, extended in place.
        file: File of the results.
        only: Text that the name of a task must contain.
    """
    missing = [name for name in tasks if only in name and name not in kept["results"]]
    failed = []
    for number, name in enumerate(missing, start=1):
        print(f"{number} of {len(missing)}: {name}", file=sys.stderr, flush=True)
        try:
            result = tasks[name]()
        except RuntimeError as error:  # Continue with the others; the next call retries this one.
            failed.append(f"{name}: {error}")
            print(failed[-1], file=sys.stderr, flush=True)
            continue
        date = datetime.datetime.now().isoformat(timespec="seconds")
        kept["results"][name] = result | {"date": date, "load": os.getloadavg()[0]}
        write(file, kept)
    return failed


def main() -> None:
    """Measures the missing results and prints the tables."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="only FCN-8s at 500x500 in float32")
    parser.add_argument("--out", type=Path, required=True, help="JSON file of the results")
    parser.add_argument("--runs", type=int, default=5, help="per case; default: %(default)s")
    parser.add_argument("--only", default="", help="only cases whose name contains this text")
    parser.add_argument("--table", action="store_true", help="only print the results in the file")
    options = parser.parse_args()
    if options.table:
        print(tables(load(options.out)))
        return
    kept = read(options.out)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    tasks = {
        case.name: lambda case=case: speed.measure(case, options.runs)
        for case in grid(options.quick)
    }
    if "tensorflow" in installed():  # The pipeline reads images with TensorFlow.
        tasks = {PIPELINE: read_photos, **tasks}
    startups = {STARTUP: lambda: {"seconds": startup.measure(options.runs, installed())}}
    tasks = {**startups, **tasks}
    failed = measure_missing(tasks, kept, options.out, options.only)
    print(tables(kept))
    if failed:
        sys.exit("\n".join(["", "Failed:", *failed]))


if __name__ == "__main__":
    main()
