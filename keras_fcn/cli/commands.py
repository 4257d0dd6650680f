"""What each command does with its options: calls the package and prints."""

import contextlib
import os
import sys

LABEL_SPACES = (
    *("ade20k", "camvid", "cityscapes", "nyudv2_40", "oxford_iiit_pet", "pascal_context"),
    *("pascal_voc", "sift_flow", "sift_flow_geometric"),
)

RECIPES = (
    *("camvid_fcn8s", "folder", "modern_voc_fcn8s", "paper_pascal_context", "paper_sift_flow"),
    *("paper_voc", "paper_voc_fcn16s", "paper_voc_fcn32s", "paper_voc_fcn8s"),
    *("paper_voc_fcn8s_atonce", "pets_fcn8s"),
)
# Settings of a recipe that have an option of their own; the others are set by --set.
SETTINGS = (
    *("data_dir", "manual_dir", "images", "labels", "val_images", "val_labels", "label_space"),
    *("palette", "num_classes", "ignore_class", "model", "weights", "padding", "fc_units"),
    *("precision", "epochs", "batch_size", "learning_rate", "weight_decay", "seed", "scale"),
    *("crop", "jitter"),
)


def _label_space(options):
    from keras_fcn import label_spaces

    return label_spaces.choose(options.label_space, options.num_classes, options.ignore_class)


def train(options):
    """Trains by a recipe, or goes on with a run."""
    from keras_fcn.distribution import processes
    from keras_fcn.training import trainer

    devices = options.devices
    if devices not in (None, "all"):
        devices = devices.split(",")
    every = {
        "checkpoint_every": options.checkpoint_every,
        "devices": devices,
        "gradients": options.gradients,
        "keep_state": options.keep_state,
    }
    changes = _settings(options)
    if options.resume is not None:
        if changes or options.recipe or options.out or options.start:
            raise ValueError(
                "--resume must stand alone, but for --checkpoint-every, --devices, --gradients and "
                "--keep-state: a run goes on with the settings that it began with."
            )
        run = trainer.resume(options.resume, **every)
    else:
        if options.out is None:
            raise ValueError("--out must be given: the folder that is made.")
        name, recipe = _recipe(options.recipe or "folder", changes)
        if options.or_resume and os.path.isdir(options.out):
            run = trainer.resume(options.out, **every)
        else:
            run = trainer.train(recipe, options.out, name=name, start=options.start, **every)
    if processes.index() > 0:
        return
    for stage in run.runs():
        _print_best_epoch(stage)
    print(f"Run: {run.path}")


def _settings(options):
    """The settings that the options change, by name."""
    import tomllib

    given = {name: value for name, value in vars(options).items() if name in SETTINGS}
    for change in options.set:
        name, equals, value = change.partition("=")
        if not equals:
            raise ValueError(f"--set must be KEY=VALUE. Received: {change}.")
        try:
            parsed = tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:
            # A text without quotation marks.
            parsed = None if value.lower() == "none" else value
        given[name.strip().replace("-", "_")] = parsed
    return given


def _recipe(name, changes):
    from keras_fcn.training.recipe import replace
    from keras_fcn.training.recipes import find_recipe
    from keras_fcn.training.run import read_config

    if name.endswith(".toml"):
        name, recipe = read_config(name)
    else:
        recipe = find_recipe(name)
    return name, replace(recipe, **changes)


def _print_best_epoch(run):
    history = [row for row in run.history() if row.get("val_mean_iou") is not None]
    if not history:
        return
    best = max(history, key=lambda row: row["val_mean_iou"])
    title = f"{run.path.name}: best epoch, {best['epoch']} of {history[-1]['epoch']}"
    scores = {
        name[4:]: value
        for name, value in best.items()
        if name.startswith("val_") and name != "val_loss"
    }
    names = [name for name in scores if name.startswith("iou/")]
    class_iou = {name[4:]: scores.pop(name) for name in names}
    _print_scores(title, scores, class_iou)


def evaluate(options):
    """Scores a trained model on a data set."""
    import json

    from keras_fcn.training.evaluate import evaluate
    from keras_fcn.training.progress import progress_bar
    from keras_fcn.training.trained import open_model
    from keras_fcn.visualization import plot_confusion_matrix

    model, space = open_model(options.model, at_once=options.at_once)
    # TFDS writes there what it builds.
    with contextlib.redirect_stdout(sys.stderr):
        batches, names, space = _evaluation_data(options, model, space)
    with progress_bar("evaluating", len(names)) as advance:
        scores = evaluate(
            model,
            batches,
            num_classes=space.num_classes,
            ignore_class=space.ignore_class,
            trimap=options.trimap,
            progress=advance,
            **_views(options),
            on_prediction=_prediction_writer(options.save_predictions, names, space),
        )
    if options.confusion:
        plot_confusion_matrix(scores.matrix, space, options.confusion)
    if options.json:
        print(json.dumps(_as_json(scores, space, len(names)), indent=2))
        return
    class_iou = dict(zip(space.class_names, scores.class_iou, strict=True))
    _print_scores(f"{len(names)} images", scores.as_dict(), class_iou)
    if scores.trimap is not None:
        title = f"Within {options.trimap} pixels of a boundary"
        _print_scores(title, scores.trimap.as_dict(), {})


def _views(options):
    """What predictions are averaged over: as the options say, or else the run's recipe."""
    from keras_fcn.training.trained import final_views

    scales, flip = final_views(options.model)
    return {
        "scales": scales if options.scales is None else tuple(options.scales),
        "flip": flip if options.flip is None else options.flip,
    }


def _evaluation_data(options, model, space):
    """Returns batches of one image, the names of the images, and the label space of the data."""
    from pathlib import Path

    from keras_fcn.data import check_pairs, evaluation_batches, find_pairs, label_space_of, load
    from keras_fcn.data.named import example_names
    from keras_fcn.training.progress import progress_bar

    if (options.images is None) != (options.labels is None):
        raise ValueError("--images and --labels must be given together.")
    if (options.data is None) == (options.images is None):
        raise ValueError("Either DATA or --images and --labels must be given.")
    layout = {"data_format": model.data_format, "channels": model.num_channels}
    if options.data is not None:
        if options.palette:
            raise ValueError(f"--palette must go with --labels. Received: {options.data}.")
        theirs = label_space_of(options.data)
        if theirs.num_classes != space.num_classes:
            raise ValueError(
                f"MODEL must have the {theirs.num_classes} classes of {options.data}. "
                f"Received: {space.num_classes} classes."
            )
        place = {"data_dir": options.data_dir, "manual_dir": options.manual_dir}
        examples = load(options.data, options.split, **place)
        classes = {"num_classes": theirs.num_classes, "ignore_class": theirs.ignore_class}
        names = [None] * len(examples)
        if options.save_predictions:
            names = [Path(n).stem for n in example_names(options.data, options.split, **place)]
        return evaluation_batches(examples, **classes, **layout), names, theirs
    classes = {"num_classes": space.num_classes, "ignore_class": space.ignore_class}
    pairs = find_pairs(options.images, options.labels)
    rules = {**classes, "channels": model.num_channels, "palette": _palette(options, space)}
    with progress_bar("checking files", len(pairs)) as advance:
        check_pairs(pairs, **rules, progress=lambda done, of: advance())
    names = [pair.image.stem for pair in pairs]
    return evaluation_batches(pairs, **(rules | layout)), names, space


def _palette(options, space):
    return space.palette if options.palette else None


def _prediction_writer(folder, names, space):
    """Returns a function that writes the next image's label map, or None without a folder."""
    from pathlib import Path

    from keras_fcn.visualization import save_label_map

    if folder is None:
        return None
    Path(folder).mkdir(parents=True, exist_ok=True)
    paths = (Path(folder) / f"{name}.png" for name in names)
    return lambda label_map: save_label_map(next(paths), label_map, space)


def _as_json(scores, space, num_images):
    import math

    iou = zip(space.class_names, scores.class_iou.tolist(), strict=True)
    return {
        "images": num_images,
        "scores": scores.as_dict(),
        "class_iou": {name: None if math.isnan(value) else value for name, value in iou},
        "confusion_matrix": scores.matrix.tolist(),
        "trimap": None if scores.trimap is None else scores.trimap.as_dict(),
    }


def _print_scores(title, scores, class_iou):
    lines = {name.replace("_", " ").replace("iou", "IoU"): score for name, score in scores.items()}
    lines |= {f"IoU of {name}": iou for name, iou in class_iou.items()}
    print(f"{title}:")
    for name, value in lines.items():
        print(f"  {name:<26} {value:.4f}")


def predict(options):
    """Writes label maps and overlays of images."""
    from pathlib import Path

    from keras_fcn.data.examples import check_image, read_image
    from keras_fcn.inference import predict_label_map
    from keras_fcn.models.prediction_memory import check_prediction_memory
    from keras_fcn.training.progress import progress_bar
    from keras_fcn.training.trained import open_model
    from keras_fcn.visualization import save_label_map, save_overlay

    outputs = _prediction_paths(_named_images(options.images), Path(options.out))
    for path in outputs:
        check_image(path)
    model, space = open_model(options.model, at_once=options.at_once)
    sizes = {read_image(path, model.num_channels).shape[:2] for path in outputs}
    views = _views(options)
    for size in sizes:
        check_prediction_memory(model, *size, scale=max(views["scales"]))
    with progress_bar("predicting", len(outputs)) as advance:
        for path, (label_map_path, overlay_path) in outputs.items():
            image = read_image(path, model.num_channels)
            label_map = predict_label_map(model, image, **views)
            os.makedirs(label_map_path.parent, exist_ok=True)
            save_label_map(label_map_path, label_map, space)
            save_overlay(overlay_path, image, label_map, space)
            advance()
    print(f"Label maps and overlays: {options.out}")


def convert(options):
    """Turns a weight file into one of this package's."""
    from keras_fcn.models.convert import convert
    from keras_fcn.models.fcn import AT_ONCE_SKIP_SCALES
    from keras_fcn.training.recipe import MODELS

    label_space = _label_space(options)
    model = MODELS[options.model](
        num_classes=label_space.num_classes,
        label_space=label_space,
        skip_scales=AT_ONCE_SKIP_SCALES if options.at_once else None,
        mean=options.mean,
        padding=options.padding,
        fc_units=options.fc_units,
        data_format="channels_last",
    )
    convert(options.source, options.target, model)
    print(f"{type(model).__name__}, {model.count_params():,} values: {options.target}")


def _named_images(places):
    """Returns a dictionary from each image, those in folders included, to its outputs' name."""
    from pathlib import Path

    from keras_fcn.data.files import IMAGE_SUFFIXES, files_by_name

    images = {}
    for place in map(Path, places):
        if not place.is_dir():
            images[place] = place.stem
            continue
        found = files_by_name(place, IMAGE_SUFFIXES)
        if not found:
            raise ValueError(
                f"IMAGE must be a file or a folder of {', '.join(IMAGE_SUFFIXES)} files. "
                f"Received: {place}, a folder with none."
            )
        images |= {path: name for name, paths in sorted(found.items()) for path in paths}
    return images


def _prediction_paths(images, out):
    """Returns a dictionary from each image to the files of its label map and its overlay."""
    import unicodedata

    outputs, owners = {}, {}
    for image, name in images.items():
        name = unicodedata.normalize("NFC", name)
        outputs[image] = (out / f"{name}.png", out / f"{name}_overlay.png")
        for path in outputs[image]:
            if path in owners:
                raise ValueError(
                    f"Images must differ in their names without folder and suffix, which name the "
                    f"outputs. Received: {owners[path]} and {image}."
                )
            owners[path] = image
            if path.exists() and any(path.samefile(other) for other in images if other.exists()):
                raise ValueError(f"--out must be another folder: {path} would be overwritten.")
    return outputs


def check_data(options):
    """Reads every file of a data set once; returns 1 if something is wrong with one."""
    import json

    from keras_fcn.data.check import check_data
    from keras_fcn.training.progress import progress_bar
    from keras_fcn.visualization import plot_class_shares

    space = _label_space(options)
    splits, problems = _splits(options.folders)
    with progress_bar("checking files", sum(map(len, splits.values()))) as advance:
        report = check_data(splits, space, _palette(options, space), advance)
    report.problems[:0] = problems
    if options.chart:
        plot_class_shares(report.shares, report.label_space, options.chart)
    print(json.dumps(report.as_dict(), indent=2) if options.json else report.as_text())
    return 1 if report.problems else 0


def preview_data(options):
    """Writes a sheet of images and overlays."""
    from keras_fcn.data.examples import read_example
    from keras_fcn.visualization import contact_sheet

    if options.count < 1:
        raise ValueError(f"--count must be at least 1. Received: {options.count}.")
    space = _label_space(options)
    splits, _ = _splits(options.folders)
    pairs = [pair for pairs in splits.values() for pair in pairs]
    shown = pairs[:: max(1, len(pairs) // options.count)][: options.count]
    rules = (space.num_classes, space.ignore_class, _palette(options, space))
    examples = {pair.image.name: read_example(pair, *rules) for pair in shown}
    contact_sheet(examples, space).save(options.out)
    print(f"Preview of {len(examples)} of {len(pairs)} pairs: {options.out}")


def _splits(folders):
    """Returns the pairs of each split in some folders, and what has no partner."""
    from pathlib import Path

    from keras_fcn.data.check import find_splits, match_pairs

    splits, problems = {}, []
    for folder in map(Path, folders):
        for name, (images, labels) in find_splits(folder).items():
            name = name if len(folders) == 1 else str(folder / name)
            splits[name], unmatched = match_pairs(images, labels)
            problems += unmatched
    if not any(splits.values()):
        raise ValueError(f"DIR must hold pairs of images and label maps. Received: {folders}.")
    return splits, problems


def demo(options):
    """Trains the three models on drawn shapes."""
    from keras_fcn.training.demo import demo

    demo(options.out)


def reproduce(options):
    """Scores released models beside their published scores."""
    import json

    from keras_fcn.training.reproduce import reproduce

    places = {"data_dir": options.data_dir, "manual_dir": options.manual_dir}
    # TFDS writes there what it builds.
    with contextlib.redirect_stdout(sys.stderr):
        report = reproduce(options.experiment, models=options.models, **places)
    print(json.dumps(report.as_dict(), indent=2) if options.json else report.as_text())
