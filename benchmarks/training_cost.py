"""What a training on CamVid costs, in seconds per image and epoch, by cause.

    python -m benchmarks.training_cost --data CAMVID --weights VGG16 --backend jax --json jax.json
    python -m benchmarks.training_cost --picture training_cost.png *.json

Trains the recipe `camvid_fcn8s` as `keras-fcn train` does, on the first images of each split and
for few epochs, and scales the durations to the images and epochs of the whole recipe. What the
first epoch takes in addition, mostly compilation, counts once.

After each epoch, in turn with the training, models of the same recipe run alone on one batch in
memory. *forward* is `test_on_batch`; *backward* is `train_on_batch` with an optimizer that only
stores the gradients, less forward; *update* is `train_on_batch` with the recipe's optimizer, less
both. A step of the training takes more: it is *waiting for input*, or it is *slower*, since threads
in the background read and transform the next images, and Keras's loop and callbacks run.

CAMVID holds train/, trainannot/, val/ and valannot/, as SegNet prepared them.
"""

import argparse
import json
import os
import time
from pathlib import Path
from statistics import fmean, median

NETWORK = ("forward", "backward", "update", "validation, forward")
OTHER = (
    "waiting for input",
    "slower steps",
    "epoch's start and end",
    "checkpoints",
    "validation, rest",
    "start, compilation, report",
)
LABELS = {"tensorflow": "TensorFlow", "jax": "JAX", "torch": "PyTorch"}


def cost(measured: dict) -> dict[str, float]:
    """Returns the seconds per image and epoch of a whole training, by cause.

    Args:
        measured: As from `benchmarks.training_cost_worker.measure`.
    """
    recipe = measured["recipe"]
    first, *epochs = measured["epochs"]
    images, report = measured["validation_images"], measured["report"]

    def in_epochs(name):
        return [seconds for epoch in epochs for seconds in epoch[name]]

    def per_epoch(name):
        return sum(in_epochs(name)) / len(epochs)

    forward, gradients, step = (median(seconds) for seconds in measured["alone"].values())
    cycle = median(in_epochs("cycles"))
    # The first batch of an epoch counts to the start of the epoch.
    waiting = fmean(wait for epoch in epochs for wait in epoch["waits"][-len(epoch["cycles"]) :])
    start_and_end = per_epoch("wall") - per_epoch("cycles") - cycle
    start_and_end -= sum(map(per_epoch, ("checkpoints", "models", "validations")))

    # Of one image; the report predicts it as the validation does, then with augmentation. The gap
    # before the first prediction does not count.
    in_validation, in_report = (
        median(in_epochs("predictions")),
        median(report["predictions"][:images]) + median(report["predictions"][images:]),
    )
    scores = median(gap for epoch in epochs for gap in epoch["gaps"][1:])
    report_scores = median(report["gaps"][1:images]) + median(report["gaps"][images + 1 :])
    around = per_epoch("validations") - per_epoch("predictions") - images * scores
    once = measured["start"] + sum(first["wall"]) - per_epoch("wall")
    once += sum(report["wall"]) - images * (in_report + report_scores)

    validated = recipe["validation_images"]
    validations = recipe["validations"] / recipe["epochs"]
    model = fmean(first["models"] + in_epochs("models"))
    of_epoch = {
        "forward": recipe["steps"] * forward,
        "backward": recipe["steps"] * (gradients - forward),
        "update": recipe["steps"] * (step - gradients),
        "validation, forward": validated
        * (validations * in_validation + in_report / recipe["epochs"]),
        "waiting for input": recipe["steps"] * waiting,
        "slower steps": recipe["steps"] * (cycle - waiting - step),
        "epoch's start and end": start_and_end,
        "checkpoints": per_epoch("checkpoints") + validations * model,
        "validation, rest": validations * (around + validated * scores)
        + validated * report_scores / recipe["epochs"],
        "start, compilation, report": once / recipe["epochs"],
    }
    return {cause: seconds / recipe["images"] for cause, seconds in of_epoch.items()}


def not_the_network(seconds: dict[str, float]) -> float:
    """Returns the fraction of a training that is not the network, of seconds by cause."""
    return sum(seconds[cause] for cause in OTHER) / sum(seconds.values())


def table(results: list[dict]) -> str:
    """Returns milliseconds per image and epoch by cause in Markdown, a column per backend."""
    costs = [cost(result) for result in results]
    rows = {cause: [seconds[cause] for seconds in costs] for cause in (*NETWORK, *OTHER)}
    rows["**whole training**"] = [sum(seconds.values()) for seconds in costs]
    cells = {name: [f"{1000 * value:.1f}" for value in row] for name, row in rows.items()}
    cells["**not the network**"] = [f"**{not_the_network(seconds):.1%}**" for seconds in costs]
    for name in ("reading", "transforms"):
        cells[f"{name}: processor time in the background"] = [
            f"{1000 * result['processor'][name]:.1f}" for result in results
        ]
    head = ["ms per image and epoch", *(LABELS[result["backend"]] for result in results)]
    lines = [head, ["---"] * len(head), *([name, *row] for name, row in cells.items())]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def draw(results: list[dict], picture: str) -> None:
    """Plots the whole training, what of it is not the network, and the work in the background."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    pyplot.rcParams["font.size"] = 13
    figure, panels = pyplot.subplots(3, 1, figsize=(6.4, 11), layout="constrained")
    bars: list[dict] = [{}, {}, {}]
    for result in reversed(results):
        backend, seconds = LABELS[result["backend"]], cost(result)
        share = 100 / sum(seconds.values())
        rest = {"not the network": not_the_network(seconds) / share * 100}
        bars[0][backend] = {cause: seconds[cause] for cause in NETWORK} | rest
        bars[1][backend] = {cause: share * seconds[cause] for cause in OTHER}
        bars[2][backend] = {name: share * value for name, value in result["processor"].items()}
    titles = (
        "seconds per image and epoch",
        "not the network, % of the training",
        "processor time in the background, % of the training",
    )
    palettes = ("tab20c", "Dark2", "Set2")
    for axes, bars_of, title, palette in zip(panels, bars, titles, palettes, strict=True):
        for backend, parts in bars_of.items():
            left = 0.0
            for number, (cause, value) in enumerate(parts.items()):
                color = pyplot.get_cmap(palette)(number)
                axes.barh(backend, max(0.0, value), left=left, color=color, label=cause)
                left += max(0.0, value)
        handles, labels = axes.get_legend_handles_labels()
        shown = slice(len(next(iter(bars_of.values()))))
        place = {"loc": "upper center", "bbox_to_anchor": (0.42, -0.12), "ncols": 2}
        axes.legend(handles[shown], labels[shown], frameon=False, fontsize=12, **place)
        axes.set_title(title, fontsize=14)
    panels[1].axvline(5, color="0.3", linestyle="--")
    figure.savefig(picture, dpi=110)


def main() -> None:
    """Measures one backend, or plots measurements."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="*", help="measurements to plot")
    parser.add_argument("--picture", help="plot FILES into this file and measure nothing")
    parser.add_argument("--data", help="folder of CamVid")
    parser.add_argument("--weights", default="imagenet", help="a name or a file")
    parser.add_argument("--backend", choices=list(LABELS), default="tensorflow")
    parser.add_argument("--images", type=int, default=16, help="an even number")
    parser.add_argument("--validation-images", type=int, default=6, help="at least 2")
    parser.add_argument("--epochs", type=int, default=3, help="at least 2; the first compiles")
    parser.add_argument("--rounds", type=int, default=3, help="of parts alone, after each epoch")
    parser.add_argument("--json", help="file for the measurements")
    options = parser.parse_args()
    if options.picture:
        results = [json.loads(Path(file).read_text()) for file in options.files]
        draw(results, options.picture)
        print(table(results))
        return
    if options.data is None:
        parser.error("--data must be given, but for --picture")
    os.environ["KERAS_BACKEND"] = options.backend
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    began = time.perf_counter()
    from benchmarks.training_cost_worker import measure

    measured = measure(options, imports=time.perf_counter() - began)
    if options.json:
        Path(options.json).write_text(json.dumps(measured, indent=1))
    print(table([measured]))


if __name__ == "__main__":
    main()
