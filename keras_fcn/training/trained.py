"""Opens trained models: runs, files, and published weights by name."""

import dataclasses
import os
from pathlib import Path
from typing import Any

from keras_fcn import weights
from keras_fcn.io import hub
from keras_fcn.label_spaces import LabelSpace, generic
from keras_fcn.models.alexnet import FCNAlexNet
from keras_fcn.models.base import BaseFCN
from keras_fcn.models.fcn import FCN8s, FCN16s, FCN32s
from keras_fcn.models.from_file import model_from_file
from keras_fcn.training.run import CONFIG, MODEL, Run, load_fcn


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
            f"MODEL must be a folder written by `keras-fcn train`, with {CONFIG} and {MODEL} in "
            f"it, a .keras, .caffemodel, .pth or .npz file, also of the Hugging Face Hub "
            f"({hub.FORM}), or one of {', '.join(weights.published_names())}. "
            f"Received: {path}."
        )
    return run


def open_model(name: str | os.PathLike, *, at_once: bool = False) -> TrainedModel:
    """Returns a trained model; that of a run with the test-time augmentation of its recipe.

    Args:
        name: A run folder; a `.keras` file of this package, a `.caffemodel`, `.pth` or `.npz` file,
            or `"hf://owner/repo/file@revision"` for one of the Hugging Face Hub; or the name of
            published weights, which selects their finest output stride.
        at_once: See `keras_fcn.models.from_file.model_from_file`.

    Raises:
        FileNotFoundError: If it is none of these.
        ImportError: If it is a `.pth` file and PyTorch is not installed, or a file of the Hub and
            `huggingface_hub` is not installed.
        OSError: If published weights or a file of the Hub cannot be downloaded.
        ValueError: If the file is damaged or holds another model.
    """
    name = weights.local_file(name)
    is_bare_file = Path(name).is_file() and not str(name).lower().endswith(".keras")
    if at_once and not is_bare_file:
        raise ValueError(
            "--at-once must be used with a .pth or .npz file; other models store it. Received: "
            f"{name}."
        )
    if name in weights.published_names():
        model = _published_model(name)
    elif Path(name).is_file():
        model = model_from_file(name, at_once=at_once) if is_bare_file else load_fcn(name)
    else:
        return _model_of_run(open_run(name))
    _check_one_image_and_label_map(model, name)
    return TrainedModel(model, model.label_space or generic(model.num_classes))


def _model_of_run(run):
    _, recipe = run.recipe()
    return TrainedModel(run.load_model(), run.label_space(), recipe.test_scales, recipe.test_flip)


def _published_model(name):
    """Returns the model of the finest stride that was published under a name."""
    published: Any = weights.find_published(name)
    options = {"weights": name, "data_format": "channels_last"}
    if published.network == "alexnet":
        options["fc_units"] = published.fc_units
        return FCNAlexNet(published.label_space.num_classes, **options)
    if published.network != "vgg16":
        raise _more_than_an_image(name, published.network.split("+"))
    network = {32: FCN32s, 16: FCN16s, 8: FCN8s}[published.stride]
    return network(published.label_space.num_classes, **options)


def _check_one_image_and_label_map(model, name):
    if isinstance(model.input, dict):
        raise _more_than_an_image(name, list(model.input))
    if isinstance(model.output, dict):
        raise ValueError(
            f"MODEL must return one label map. Received: {name}, which returns those of "
            f"{', '.join(model.output)}. In Python, `of_task` returns the model of one task."
        )


def _more_than_an_image(name, modalities):
    return ValueError(
        f"MODEL must take photos. Received: {name}, which takes {' and '.join(modalities)}. In "
        "Python, it is a keras_fcn.MultimodalFCN32s."
    )
