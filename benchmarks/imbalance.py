"""What helps rare classes: FCN-8s on CamVid for a fixed time, with one change per variant.

    python -m benchmarks.imbalance --data CAMVID --seconds 1200 --out imbalance.json
    python -m benchmarks.imbalance --data CAMVID --steps 865 --seed 1 --out seed-1.json
    python -m benchmarks.imbalance --table seed-0.json seed-1.json seed-2.json

Every variant starts from the same weights and trains for the same seconds: a few steps of all
variants are timed first, on an otherwise idle machine, and the numbers of steps follow. Whatever
runs on the machine afterwards changes no score. --steps sets the number of steps itself, for
further seeds. The learning rate falls to 0 at the end. Results are written as soon as a variant is
validated: a second call measures only the missing ones.
FILE.md, beside FILE.json, holds the table.

CAMVID holds train/, trainannot/, val/ and valannot/, as SegNet prepared them: images of 480x360
and label maps of the same names, class ids 0 to 10 and 11 for ignored pixels.
"""

import argparse
import dataclasses
import json
import statistics
import time
from pathlib import Path

SHOWN = ("pole", "sign symbol", "pedestrian", "bicyclist")
VARIANTS = {
    "plain": {},
    "class weights": {"class_weights": "median_frequency"},
    "focal loss": {"loss": "focal"},
    "rare-class windows": {"crop_classes": SHOWN},
    "OHEM": {"loss": "ohem"},
}
# Steps before the clock starts, which compile, and steps that are timed.
_FIRST, _TIMED = 2, 12


def recipe_of(variant: str, options: argparse.Namespace, **changes):
    """Returns the recipe of a variant."""
    from keras_fcn.training import Recipe

    folders = {
        name: str(options.data / folder)
        for name, folder in (
            ("images", "train"),
            ("labels", "trainannot"),
            ("val_images", "val"),
            ("val_labels", "valannot"),
        )
    }
    return Recipe(
        **folders,
        label_space="camvid",
        weights=options.weights,
        padding="same",
        fc_units=options.fc_units,
        freeze="block2",
        precision=options.precision,
        batch_size=options.batch_size,
        random_scale=(0.75, 2.0),
        crop=tuple(options.crop),
        jitter=True,
        seed=options.seed,
        **{**VARIANTS[variant], **changes},
    )


def seconds_per_step(variant: str, options: argparse.Namespace) -> float:
    """Returns the mean seconds of a few training steps of one variant."""
    recipe, train, _ = _data(variant, options)
    return _train(recipe, train, _FIRST + _TIMED)[1]


def measure(variant: str, steps: int, options: argparse.Namespace) -> dict:
    """Trains and validates one variant; returns its scores."""
    from keras_fcn.training.evaluate import evaluate

    recipe, train, validation = _data(variant, options)
    model, _ = _train(recipe, train, steps)
    scores = evaluate(model, validation.batches(), **validation.classes)
    names = validation.label_space.class_names
    return {
        "steps": steps,
        "mean_iou": scores.as_dict()["mean_iou"],
        "iou": dict(zip(names, scores.class_iou.tolist(), strict=True)),
    }


def _data(variant, options):
    """Returns the recipe, the training and the validation split."""
    from keras_fcn.training.splits import open_splits

    recipe = recipe_of(variant, options)
    splits = (
        dataclasses.replace(split, examples=split.examples[: options.images])
        for split in open_splits(recipe)
    )
    return recipe, *splits


def _train(recipe, split, steps):
    """Returns the model after some steps, and the mean of their seconds but for the first."""
    import keras

    from keras_fcn.training.objective import build_model, compiled

    keras.utils.set_random_seed(recipe.seed)
    weighted = recipe.class_weights is not None
    recipe = dataclasses.replace(recipe, epochs=None, steps=steps)
    model = build_model(recipe, split.label_spaces)
    trained = compiled(
        model,
        recipe,
        label_spaces=split.label_spaces,
        class_weights=split.class_weights().tolist() if weighted else None,
        num_steps=steps,
    )
    done, began = 0, time.perf_counter()
    for epoch in range(steps):  # More than there are.
        for images, label_maps in split.training_batches(recipe, epoch, 0):
            loss = float(trained.train_on_batch(images.numpy(), label_maps.numpy()))
            done += 1
            if done == min(_FIRST, steps):
                began = time.perf_counter()
            if done == steps:
                timed = max(1, steps - _FIRST)
                print(f"  step {done}: loss {loss:.3f}", flush=True)
                return model, (time.perf_counter() - began) / timed
    raise ValueError("`--data` must hold training images.")


def table(*measured: tuple[dict, dict]) -> str:
    """Returns the IoU of the rare classes and the mean IoU of each variant, in Markdown.

    Args:
        measured: The results and the timings of each seed. Of several seeds, the mean and, in
            brackets, the smallest and the largest value.
    """
    head = ["variant", *SHOWN, "mean IoU", "seeds", "steps", "seconds per step"]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for variant in VARIANTS:
        each = [results[variant] for results, _ in measured if variant in results]
        if not each:
            continue
        scores = [[result["iou"][name] for result in each] for name in SHOWN]
        scores.append([result["mean_iou"] for result in each])
        steps = sorted({result["steps"] for result in each})
        seconds = [f"{timings[variant]:.2f}" for _, timings in measured if variant in timings]
        values = [*map(_spread, scores), len(each), *map(_joined, (steps, seconds))]
        lines.append(f"| {variant} | {' | '.join(map(str, values))} |")
    return "\n".join(lines)


def _spread(values):
    mean = f"{statistics.mean(values):.3f}"
    return mean if len(values) == 1 else f"{mean} ({min(values):.3f} to {max(values):.3f})"


def _joined(values):
    return ", ".join(map(str, values))


def _read(path, settings):
    """Returns the results and the timings of a file, none if it is new."""
    if not path.exists():
        return {}, {}
    try:
        kept = json.loads(path.read_text())
        there, results, timings = (kept[key] for key in ("settings", "results", "timings"))
    except (ValueError, TypeError, KeyError):
        raise SystemExit(
            f"FILE.json must be a new file or one written by this command. Received: {path}"
        ) from None
    # Files of before `--steps` do not hold it.
    if different := [name for name in settings or () if there.get(name) != settings[name]]:
        raise SystemExit(
            f"{path} holds results of another {', '.join(different)}. Pass another --out."
        )
    return results, timings


def _write(path, text):
    from keras_fcn.io.atomic import atomic_write

    with atomic_write(path) as temporary:
        temporary.write_text(text)


def main():
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder of CamVid")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--seconds", type=float, default=1800, help="of training, per variant")
    length.add_argument("--steps", type=int, help="the same for each variant, in place of seconds")
    parser.add_argument("--out", type=Path, metavar="FILE.json")
    parser.add_argument(
        "--table",
        type=Path,
        nargs="+",
        metavar="FILE.json",
        help="print results, of one seed per file",
    )
    parser.add_argument("--only", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--weights", default="imagenet", help="a name or a file")
    parser.add_argument("--fc-units", type=int, default=1024)
    parser.add_argument("--crop", type=int, nargs=2, default=(352, 480))
    parser.add_argument("--batch-size", type=int, default=2)
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--images", type=int, help="the first of each split alone, for a trial")
    options = parser.parse_args()
    if options.table:
        if missing := [str(path) for path in options.table if not path.is_file()]:
            parser.error(f"--table must name files of results. Received: {', '.join(missing)}")
        print(table(*(_read(path, None) for path in options.table)))
        return
    if options.data is None or options.out is None:
        parser.error("--data and --out must be given, but for --table")
    if options.steps is not None and options.steps < 1:
        parser.error(f"--steps must be at least 1. Received: {options.steps}")
    names = ("seconds", "steps", "weights", "fc_units", "batch_size", "precision", "seed", "images")
    settings = {name: getattr(options, name) for name in names} | {"crop": list(options.crop)}
    results, timings = _read(options.out, settings)

    def write():
        kept = {"settings": settings, "timings": timings, "results": results}
        _write(options.out, json.dumps(kept, indent=1))
        _write(options.out.with_suffix(".md"), table((results, timings)) + "\n")

    for variant in options.only:
        if options.steps is None and variant not in timings:
            timings[variant] = seconds_per_step(variant, options)
            print(f"{variant}: {timings[variant]:.3f} s per step", flush=True)
            write()
    for variant in options.only:
        if variant in results:
            continue
        print(f"{variant}:", flush=True)
        steps = options.steps or max(1, round(options.seconds / timings[variant]))
        results[variant] = measure(variant, steps, options)
        results = {name: results[name] for name in VARIANTS if name in results}
        write()
    print(table((results, timings)))


if __name__ == "__main__":
    main()
