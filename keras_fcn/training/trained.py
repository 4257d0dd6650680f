"""Opens trained models: runs, files, and published weights by name."""

import dataclasses
import os
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from keras_fcn import weights
from keras_fcn.data.catalog import label_space_of
from keras_fcn.io import hub
from keras_fcn.label_spaces import LabelSpace, generic
from keras_fcn.models.alexnet import FCNAlexNet
from keras_fcn.models.base import BaseFCN
from keras_fcn.models.fcn import FCN8s, FCN16s, FCN32s
from keras_fcn.models.from_file import model_from_file
from keras_fcn.models.multitask import MultitaskFCN, MultitaskFCN8s
from keras_fcn.models.precision import in_precision
from keras_fcn.spec import SEMANTIC, TASKS
from keras_fcn.spelling import proposal
from keras_fcn.training.run import MODEL, Run, load_fcn
from keras_fcn.training.run_config import CONFIG


@dataclasses.dataclass(frozen=True)
class TrainedModel:
    """A trained model and how it is used.

    Args:
        model: The model.
        label_space: The `LabelSpace` of its classes.
        test_scales: Factors of the resized images over which predictions are averaged.
        test_flip: Whether predictions are averaged with those of the mirrored images.
    """

    model: BaseFCN
    label_space: LabelSpace
    test_scales: tuple[float, ...] = (1.0,)
    test_flip: bool = False


def open_run(path: str | os.PathLike) -> Run:
    """Returns the `Run` at `path`, or its last stage for a staged recipe.

    Raises:
        FileNotFoundError: If there is no run, or it has no saved model.
    """
    run = Run(path)
    if run.exists and (runs := run.stages()):
        run = runs[-1]
        if not run.has_model and (earlier := [str(r.path) for r in runs if r.has_model]):
            raise FileNotFoundError(
                f"MODEL must be a run that has reached its last stage. Received: {path}, whose "
                f"{run.path.name} has no model yet. Resume it (--resume), or pass the run of a "
                f"stage: {', '.join(earlier)}."
            )
    if not run.has_model or not run.exists:
        raise FileNotFoundError(
            f"RUN must be a folder written by `keras-fcn train`, with {CONFIG} and {MODEL} in it. "
            f"Received: {path}."
        )
    return run


def open_model(
    name: str | os.PathLike,
    *,
    at_once: bool = False,
    task: str | None = None,
    precision: str | None = None,
) -> TrainedModel:
    """Returns a trained model; that of a run with the test-time augmentation of its recipe.

    Args:
        name: A run folder; a `.keras` file of this package, a `.caffemodel`, `.pth` or `.npz` file,
            or `"hf://owner/repo/file@revision"` for one of the Hugging Face Hub; or the name of
            published weights, which selects their finest output stride.
        at_once: See `keras_fcn.models.from_file.model_from_file`.
        task: Which task's label map a network of several returns; by default its first.
        precision: Dtype policy in which the model computes, see
            `keras_fcn.models.precision.in_precision`; by default that of the file.

    Raises:
        FileNotFoundError: If it is none of these.
        ImportError: If it is a `.pth` file and PyTorch is not installed, or a file of the Hub and
            `huggingface_hub` is not installed.
        OSError: If published weights or a file of the Hub cannot be downloaded.
        ValueError: If the file is damaged or holds another model, or the model has no such task.
    """
    opened = _opened(name, at_once, task)
    if precision is None:
        return opened
    return dataclasses.replace(opened, model=in_precision(opened.model, precision))


def _opened(name, at_once, task):
    name = weights.local_file(name)
    is_bare_file = Path(name).is_file() and not str(name).lower().endswith(".keras")
    if at_once and not is_bare_file:
        raise ValueError(
            "--at-once must be used with a .pth or .npz file; other models store it. Received: "
            f"{name}."
        )
    if name in weights.published_names():
        model = _published_model(name, task)
    elif Path(name).is_file():
        model = (
            model_from_file(name, at_once=at_once) if is_bare_file else _model_of_keras_file(name)
        )
    else:
        if not Run(name).exists:
            raise FileNotFoundError(
                f"MODEL must be a folder written by `keras-fcn train`, with {CONFIG} and {MODEL} "
                f"in it, a .keras, .caffemodel, .pth or .npz file, also of the Hugging Face Hub "
                f"({hub.FORM}), or one of {', '.join(weights.published_names())}. Received: {name}."
                + proposal(str(name), weights.published_names())
            )
        return _model_of_run(open_run(name), task)
    if isinstance(model.input, dict):
        raise _more_than_an_image(name, list(model.input))
    model = _of_task(model, task, name)
    return TrainedModel(model, model.label_space or generic(model.num_classes))


def _model_of_keras_file(path):
    # Keras reports a truncated file as one that is not found.
    if not zipfile.is_zipfile(path):
        raise ValueError(
            f"{path} must be a whole .keras file. Received: a file that is truncated or in another "
            "format."
        )
    return load_fcn(path)


def _model_of_run(run, task):
    _, recipe = run.recipe()
    model = _of_task(run.load_model(), task, run.path)
    space = model.label_space or run.label_space()
    return TrainedModel(model, space, recipe.test_scales, recipe.test_flip)


def _of_task(model, task, name):
    """Returns the FCN of one of several tasks; the model itself if it has no other."""
    tasks = model.tasks if isinstance(model, MultitaskFCN) else (SEMANTIC,)
    if task is not None and task not in tasks:
        raise ValueError(
            f"`task` (--task) must be a task of {name}: {', '.join(tasks)}. Received: {task}."
        )
    return model.as_fcn(task or tasks[0]) if isinstance(model, MultitaskFCN) else model


def _published_model(name, task):
    """Returns the model of the finest stride that was published under a name."""
    published: Any = weights.find_published(name)
    if name == "sift_flow" and task is not None:
        spaces = {task: label_space_of("sift_flow", task) for task in TASKS}
        num_classes = {task: space.num_classes for task, space in spaces.items()}
        return MultitaskFCN8s(num_classes, label_spaces=spaces, weights=name)
    options = {"weights": name, "data_format": "channels_last"}
    if published.network == "alexnet":
        options["fc_units"] = published.fc_units
        return FCNAlexNet(published.label_space.num_classes, **options)
    if published.network != "vgg16":
        raise _more_than_an_image(name, published.network.split("+"))
    network = {32: FCN32s, 16: FCN16s, 8: FCN8s}[published.stride]
    return network(published.label_space.num_classes, **options)


def are_in_files(modalities: Sequence[str]) -> bool:
    """Whether one file of 8 bits per channel holds the modalities of an image: one, and no depth.

    Examples:
        >>> are_in_files(("hha",)), are_in_files(("image", "depth"))
        (True, False)
    """
    return len(modalities) == 1 and "depth" not in modalities


def check_takes_files(model: Any, name: str | os.PathLike) -> None:
    """Checks that the images of a model can be read from files, which hold 8 bits per channel.

    Args:
        model: A network of this package, or an exported one.
        name: What the error calls it.

    Raises:
        ValueError: If it takes several modalities, or depth in millimetres.
    """
    if not are_in_files(model.modalities):
        raise ValueError(
            "MODEL must take images that files of 8 bits hold. Received: "
            f"{name}, which takes {' and '.join(model.modalities)}. Evaluate it on a data set by "
            "name, such as nyudv2, or pass arrays of its channels to keras_fcn.inference.predict."
        )


def _more_than_an_image(name, modalities):
    return ValueError(
        f"MODEL must take photos. Received: {name}, which takes {' and '.join(modalities)}. In "
        "Python, it is a keras_fcn.MultimodalFCN32s."
    )
