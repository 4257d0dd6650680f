"""Reads PyTorch state dicts: the models of pytorch-fcn and the VGG-16 that they start from."""

import contextlib
import os
import pickle
import re
import zipfile
from collections.abc import Iterator, Mapping

from keras_fcn.io.download import md5_of
from keras_fcn.spec import vgg16_layer_names
from keras_fcn.weights.entries import Contents, Entry, by_name, damaged_file

_VARIABLE_NAMES = {"weight": "kernel", "bias": "bias"}
# What DataParallel, DistributedDataParallel and torch.compile put in front of the names.
_WRAPPERS = re.compile(r"^((module|_orig_mod)\.)+")
# Indices of VGG-16's layers in torchvision's `features` and `classifier`.
_TORCHVISION_NAMES = {
    f"features.{place}": name
    for place, name in zip(
        (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28),
        vgg16_layer_names("conv{block}_{number}"),
        strict=True,
    )
} | {"classifier.0": "fc6", "classifier.3": "fc7", "classifier.6": "fc8"}
# NumPy's numbers and arrays beside the state dict, such as the best mean IoU in a checkpoint of
# pytorch-fcn, by their names in files of NumPy 1 and 2.
_NUMPY_NAMES = (
    *("numpy.dtype", "numpy.ndarray"),
    *(
        f"numpy.{core}.multiarray.{name}"
        for core in ("core", "_core")
        for name in ("scalar", "_reconstruct")
    ),
)
_OF_PYTHON_2 = (
    "it holds raw bytes of Python 2 beside the weights, such as a number of NumPy; save its "
    "state_dict() alone"
)
# Words in PyTorch's errors of files that it refuses. Operand 84 is a long string of Python 2.
_REFUSED = {
    "GLOBAL": "it holds Python objects, such as a whole module; save its state_dict()",
    "operand 84": _OF_PYTHON_2,
}
CAFFE_VGG16_MD5 = "aa75b158f4181e7f6230029eb96c1b13"
"""MD5 checksum of pytorch-fcn's copy of Caffe's VGG-16, which has torchvision's names."""


@contextlib.contextmanager
def open_pytorch_file(path: str | os.PathLike) -> Iterator[Contents]:
    """Yields the contents of a `.pth` file, by the paper's layer names, in PyTorch's layout.

    `torch.load(..., weights_only=True)` reads it, which runs no code of the file. NumPy's numbers
    and arrays beside the state dict are skipped.

    Args:
        path: A state dict, or a checkpoint with `"model_state_dict"` or `"state_dict"`, also of a
            module in `DataParallel`, `DistributedDataParallel` or `torch.compile`.

    Raises:
        FileNotFoundError: If there is no such file.
        ImportError: If PyTorch is not installed.
        ValueError: If the file is no such file, is damaged, or holds torchvision's own VGG-16.
    """
    try:
        import torch
    except ImportError as error:
        raise ImportError(
            f"PyTorch must be installed to read {path}: pip install 'keras-fcn[torch]'."
        ) from error

    with damaged_file(path, ".pth state dict of pytorch-fcn"):
        try:
            with torch.serialization.safe_globals([(_Unread, name) for name in _NUMPY_NAMES]):
                state = torch.load(
                    path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path)
                )
        except UnicodeDecodeError as error:  # PyTorch takes an encoding only if it runs code.
            raise ValueError(_OF_PYTHON_2) from error
        except pickle.UnpicklingError as error:
            # PyTorch's own message advises to run the code in the file.
            raise ValueError(
                next(
                    (reason for word, reason in _REFUSED.items() if word in str(error)),
                    "it is damaged, or no file of torch.save, such as a pointer of Git LFS",
                )
            ) from error
        if not isinstance(state, Mapping):
            raise ValueError(f"it holds a {type(state).__name__}, not a state dict")
        for key in ("model_state_dict", "state_dict"):
            state = state.get(key, state)
        entries = by_name(_entry(key, tensor) for key, tensor in state.items())
        if any(layer in _TORCHVISION_NAMES for layer, _ in entries):
            _check_caffe_vgg16(path)
            entries = {
                (_TORCHVISION_NAMES.get(layer, layer), name): entry
                for (layer, name), entry in entries.items()
            }
    yield Contents(entries)


class _Unread:
    """Stands for a NumPy object in a file, of which nothing is used: no code of NumPy reads it."""

    def __init__(self, *arguments):
        pass

    def __setstate__(self, state):
        pass


def _entry(key, tensor):
    import torch

    plain = isinstance(tensor, torch.Tensor) and tensor.layout == torch.strided
    if not plain or tensor.is_quantized or tensor.is_complex() or tensor.device.type != "cpu":
        raise ValueError(f"{key!r} must be a plain tensor of numbers")
    layer, _, variable = _WRAPPERS.sub("", key).rpartition(".")
    key = layer, _VARIABLE_NAMES.get(variable, variable)
    return key, Entry(tuple(tensor.shape), lambda: tensor.detach().float().numpy())


def _check_caffe_vgg16(path):
    if md5_of(path) != CAFFE_VGG16_MD5:
        raise ValueError(
            "torchvision's VGG-16 was trained on RGB divided by 255, not on BGR minus the mean; "
            "pass weights='imagenet', or pytorch-fcn's vgg16_from_caffe.pth"
        )
