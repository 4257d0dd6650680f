"""Finds the images whose labels the models of runs contradict most confidently."""

import dataclasses
import itertools
import os
from collections.abc import Sequence

import numpy as np
from PIL import Image

from keras_fcn.inference import predict
from keras_fcn.label_spaces import LabelSpace
from keras_fcn.models.multitask import models_of_tasks
from keras_fcn.spelling import counted
from keras_fcn.training.contradicted_regions import ClassThresholds, Contradictions, Region
from keras_fcn.training.progress import progress_bar
from keras_fcn.training.run import Run
from keras_fcn.training.splits import Split, open_splits
from keras_fcn.training.trained import open_run
from keras_fcn.visualization import as_rgb, legend, overlay, picture_row, stack_pictures

_MARK = (255, 0, 255)


@dataclasses.dataclass(frozen=True, eq=False)
class LabelError:
    """An image with its most contradicted region.

    Args:
        image_name: File name of the image.
        run: Path of the run whose model judges the image.
        held_out: Whether that model was trained without the image.
        region: The region.
        image: (height, width, channels), uint8.
        label_map: (height, width).
        prediction: Predicted label map, (height, width).
    """

    image_name: str
    run: str
    held_out: bool
    region: Region
    image: np.ndarray
    label_map: np.ndarray
    prediction: np.ndarray


@dataclasses.dataclass(frozen=True)
class LabelErrors:
    """The images whose labels are contradicted most confidently.

    Args:
        label_space: `LabelSpace` of the label maps.
        num_held_out: Number of images that were judged by a model trained without them.
        num_trained_on: Number of the other images.
        num_contradicted: Number of images with a contradicted region.
        errors: The images of the highest scores, highest first.
    """

    label_space: LabelSpace
    num_held_out: int
    num_trained_on: int
    num_contradicted: int
    errors: list[LabelError]

    def as_dict(self) -> dict:
        """Returns everything but the pictures as JSON values."""
        names = self.label_space.class_names
        sides = ("top", "left", "bottom", "right")
        return {
            "held_out": self.num_held_out,
            "trained_on": self.num_trained_on,
            "contradicted": self.num_contradicted,
            "errors": [
                {
                    "image": error.image_name,
                    "run": error.run,
                    "held_out": error.held_out,
                    "score": round(error.region.score, 1),
                    "box": dict(zip(sides, error.region.box, strict=True)),
                    "label": names[error.region.label],
                    "predicted": names[error.region.predicted],
                    "probability": round(error.region.probability, 4),
                }
                for error in self.errors
            ],
        }

    def as_text(self) -> str:
        """Returns everything but the pictures as a table."""
        lines = [
            f"{counted(self.num_held_out + self.num_trained_on, 'image')}, {self.num_held_out} of "
            f"them held out; {self.num_contradicted} have a region that the model contradicts"
        ]
        if self.num_trained_on:
            lines.append(
                "A model has learnt the errors of images that it was trained on. To have every "
                "image held out, train one run per fold (`folds`, `fold`) and pass all runs."
            )
        if not self.errors:
            return "\n".join(lines)
        rows = [
            ("image", "judged", "score", "columns", "rows", "probability", "label -> predicted")
        ]
        for error in self.as_dict()["errors"]:
            box = error["box"]
            rows.append(
                (
                    error["image"],
                    "held out" if error["held_out"] else "trained on",
                    f"{error['score']:,.0f}",
                    f"{box['left']}-{box['right'] - 1}",
                    f"{box['top']}-{box['bottom'] - 1}",
                    f"{error['probability']:.2f}",
                    f"{error['label']} -> {error['predicted']}",
                )
            )
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for row in rows:
            cells = [f"{row[0]:<{widths[0]}}", f"{row[1]:<{widths[1]}}"]
            cells += [f"{row[place]:>{widths[place]}}" for place in range(2, 6)]
            lines.append("  ".join([*cells, row[6]]))
        return "\n".join(lines)

    def sheet(self, height: int = 180) -> Image.Image:
        """Returns a contact sheet: a row of four panels for each image, and a legend.

        The panels are the image, the overlays of its label map and of the prediction, and the image
        with the contradicted region marked.

        Args:
            height: Height of a panel, in pixels.
        """
        names = self.label_space.class_names
        rows = []
        for number, error in enumerate(self.errors, 1):
            region = error.region
            panels = {
                f"{number}. {error.image_name}": as_rgb(error.image),
                f"label map: {names[region.label]}": overlay(
                    error.image, error.label_map, self.label_space
                ),
                f"prediction: {names[region.predicted]} ({region.probability:.2f})": overlay(
                    error.image, error.prediction, self.label_space
                ),
                f"contradicted, {'held out' if error.held_out else 'trained on'}": _marked(error),
            }
            rows.append(picture_row(panels, height))
        width = max(row.width for row in rows)
        return stack_pictures([*rows, legend(self.label_space, width)])


def find_label_errors(paths: Sequence[str | os.PathLike], count: int = 12) -> LabelErrors:
    """Judges the training and validation images of runs by their models.

    Each image is judged by the first run that held it out, so that the runs of all folds judge
    every image by a model that was trained without it; an image that no run held out is judged by
    the first run that trained on it. Images are ranked by the score of their best region, see
    `Contradictions.regions`; the thresholds are those of each run on the images that it judges.

    Args:
        paths: Run folders. A staged run counts as its last stage.
        count: Number of images to return.

    Raises:
        FileNotFoundError: If there is no such run, or its data are gone.
        ValueError: If `count` is less than 1, a model does not take one image and return one label
            map, or the runs have different classes.
    """
    if count < 1:
        raise ValueError(f"`count` must be at least 1. Received: {count}.")
    runs = [open_run(path) for path in paths]
    spaces = [run.label_space() for run in runs]
    for path, space in zip(paths, spaces, strict=True):
        if space.class_names != spaces[0].class_names:
            raise ValueError(f"RUN must have the classes of {paths[0]}. Received: {path}.")
    splits = []
    for path, run in zip(paths, runs, strict=True):
        _check_modalities(path, run)
        splits.append(_open(path, run))
    jobs = _jobs(splits)
    found: list[LabelError] = []
    num_contradicted = 0
    for path, run, of_run in zip(paths, runs, jobs, strict=True):
        if of_run:
            errors, contradicted = _judge(str(path), run, of_run, count)
            num_contradicted += contradicted
            found = sorted([*found, *errors], key=lambda error: -error.region.score)[:count]
    judged = [job for of_run in jobs for job in of_run]
    num_held_out = sum(job.held_out for job in judged)
    return LabelErrors(spaces[0], num_held_out, len(judged) - num_held_out, num_contradicted, found)


def _marked(error):
    """The image, darkened but for the region, in the frame of its box."""
    top, left, bottom, right = error.region.box
    shown = as_rgb(error.image) // 3
    rows, columns = error.region.pixels
    shown[rows, columns] = as_rgb(error.image)[rows, columns]
    width = max(2, len(shown) // 120)
    frame = np.zeros(shown.shape[:2], bool)
    frame[max(0, top - width) : bottom + width, max(0, left - width) : right + width] = True
    frame[top:bottom, left:right] = False
    shown[frame] = _MARK
    return shown


@dataclasses.dataclass(frozen=True)
class _Job:
    """An image to judge: its number in a split."""

    split: Split
    number: int
    name: str
    held_out: bool


def _check_modalities(path, run):
    modalities = run.recipe()[1].modalities
    if len(modalities) > 1:
        raise ValueError(
            f"RUN must be of a model that takes one image. Received: {path}, which takes "
            f"{' and '.join(modalities)}."
        )


def _open(path, run):
    try:
        recipe = run.recipe()[1]
        return [split and split.of_task(recipe.tasks[0]) for split in open_splits(recipe)]
    except (FileNotFoundError, NotADirectoryError) as error:
        raise FileNotFoundError(
            f"The data of RUN must still be where it was trained. Received: {path}: {error}"
        ) from error


def _jobs(splits):
    """Returns the images that each run judges, those that it held out first."""
    jobs: list[list[_Job]] = [[] for _ in splits]
    known = set()
    for held_out in (True, False):
        for number, of_run in enumerate(splits):
            split = of_run[held_out]
            if split is None:
                continue
            for place, (name, key) in enumerate(zip(split.names(), _keys(split), strict=True)):
                if key not in known:
                    known.add(key)
                    jobs[number].append(_Job(split, place, name, held_out))
    return jobs


def _keys(split):
    """What tells images apart, in all splits."""
    if split.source is None:
        return [os.path.realpath(pair.image) for pair in split.examples]
    source = (split.source["name"], split.source["split"])
    return [(*source, name) for name in split.names()]


def _judge(path: str, run: Run, jobs: list[_Job], count: int) -> tuple[list[LabelError], int]:
    """Returns the errors of the highest scores of a run, and how many images have one."""
    space = jobs[0].split.label_space
    model = next(iter(models_of_tasks(run.load_model()).values()))
    thresholds = ClassThresholds(space.num_classes, space.ignore_class)
    contradictions = []
    with progress_bar(f"judging with {run.path.name}", len(jobs)) as advance:
        for image, label_map in _examples(jobs):
            probabilities = predict(model, image).probabilities
            thresholds.add(label_map, probabilities)
            contradictions.append(Contradictions.of(label_map, probabilities, space.ignore_class))
            advance()
    least = thresholds.values()
    ranked = []
    for job, of_image in zip(jobs, contradictions, strict=True):
        if regions := of_image.regions(least):
            ranked.append((job, regions[0]))
    ranked.sort(key=lambda pair: -pair[1].score)
    errors = []
    for job, region in ranked[:count]:
        ((image, label_map),) = _examples([job])
        prediction = predict(model, image).label_map
        errors.append(
            LabelError(job.name, path, job.held_out, region, image, label_map, prediction)
        )
    return errors, len(ranked)


def _examples(jobs):
    """Yields image and label map of each job; those of a split follow each other, sorted."""
    for _, of_split in itertools.groupby(jobs, key=lambda job: id(job.split)):
        chosen = list(of_split)
        split, numbers = chosen[0].split, {job.number for job in chosen}
        if split.source is None:
            examples, wanted = [split.examples[job.number] for job in chosen], range(len(chosen))
        else:
            first = min(numbers)
            examples, wanted = split.examples.skip(first), {number - first for number in numbers}
            examples = examples.take(max(wanted) + 1)
        batches = dataclasses.replace(split, examples=examples).batches()
        for number, (image, label_map) in enumerate(batches):
            if number in wanted:
                yield np.asarray(image)[0], np.asarray(label_map)[0]
