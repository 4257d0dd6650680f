"""Evaluates the best model of a run and writes its report."""

import dataclasses
from typing import Any

import keras
import numpy as np

from keras_fcn import metrics
from keras_fcn.models.multitask import models_of_tasks
from keras_fcn.spelling import counted
from keras_fcn.training.environment import environment
from keras_fcn.training.evaluate import Scores, evaluate
from keras_fcn.training.image_scores import ImageScores
from keras_fcn.training.progress import progress_bar
from keras_fcn.training.recipe import Recipe, as_settings
from keras_fcn.training.report import ReportImage, write_report
from keras_fcn.training.run import Run
from keras_fcn.training.run_writer import RunWriter
from keras_fcn.training.splits import Split, open_splits

_NUM_SHOWN = 4
_TRIMAP = 5


@dataclasses.dataclass(frozen=True)
class FinalScores:
    """Scores of the best model of a run, and the images that the report shows.

    Args:
        scores: `Scores` of the validation set.
        best: Images with the best predictions, the best first.
        worst: Images with the worst predictions, the worst first.
    """

    scores: Scores
    best: list[ReportImage]
    worst: list[ReportImage]


def write_final_report(
    run: RunWriter, recipe: Recipe, val_split: Split | None, history: list[dict], seconds: float
) -> FinalScores | None:
    """Evaluates the best model on the validation set and writes the report of the run.

    Args:
        run: The run.
        recipe: Its recipe.
        val_split: The validation split, or `None`.
        history: A dictionary for each epoch.
        seconds: Duration of the training steps.

    Returns:
        What the report shows, `None` without a validation split.
    """
    (task, model), *others = models_of_tasks(run.load_model()).items()
    scores, view_scores, ranked, other_scores = None, None, _Ranked([]), {}
    if val_split is not None:
        other_scores = {
            other: _scores(of_other, val_split.of_task(other), f"{other} scores", None)
            for other, of_other in others
        }
        val_split = val_split.of_task(task)
        ranked = _Ranked(val_split.names())
        scores = _scores(model, val_split, "final scores", ranked, trimap=_TRIMAP)
        run.write_image_scores(ranked.scores())
        if recipe.views_differ:
            views = {"scales": recipe.test_scales, "flip": recipe.test_flip}
            view_scores = _scores(model, val_split, "test-time augmentation", None, **views)
    notes = [
        f"Training took {seconds / 60:.1f} minutes for {counted(history[-1]['epoch'], 'epoch')}."
    ]
    if scores is not None:
        notes.append(f"Near boundaries: only pixels within {_TRIMAP} pixels of a boundary.")
    run.write_report(
        lambda path: write_report(
            path,
            title=f"{run.recipe()[0]}: {run.path.name}",
            settings=as_settings(recipe),
            history=history,
            scores=scores,
            view_scores=view_scores,
            label_space=run.label_space(),
            best=ranked.best(),
            worst=ranked.worst(),
            environment=environment(),
            notes=notes,
            other_scores=other_scores,
        )
    )
    return None if scores is None else FinalScores(scores, ranked.best(), ranked.worst())


def evaluate_images(run: Run) -> ImageScores:
    """Returns the scores of a run's best model on each image of its validation split.

    Raises:
        FileNotFoundError, ValueError: If the data of the run are gone.
    """
    _, val_split = open_splits(run.recipe()[1])
    if val_split is None:
        raise ValueError(f"RUN must have a validation split. Received: {run.path}.")
    ranked = _Ranked(val_split.names())
    task, model = next(iter(models_of_tasks(run.load_model()).items()))
    _scores(model, val_split.of_task(task), f"scores of {run.path.name}", ranked)
    return ranked.scores()


def _scores(
    model: keras.Model, split: Split, title: str, ranked: "_Ranked | None", **options: Any
) -> Scores:
    space = split.label_space
    batches = split.batches() if ranked is None else ranked.watching(split.batches())
    with progress_bar(title, len(split)) as advance:
        return evaluate(
            model,
            batches,
            num_classes=space.num_classes,
            ignore_class=space.ignore_class,
            progress=advance,
            on_prediction=None if ranked is None else lambda p: ranked.add(p, space),
            **options,
        )


class _Ranked:
    """Collects the scores of all images, and those with the best and the worst predictions."""

    def __init__(self, names):
        self._all_names = tuple(names)
        self._names = iter(names)
        self._matrices = []
        self._images = []
        self._example = None

    def watching(self, batches):
        """Yields the batches, of one example each, and remembers the last."""
        for image, label_map in batches:
            self._example = np.asarray(image)[0], np.asarray(label_map)[0]
            yield image, label_map

    def add(self, prediction, space):
        image, label_map = self._example
        matrix = metrics.confusion_matrix(
            label_map, prediction, space.num_classes, space.ignore_class
        )
        self._matrices.append(matrix)
        name = next(self._names)
        if not matrix.any():
            return
        accuracy, mean_iou = metrics.pixel_accuracy(matrix), metrics.mean_iou(matrix)
        self._images.append(
            ReportImage(name, float(accuracy), float(mean_iou), image, label_map, prediction)
        )
        self._images.sort(key=lambda shown: shown.mean_iou)
        del self._images[_NUM_SHOWN:-_NUM_SHOWN]

    def scores(self):
        return ImageScores.of_matrices(self._all_names, self._matrices)

    def best(self):
        return self._images[::-1][:_NUM_SHOWN]

    def worst(self):
        # If there are few images, no image is both among the best and the worst.
        return self._images[:_NUM_SHOWN][: max(0, len(self._images) - _NUM_SHOWN)]
