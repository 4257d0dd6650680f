"""The files within the data sets: lists of images, MATLAB files and label maps."""

import io
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from PIL import Image


def read_names(path: Path) -> list[str]:
    """Reads a list of image names, one a line.

    Raises:
        FileNotFoundError: If there is no such file.
    """
    return path.read_text(encoding="utf-8").split()


def check_files(paths: Iterable[Path], listed_in: str) -> None:
    """Checks that files are there before the first one is read.

    Args:
        paths: The files.
        listed_in: What says that they should be there, for the message.

    Raises:
        FileNotFoundError: If some are not; names the first and counts them.
    """
    paths = list(paths)
    if missing := [path for path in paths if not path.is_file()]:
        raise FileNotFoundError(
            f"{listed_in} names images whose files are not all there: {missing[0]} is missing"
            + (f", and so are {len(missing) - 1} more" if len(missing) > 1 else "")
            + f", of {len(paths)} files. Put a complete copy in its place."
        )


def read_mat(path: Path, *keys: str) -> np.ndarray:
    """Reads a variable of a MATLAB file.

    Args:
        path: A .mat file of version 7 or older.
        *keys: Name of the variable, then of the field in it, if it is a struct.

    Raises:
        ImportError: If SciPy is not installed.
        ValueError: If the file cannot be read or holds no such variable.
    """
    try:
        import scipy.io
    except ImportError as error:
        raise ImportError(
            "Reading MATLAB files needs SciPy: pip install 'keras-fcn[data]'"
        ) from error
    try:
        value = scipy.io.loadmat(io.BytesIO(path.read_bytes()))
        for key in keys:
            value = value[key] if isinstance(value, dict) else value[key].item()
    except Exception as error:  # SciPy's reader raises whatever a damaged file leads it to.
        raise ValueError(f"{path} must hold {'.'.join(keys)}: {error!r}.") from error
    return value


def to_label_map(values: np.ndarray, class_ids: Mapping[int, int], path: Path) -> np.ndarray:
    """Maps the values of a file to class ids.

    Args:
        values: (height, width), any numeric type.
        class_ids: The class id, or 255 for void, of every value that may occur.
        path: The file, for the message.

    Output shape:
        (height, width, 1), uint8.

    Raises:
        ValueError: If there is another value.

    Examples:
        >>> to_label_map(np.array([[0, 2]]), {0: 255, 1: 0, 2: 1}, "a.mat").tolist()
        [[[255], [1]]]
    """
    found, places = np.unique(values, return_inverse=True)
    if unknown := [value for value in found.tolist() if value not in class_ids]:
        raise ValueError(
            f"{path} must hold values from {min(class_ids)} to {max(class_ids)} that are a class "
            f"or void. Received: {unknown[0]}."
        )
    new = np.array([class_ids[value] for value in found.tolist()], dtype="uint8")
    return new[places.reshape(values.shape)][:, :, None]


def check_size(image: Path, label_map: np.ndarray, path: Path) -> None:
    """Checks that a label map is as large as its image, whose header alone is read.

    Raises:
        ValueError: If it is not; names both files.
    """
    with Image.open(image) as opened:
        width, height = opened.size
    if label_map.shape[:2] != (height, width):
        raise ValueError(
            "An image and its label map must have the same size. Received (width x height): "
            f"{image} {width}x{height}, {path} {label_map.shape[1]}x{label_map.shape[0]}."
        )


def shifted_class_ids(num_classes: int) -> dict[int, int]:
    """Class ids of files in which 0 is void and 1 the first class.

    Examples:
        >>> shifted_class_ids(2)
        {0: 255, 1: 0, 2: 1}
    """
    return {0: 255, **{value: value - 1 for value in range(1, num_classes + 1)}}
