"""Evaluates released models on the images of their published scores."""

import dataclasses
import gc
import os
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from keras_fcn.data import evaluation_batches, label_space_of, load
from keras_fcn.models.fcn import FCN8s, FCN16s, FCN32s
from keras_fcn.spec import output_stride
from keras_fcn.spelling import counted
from keras_fcn.training.evaluate import Scores, evaluate, score_title
from keras_fcn.training.progress import progress_bar, say
from keras_fcn.weights import PublishedWeights, find_published


@dataclasses.dataclass(frozen=True)
class Experiment:
    """The data and models of a table of published scores; the scores are stored with the weights.

    Args:
        data: Name of the data set, see `keras_fcn.data.load`.
        split: Its split.
        num_images: Number of images of the split.
        models: Class and name of the published weights of each model, by its name.
        source: URL of the published scores.
    """

    data: str
    split: str
    num_images: int
    models: dict[str, tuple[type[keras.Model], str]]
    source: str

    def as_dict(self, num_images: int) -> dict:
        """Returns what was evaluated as JSON values, for a number of evaluated images."""
        return {
            "data": self.data,
            "split": self.split,
            "images": num_images,
            "published_images": self.num_images,
            "source": self.source,
        }


EXPERIMENTS = {
    "pascal_voc": Experiment(
        data="voc_segmentation/2011",
        split="seg11valid",
        num_images=736,
        models={
            "fcn32s": (FCN32s, "pascal_voc"),
            "fcn16s": (FCN16s, "pascal_voc"),
            "fcn8s": (FCN8s, "pascal_voc"),
            "fcn8s_atonce": (FCN8s, "pascal_voc_atonce"),
        },
        source="https://github.com/wkentaro/fcn",
    )
}
"""The reproducible tables, `Experiment` by name."""


@dataclasses.dataclass(frozen=True)
class Reproduction:
    """Measured scores compared with published ones.

    Args:
        experiment: The `Experiment`.
        num_images: Number of evaluated images.
        scores: Measured `Scores` by model.
        published: Published scores by model, fractions by name.
    """

    experiment: Experiment
    num_images: int
    scores: dict[str, Scores]
    published: dict[str, dict[str, float]]

    def as_dict(self) -> dict:
        """Returns everything as JSON values; scores are fractions, as in `Scores.as_dict`."""
        models = {}
        for model, scores in self.scores.items():
            measured, published = scores.as_dict(), self.published[model]
            models[model] = {
                "scores": measured,
                "published": published,
                "difference": {name: measured[name] - published[name] for name in published},
                "confusion_matrix": scores.matrix.tolist(),
            }
        return {**self.experiment.as_dict(self.num_images), "models": models}

    def as_text(self) -> str:
        """Returns a table in percent with an explanation of its numbers."""
        lines = [f"{'percent':<26} {'measured':>10} {'published':>10} {'difference':>10}"]
        for model, entry in self.as_dict()["models"].items():
            lines.append(model)
            for name, published in entry["published"].items():
                # Adding 0 avoids "-0.0000".
                difference = round(100 * entry["difference"][name], 4) + 0.0
                lines.append(
                    f"  {score_title(name):<24} {100 * entry['scores'][name]:>10.4f} "
                    f"{100 * published:>10.4f} {difference:>+10.4f}"
                )
        experiment = self.experiment
        lines += [
            f"Measured: {experiment.data}, {experiment.split}, "
            f"{counted(self.num_images, 'image')} at their own size;",
            "each score is computed from one confusion matrix without void pixels.",
            f"Published: {experiment.source}; difference: measured minus published.",
        ]
        if self.num_images != experiment.num_images:
            lines.append(
                f"The published scores are of {counted(experiment.num_images, 'image')}, these of "
                f"{self.num_images}: they cannot be compared."
            )
        return "\n".join(lines)


def reproduce(
    name: str,
    *,
    models: Sequence[str] | None = None,
    data_dir: str | os.PathLike | None = None,
    manual_dir: str | os.PathLike | None = None,
) -> Reproduction:
    """Evaluates released models on the data of their published scores.

    All weights and then the data are downloaded and loaded before the first evaluation, so that
    missing files are found within minutes and not after hours. Weights and data are cached.
    Evaluation runs in float32, with one image and one model at a time.

    Args:
        name: Name of a table, `"pascal_voc"`.
        models: Names of models of the table; `None` for all.
        data_dir: See `keras_fcn.data.load`.
        manual_dir: See `keras_fcn.data.load`.

    Returns:
        `Reproduction`, models in the order of the table.

    Raises:
        FileNotFoundError: If the data are missing and cannot be downloaded.
        OSError: If weights cannot be downloaded.
        ValueError: If there is no such table or model, or a file is damaged.
    """
    experiment = find_experiment(name)
    chosen = chosen_models(experiment, models)
    with progress_bar("weights", len(chosen)) as advance:
        for model in chosen:
            _build(experiment, model)
            gc.collect()  # A model has reference cycles and takes half a gigabyte.
            advance()
    examples = load(experiment.data, experiment.split, data_dir=data_dir, manual_dir=manual_dir)
    scores = {}
    for model in chosen:
        scores[model] = score_model(experiment, model, _build(experiment, model), examples)
        gc.collect()
        say(f"{model}: mean IoU {scores[model].as_dict()['mean_iou']:.4%}")
    published = {model: published_of(experiment, model).scores for model in chosen}
    return Reproduction(experiment, len(examples), scores, published)


def find_experiment(name: str) -> Experiment:
    """Returns the `Experiment` of a name.

    Raises:
        ValueError: If there is none.
    """
    if name not in EXPERIMENTS:
        raise ValueError(f"`name` must be one of {', '.join(EXPERIMENTS)}. Received: {name=}.")
    return EXPERIMENTS[name]


def chosen_models(experiment: Experiment, models: Sequence[str] | None) -> tuple[str, ...]:
    """Returns the names of some models, or of all for `None`, in the order of the table.

    Raises:
        ValueError: If one is not in the table.
    """
    if models is None:
        return tuple(experiment.models)
    if isinstance(models, str) or not models or not set(models) <= set(experiment.models):
        raise ValueError(
            f"`models` must be a sequence of {', '.join(experiment.models)}. Received: {models=}."
        )
    return tuple(model for model in experiment.models if model in models)


def published_of(experiment: Experiment, model: str) -> PublishedWeights:
    """Returns the published weights of a model of a table."""
    network, weights = experiment.models[model]
    published: Any = find_published(weights, stride=output_stride(network.skips))
    return published


def score_model(
    experiment: Experiment, name: str, model: keras.Model, examples: tf.data.Dataset
) -> Scores:
    """Returns the scores of a model on the data of a table, image by image.

    Args:
        experiment: The `Experiment`.
        name: Title of the progress bar.
        model: The model.
        examples: The examples of the table's split.
    """
    space = label_space_of(experiment.data)
    classes = {"num_classes": space.num_classes, "ignore_class": space.ignore_class}
    batches = evaluation_batches(examples, **classes)
    with progress_bar(name, len(examples)) as advance:
        return evaluate(model, batches, **classes, progress=advance)


def _build(experiment, model):
    """Returns the model with its weights, which are downloaded if they are not cached."""
    network, weights = experiment.models[model]
    published = published_of(experiment, model)
    return network(
        published.label_space.num_classes,
        weights=weights,
        fc_units=published.fc_units,
        data_format="channels_last",
        dtype="float32",
    )
