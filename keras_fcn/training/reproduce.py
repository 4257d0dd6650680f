"""Evaluates released models on the images of their published scores."""

import dataclasses
import gc
import os
from collections.abc import Sequence

import keras

from keras_fcn.data import evaluation_batches, label_space_of, load
from keras_fcn.models.fcn import FCN8s, FCN16s, FCN32s
from keras_fcn.spec import output_stride
from keras_fcn.training.evaluate import Scores, evaluate, score_title
from keras_fcn.training.progress import progress_bar, say
from keras_fcn.weights import find_published


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
        # Scores of the authors' weights. The authors' README gives only mean IoU, to one decimal.
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
        return {
            "data": self.experiment.data,
            "split": self.experiment.split,
            "images": self.num_images,
            "published_images": self.experiment.num_images,
            "source": self.experiment.source,
            "models": models,
        }

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
            f"Measured: {experiment.data}, {experiment.split}, {self.num_images} images at their "
            "own size;",
            "each score is computed from one confusion matrix without void pixels.",
            f"Published: {experiment.source}; difference: measured minus published.",
        ]
        if self.num_images != experiment.num_images:
            lines.append(
                f"The published scores are of {experiment.num_images} images, these of "
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
    experiment = _experiment(name)
    chosen = _chosen(experiment, models)
    with progress_bar("weights", len(chosen)) as advance:
        for model in chosen:
            _build(experiment, model)
            gc.collect()  # A model has reference cycles and takes half a gigabyte.
            advance()
    examples = load(experiment.data, experiment.split, data_dir=data_dir, manual_dir=manual_dir)
    scores = {}
    for model in chosen:
        scores[model] = _score(experiment, model, examples)
        gc.collect()
        say(f"{model}: mean IoU {scores[model].as_dict()['mean_iou']:.4%}")
    published = {model: _published(experiment, model).scores for model in chosen}
    return Reproduction(experiment, len(examples), scores, published)


def _experiment(name):
    if name not in EXPERIMENTS:
        raise ValueError(f"`name` must be one of {', '.join(EXPERIMENTS)}. Received: {name=}.")
    return EXPERIMENTS[name]


def _chosen(experiment, models):
    if models is None:
        return tuple(experiment.models)
    if isinstance(models, str) or not models or not set(models) <= set(experiment.models):
        raise ValueError(
            f"`models` must be a sequence of {', '.join(experiment.models)}. Received: {models=}."
        )
    return tuple(model for model in experiment.models if model in models)


def _published(experiment, model):
    network, weights = experiment.models[model]
    return find_published(weights, stride=output_stride(network.skips))


def _build(experiment, model):
    """Returns the model with its weights, which are downloaded if they are not cached."""
    network, weights = experiment.models[model]
    published = _published(experiment, model)
    return network(
        published.label_space.num_classes,
        weights=weights,
        fc_units=published.fc_units,
        data_format="channels_last",
        dtype="float32",
    )


def _score(experiment, model, examples):
    space = label_space_of(experiment.data)
    classes = {"num_classes": space.num_classes, "ignore_class": space.ignore_class}
    batches = evaluation_batches(examples, **classes)
    with progress_bar(model, len(examples)) as advance:
        return evaluate(_build(experiment, model), batches, **classes, progress=advance)
