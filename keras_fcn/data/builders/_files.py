"""Reads and checks the files of data sets: lists of images, MATLAB files and label maps."""

import io
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np
import tensorflow as tf

from keras_fcn.data.examples import check_same_size
from keras_fcn.data.formats.classes import read_lines
from keras_fcn.spelling import counted


def read_names(path: Path) -> list[str]:
    """Reads a list of image names, one per line; a name that is there twice counts once.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it holds no names, or is no text.
    """
    names = [name for line in read_lines(path) for name in line.split()]
    if not names:
        raise ValueError(f"{path} must name at least one image. Received: an empty list.")
    return list(dict.fromkeys(names))


def check_files(paths: Iterable[Path], listed_in: str) -> None:
    """Checks that files exist before the first one is read.

    Args:
        paths: The files.
        listed_in: The list that names them, for the message.

    Raises:
        FileNotFoundError: If files are missing. The message names the first and counts them.
    """
    paths = list(paths)
    if missing := [path for path in paths if not path.is_file()]:
        raise FileNotFoundError(
            f"{listed_in} must name existing files. Received: {counted(len(paths), 'file')}, of "
            f"which {missing[0]} is missing"
            + (f", and {len(missing) - 1} more" if len(missing) > 1 else "")
            + ". Replace the data with a complete copy."
        )


def check_splits(
    names: Mapping[str, Iterable[str]], files_of: Callable[[str], Iterable[Path]], data_set: str
) -> None:
    """Checks that the files of all images exist before the first one is read.

    Args:
        names: Dictionary from a split to the names of its images.
        files_of: Function from the name of an image to its files.
        data_set: Name of the data set, for the message.

    Raises:
        FileNotFoundError: As `check_files`.
    """
    for split, found in names.items():
        paths = (path for name in found for path in files_of(name))
        check_files(paths, f"{data_set}'s list of its split {split}")


def read_mat(path: Path, *keys: str) -> np.ndarray:
    """Reads a variable of a MATLAB file.

    Args:
        path: A .mat file of version 7 or older.
        *keys: Name of the variable, then of its field if it is a struct.

    Raises:
        ImportError: If SciPy is not installed.
        ValueError: If the file cannot be read or holds no such variable.
    """
    try:
        import scipy.io
    except ImportError as error:
        raise ImportError(
            "SciPy must be installed to read MATLAB files: pip install 'keras-fcn[data]'."
        ) from error
    try:
        value = scipy.io.loadmat(io.BytesIO(path.read_bytes()))
        for key in keys:
            value = value[key] if isinstance(value, dict) else value[key].item()
    except NotImplementedError as error:  # SciPy's message names a Python package to use instead.
        raise ValueError(
            f"{path} must be a MATLAB file of version 7 or older. Received: one of version 7.3, "
            "which is HDF5. Save it in MATLAB with the option '-v7'."
        ) from error
    except Exception as error:  # SciPy raises errors of many classes for damaged files.
        raise ValueError(
            f"{path} must hold {'.'.join(keys)} in MATLAB's format of version 7 or older. "
            f"Received: {error!r}. Replace the data with a complete copy."
        ) from error
    return value


def to_label_map(values: np.ndarray, class_ids: Mapping[int, int], path: Path) -> np.ndarray:
    """Maps the values of a file to class ids.

    Args:
        values: (height, width), any numeric type.
        class_ids: Class id of every valid value, 255 for void.
        path: The file, for the message.

    Output shape:
        (height, width, 1), uint8.

    Raises:
        ValueError: If `values` is no matrix of numbers, or holds another value.

    Examples:
        >>> to_label_map(np.array([[0, 2]]), {0: 255, 1: 0, 2: 1}, "a.mat").tolist()
        [[[255], [1]]]
    """
    values = np.asarray(values)
    if values.ndim != 2 or values.dtype.kind not in "biuf":
        raise ValueError(
            f"{path} must hold a full matrix of one number per pixel. Received: the shape "
            f"{values.shape} of {values.dtype}."
        )
    found, places = np.unique(values, return_inverse=True)
    if unknown := [value for value in found.tolist() if value not in class_ids]:
        raise ValueError(
            f"{path} must hold values from {min(class_ids)} to {max(class_ids)} that are a class "
            f"or void. Received: {unknown[0]}."
        )
    new = np.array([class_ids[value] for value in found.tolist()], dtype="uint8")
    return new[places.reshape(values.shape)][:, :, None]


def check_image(image: Path, label_maps: Mapping[Path, np.ndarray]) -> None:
    """Decodes an image as TFDS does in every epoch, and checks the size of its label maps.

    Args:
        image: The file, which TFDS stores unchanged.
        label_maps: The label map of each file.

    Raises:
        ValueError: If the image cannot be decoded, or as `check_same_size`.
    """
    content = image.read_bytes()
    try:
        size = tf.io.decode_image(content, channels=3, expand_animations=False).shape[:2]
    except tf.errors.InvalidArgumentError:
        raise ValueError(
            f"{image} must be a whole image. Received: {len(content)} bytes that cannot be "
            "decoded. Replace the data with a complete copy."
        ) from None
    for path, label_map in label_maps.items():
        check_same_size(image, size, path, label_map.shape[:2])


def shifted_class_ids(num_classes: int) -> dict[int, int]:
    """Returns the class ids of files in which 0 is void and 1 the first class.

    Examples:
        >>> shifted_class_ids(2)
        {0: 255, 1: 0, 2: 1}
    """
    return {0: 255, **{value: value - 1 for value in range(1, num_classes + 1)}}
