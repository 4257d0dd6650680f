"""Time and memory of FCN-8s by image size and by batch size; the largest image that fits.

    python -m benchmarks.growth --backend torch --task forward --json FILE.json
    python -m benchmarks.growth --picture FILE.png FILE.json...
    python -m benchmarks.growth --backend torch --task step --largest 8

Each size runs twice in a separate process and the second run counts; once for `--largest`. A size
is skipped if extrapolation from the previous one exceeds `--limit` GiB. Results already in
FILE.json are not measured again.
"""

import argparse
import contextlib
import json
import math
from collections.abc import Iterator
from pathlib import Path

from benchmarks.speed import Case, answer, resident, run, start

SIDES = (128, 256, 512, 1024, 2048, 4096)
BATCHES = (1, 2, 4, 8, 16)
BATCH_SIDE = 224
GIB = 2**30
# Used as a backend's name: the baseline, the same network in plain PyTorch.
PEER = "peer"
# The search for the largest image tries sides that are multiples of the output stride.
STRIDE = 32


def measure(case: Case, runs: int = 2) -> dict:
    """Returns pixels, seconds, and memory in bytes: the peak and that before the first run.

    Of several runs, the last one counts.

    Raises:
        RuntimeError: If the process ends early, for example when memory runs out.
    """
    process = start(case, "peer" if case.backend == PEER else "ours")
    try:
        answer(process)
        before = resident(process)
        for _ in range(runs):
            measured = run(process)
    finally:
        process.kill()
        process.wait()
    pixels = math.prod(case.size) * case.batch_size
    return {
        "side": case.size[0],
        "batch_size": case.batch_size,
        "pixels": pixels,
        "before": before,
        **measured,
    }


def growth(make_case, limit: float, known: list[dict]) -> Iterator[dict]:
    """Yields the measurement of each side and batch up to `limit` bytes; skips those in `known`."""
    known = {(result["side"], result["batch_size"]): result for result in known}
    series = [
        [(side, 1) for side in SIDES],
        [(BATCH_SIDE, batch_size) for batch_size in BATCHES],
    ]
    for sizes in series:
        last = None
        for side, batch_size in sizes:
            pixels = side * side * batch_size
            if (
                last
                and last["before"] + (last["peak"] - last["before"]) * pixels / last["pixels"]
                > limit
            ):
                print(f"{side}x{side}, batch {batch_size}: skipped, beyond the limit")
                break
            last = known.get((side, batch_size)) or measure(make_case(side, batch_size))
            print(row(last), flush=True)
            yield last


def largest(make_case, limit: float) -> dict:
    """Returns the measurement of the largest square image whose peak memory fits `limit` bytes.

    The next larger side, 32 pixels more, was measured to exceed the limit.
    """
    fits, fails = None, math.inf
    side = 512
    while fits is None or fails - fits["side"] > STRIDE:
        measured = None
        with contextlib.suppress(RuntimeError):
            measured = measure(make_case(side, 1), runs=1)
        if measured and measured["peak"] <= limit:
            fits = measured
        else:
            fails = side
        print(row(measured) if measured else f"{side}: ended early", flush=True)
        if fits is None:
            side = side // 2 // STRIDE * STRIDE
            continue
        side = _next_side(fits, fails, limit)
    return fits


def _next_side(fits, fails, limit):
    """Returns the next side to try, between one that fits and one that does not."""
    # Memory is proportional to pixels, but a small image may add almost nothing.
    factor = (limit - fits["before"]) / max(1, fits["peak"] - fits["before"])
    side = min(int(fits["side"] * math.sqrt(factor)), 2 * fits["side"])
    if side >= fails:
        side = (fits["side"] + fails) // 2
    return max(side // STRIDE * STRIDE, fits["side"] + STRIDE)


def row(result: dict) -> str:
    """Returns one line of the table."""
    return (
        f"{result['side']:>5} px, batch {result['batch_size']:>2}: {result['seconds']:8.3f} s, "
        f"{result['seconds'] / result['pixels'] * 1e6:7.3f} s per megapixel, "
        f"{result['peak'] / GIB:6.2f} GiB, {result['before'] / GIB:.2f} before"
    )


def draw(files: list[str], picture: str) -> None:
    """Plots time and memory against image and batch size, one line per file."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, all_axes = pyplot.subplots(2, 2, figsize=(10, 7.5), layout="constrained")
    colors = dict(zip(("tensorflow", "jax", "torch", PEER), ("C0", "C1", "C2", "0.5"), strict=True))
    for file in files:
        measured = json.loads(Path(file).read_text())
        backend, task = (measured["case"][key] for key in ("backend", "task"))
        label = f"{'plain PyTorch' if backend == PEER else backend}, {task}"
        line_style = "-" if task == "forward" else "--"
        style = {"color": colors[backend], "ls": line_style, "marker": "o", "ms": 4, "label": label}
        over_side = [result for result in measured["results"] if result["side"] != BATCH_SIDE]
        over_batch = [result for result in measured["results"] if result["side"] == BATCH_SIDE]
        for column, (key, scale) in enumerate((("seconds", 1), ("peak", GIB))):
            for line, (results, x) in enumerate(((over_side, "side"), (over_batch, "batch_size"))):
                axes = all_axes[line, column]
                values = [result[key] / scale for result in results]
                axes.plot([result[x] for result in results], values, **style)
    names = ("image side, pixels", f"batch size, images of {BATCH_SIDE}×{BATCH_SIDE}")
    for line, name in enumerate(names):
        for column, quantity in enumerate(("seconds", "peak memory, GiB")):
            axes = all_axes[line, column]
            axes.set(xscale="log", xlabel=name, ylabel=quantity)
            if quantity == "seconds":
                axes.set_yscale("log")
            else:
                axes.set_ylim(bottom=0)
            axes.set_xticks((SIDES, BATCHES)[line], labels=(SIDES, BATCHES)[line])
            axes.minorticks_off()
            axes.yaxis.set_major_formatter("{x:g}")
            axes.grid(alpha=0.3)
    all_axes[0, 0].legend(fontsize=8)
    figure.savefig(picture, dpi=110)


def main() -> None:
    """Measures, or plots measurements."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="*", help="measurements to plot")
    parser.add_argument("--picture", help="plot FILES into this file and measure nothing")
    parser.add_argument("--task", choices=["forward", "step"], default="forward")
    parser.add_argument("--backend", choices=["tensorflow", "jax", "torch", PEER], default="torch")
    parser.add_argument("--padding", choices=["paper", "same"], default="paper")
    parser.add_argument("--checkpointing", action="store_true")
    parser.add_argument("--limit", type=float, default=16, help="GiB; default: %(default)s")
    parser.add_argument(
        "--largest", type=float, metavar="GIB", help="search the largest image that fits"
    )
    parser.add_argument("--json", help="file for the measurements")
    options = parser.parse_args()
    if options.picture:
        draw(options.files, options.picture)
        return

    def make_case(side, batch_size):
        return Case(
            options.task,
            options.backend,
            "float32",
            options.padding,
            "FCN8s",
            (side, side),
            batch_size=batch_size,
            checkpointing=options.checkpointing,
        )

    if options.largest:
        print("largest:", row(largest(make_case, options.largest * GIB)))
        return
    case = {"backend": options.backend, "task": options.task, "padding": options.padding}
    case["checkpointing"] = options.checkpointing
    file = Path(options.json) if options.json else None
    kept = {"case": case, "results": []}
    if file and file.exists():
        try:
            kept = json.loads(file.read_text())
            there = ", ".join(map(str, kept["case"].values()))
        except (ValueError, KeyError, TypeError, AttributeError):
            parser.error(
                f"`--json` must be a new file or one written by this command. Received: {file}"
            )
    if kept["case"] != case:
        parser.error(f"`--json` must contain the same case. Received: {file}, with {there}")
    for result in growth(make_case, options.limit * GIB, kept["results"]):
        if result not in kept["results"]:
            kept["results"].append(result)
            if file:
                file.write_text(json.dumps(kept, indent=1))


if __name__ == "__main__":
    main()
