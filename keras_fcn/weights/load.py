"""Loads weights from any source: files of any format, models, and names."""

import contextlib
import dataclasses
import os

import keras

from keras_fcn.spec import output_stride
from keras_fcn.weights.entries import Contents, Entry
from keras_fcn.weights.files import open_file
from keras_fcn.weights.imagenet import imagenet_vgg16
from keras_fcn.weights.metadata import (
    by_pool,
    check_skip_scales,
    geometry_of,
    mean_of,
    skip_scales_of,
)
from keras_fcn.weights.networks import fits_classifier, has_layer, num_classes_of, port_into
from keras_fcn.weights.port import variables_of
from keras_fcn.weights.published import find_published, published_names
from keras_fcn.weights.published_files import cached_file, packaged_file

_SIFT_FLOW_TASKS = {"semantic": 33, "geometric": 3}


def load(
    model: keras.Model, source: str | os.PathLike | keras.Model, *, partial: bool = True
) -> None:
    """Sets the weights of an FCN from a file, from another model, or by name.

    A source of the same network sets every variable. VGG-16 sets the convolutions and, if their
    shapes match, fc6 and fc7. An FCN of coarser output stride sets the layers that both have, for
    stage-wise training from 32s to 16s to 8s. An FCN with another number of classes sets all but
    the score layers. The other variables keep their values, with a warning except in stage-wise
    training.

    Args:
        model: The model to set.
        source: `"imagenet"`, or one of `published_names()`; a path to a Keras file (`.weights.h5`,
            `.h5`, `.keras`), a `.caffemodel`, a `.pth` of pytorch-fcn or an `.npz` of wkentaro/fcn;
            `"hf://owner/repo/file@revision"` for such a file of the Hugging Face Hub, see
            `keras_fcn.io.hub.download`; or a `keras.Model`.
        partial: If `False`, the source must set every variable.

    Raises:
        FileNotFoundError: If there is no such file.
        ImportError: If the source is a `.pth` file and PyTorch is not installed, or a file of the
            Hub and `huggingface_hub` is not installed.
        OSError: If weights cannot be downloaded, or the file in the package is damaged.
        ValueError: If the source is damaged, does not fit, or holds NaN or infinity. The message
            lists every layer with both shapes, and the model is unchanged.
    """
    if isinstance(source, keras.Model):
        port_into(model, _contents_of(source), f"Model {source.name!r}", partial)
    elif source == "imagenet":
        if not has_layer(model, "fc6") or has_layer(model, "conv1"):
            raise _of_vgg16_only(model, source)
        _check_without_backbone(model, source)
        vgg16 = imagenet_vgg16(include_top=fits_classifier(model))
        port_into(model, _contents_of(vgg16), "VGG-16 of keras.applications", partial)
    elif source in published_names():
        published = _published(model, source)
        path = packaged_file(published) or cached_file(
            published,
            lambda file, target: _convert(model, published, file, target),
            variant="-multitask" if hasattr(model, "tasks") else "",
        )
        remedy = None if published.is_packaged else f"Delete {path} to download it again."
        with _remedy(remedy), open_file(path) as contents:
            contents = dataclasses.replace(
                contents,
                skip_scales=by_pool(published.skip_scales),
                mean=published.mean,
                geometry={
                    "padding": published.padding,
                    "input_upsampling": published.input_upsampling,
                },
            )
            port_into(model, contents, f"weights={source!r}", partial)
    else:
        with open_file(source) as contents:
            port_into(model, contents, str(source), partial)


def _contents_of(model):
    entries = {
        key: Entry(tuple(variable.shape), _reader(variable))
        for key, variable in variables_of(model)
        if "/" in key[0] or variable.name in ("kernel", "bias")
    }
    return Contents(entries, skip_scales_of(model), mean_of(model), geometry_of(model))


def _reader(variable):
    return lambda: keras.ops.convert_to_numpy(variable).astype("float32")


def _check_without_backbone(model, name):
    if has_layer(model, "backbone"):
        raise _of_vgg16_only(model, name)


def _of_vgg16_only(model, name):
    on_backbone = " on a backbone" if has_layer(model, "backbone") else ""
    return ValueError(
        f"weights={name!r} are VGG-16's, and must be loaded into one network on it. Received: "
        f"{type(model).__name__}{on_backbone}."
    )


def _published(model, name):
    """Returns the published weights of a name, after checking that they fit the model."""
    _check_without_backbone(model, name)
    if not hasattr(model, "network"):
        raise ValueError(
            f"weights={name!r} must be loaded into a model of this package. Received: a "
            f"{type(model).__name__}."
        )
    published = find_published(name, output_stride(model.skips), model.network)
    tasks = getattr(model, "num_classes", None) if hasattr(model, "tasks") else None
    if tasks is not None and (name, tasks) != ("sift_flow", _SIFT_FLOW_TASKS):
        raise ValueError(
            "Published weights must be loaded into a network of one task, or those of sift_flow "
            f"into one of {_SIFT_FLOW_TASKS}. Received: weights={name!r}, {tasks}."
        )
    if model.network != "vgg16":
        return published
    size = published.fc6_kernel_size
    kernel = tuple(model.get_layer("fc6").kernel.shape)
    wanted = (size, size, 512, published.fc_units)
    if kernel != wanted:
        raise ValueError(
            f"fc6 must have a kernel of shape {wanted} for weights={name!r}. Received: {kernel}. "
            f"Set fc_units={published.fc_units}, fc6_kernel_size={size}, "
            f"padding={published.padding!r} and input_upsampling={published.input_upsampling}."
        )
    if has_layer(model, "score_fr") and num_classes_of(model) == published.label_space.num_classes:
        check_skip_scales(model, by_pool(published.skip_scales), f"weights={name!r}")
    return published


def _convert(model, published, file, target):
    """Converts a published file to a `.weights.h5` file, through a temporary model."""
    blank = model.blank(
        published.label_space.num_classes,
        published.fc_units,
        skip_scales=published.skip_scales,
    )
    load(blank, file, partial=False)
    blank.save_weights(target)


@contextlib.contextmanager
def _remedy(sentence):
    try:
        yield
    except ValueError as error:
        if sentence is None:
            raise
        raise ValueError(f"{error} {sentence}") from error
