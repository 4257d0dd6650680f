"""Folders of images and label maps -> {"image", "label_map"}: finds, reads and checks the files."""

import collections
import concurrent.futures
import dataclasses
import os
import struct
import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

_IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp")
# Formats that keep every value; JPEG would invent class ids.
_LABEL_MAP_SUFFIXES = (".png", ".tif", ".tiff", ".bmp")

_GREY_16_BIT_MODES = ("I;16", "I;16L", "I;16B", "I;16N", "I")
_LABEL_MAP_MODES = ("1", "L", "P", *_GREY_16_BIT_MODES)
# Pillow stretches grey of 2 and 4 bits to 0..255: class 1 would come out as 85 or 17.
_STRETCHED_BY = {"L;2": 85, "L;4": 17}

# All that Pillow's decoders raise for a file that is no image or is cut off or damaged.
_DECODING_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    struct.error,
    Image.DecompressionBombError,
)


@dataclasses.dataclass(frozen=True)
class Pair:
    """The file of an image and the file of its label map."""

    image: Path
    label_map: Path


def find_pairs(images: str | os.PathLike, labels: str | os.PathLike) -> list[Pair]:
    """Pairs every image of one folder with the label map of the same name in another.

    Names are compared without their suffix: `images/street.jpg` goes with `labels/street.png`.
    Hidden files, subfolders and files of other formats are passed over. Every image needs a label
    map. Label maps without an image, as where `labels` holds several splits, are left out with a
    warning.

    Args:
        images: Folder of PNG, JPEG, WebP, TIFF or BMP files.
        labels: Folder of PNG, TIFF or BMP files.

    Returns:
        The pairs, sorted by name.

    Raises:
        FileNotFoundError: If one of the folders does not exist.
        ValueError: If the two are one folder, a name occurs twice in a folder, nothing matches,
            or an image has no label map.
    """
    images, labels = Path(images), Path(labels)
    image_files = _files_by_stem("images", images, _IMAGE_SUFFIXES)
    label_files = _files_by_stem("labels", labels, _LABEL_MAP_SUFFIXES)
    if images.samefile(labels):
        raise ValueError(f"`images` and `labels` must be two folders. Received: {images} for both.")
    if not image_files.keys() & label_files.keys():
        raise ValueError(
            "Each label map must have the name of its image, but no two names match: "
            f"{_count(image_files, 'image')} in {images}, "
            f"{_count(label_files, 'label map')} in {labels}."
        )
    if lonely := sorted(image_files.keys() - label_files.keys()):
        raise ValueError(
            f"{len(lonely)} of {len(image_files)} images in {images} have no label map in "
            f"{labels}: {_first_few(image_files[stem].name for stem in lonely)}. Add the label "
            "maps or move these images elsewhere."
        )
    if lonely := sorted(label_files.keys() - image_files.keys()):
        warnings.warn(
            f"{len(lonely)} of {len(label_files)} label maps in {labels} have no image in "
            f"{images} and are left out: {_first_few(label_files[stem].name for stem in lonely)}.",
            stacklevel=2,
        )
    return [Pair(image_files[stem], label_files[stem]) for stem in sorted(image_files)]


def read_image(path: str | os.PathLike) -> np.ndarray:
    """Reads an image as RGB, upright as its EXIF orientation says, without its alpha channel.

    Grey of 16 bits is scaled so that 65535 becomes 255.

    Output shape:
        (height, width, 3), uint8.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is no image, is cut off, or holds floating-point values.
    """
    image, _ = _decode(path)
    if image.mode in _GREY_16_BIT_MODES:
        grey = np.asarray(image).astype("int64")
        if grey.min() < 0 or grey.max() > 65535:
            raise ValueError(f"{path} must hold values of at most 16 bits. Save it as 8-bit RGB.")
        grey = ((grey + 128) // 257).astype("uint8")
        return np.repeat(grey[:, :, None], 3, axis=2)
    if image.mode == "F":
        raise ValueError(f"{path} holds floating-point values (mode F). Save it as 8-bit RGB.")
    # Without its transparency a palette converts to RGB in one step and without a warning.
    image.info.pop("transparency", None)
    return np.array(image.convert("RGB"))


def read_label_map(path: str | os.PathLike) -> np.ndarray:
    """Reads a label map: the grey value or the palette index of a pixel is its class id.

    An EXIF orientation is followed as in images. Colour files are refused even where red, green and
    blue agree, since a colour is no class id.

    Output shape:
        (height, width), int32.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is no image, is cut off, holds colours or is a JPEG.
    """
    image, raw_mode = _decode(path)
    if image.mode not in _LABEL_MAP_MODES:
        raise ValueError(
            f"{path} must hold one class id per pixel, but it is a colour image (Pillow's mode "
            f"{image.mode}). Save it as a grey or palette PNG whose values are the class ids."
        )
    if image.format in ("JPEG", "MPO"):
        raise ValueError(
            f"{path} is a JPEG, whose compression changes class ids. Save the label map as PNG, "
            "from its source."
        )
    return np.array(image, dtype="int32") // _STRETCHED_BY.get(raw_mode, 1)


def check_label_map(
    path: str | os.PathLike, label_map: np.ndarray, num_classes: int, ignore_class: int | None
) -> None:
    """Checks that a label map holds nothing but class ids and `ignore_class`.

    Args:
        path: The file it was read from, for the message.
        label_map: (height, width), any integer type.
        num_classes: Class ids are 0 to `num_classes` - 1.
        ignore_class: Another value that may occur, or `None`.

    Raises:
        ValueError: If there is another value; names the file, the value and its first place.
    """
    wrong = (label_map < 0) | (label_map >= num_classes)
    if ignore_class is not None:
        wrong &= label_map != ignore_class
    if not wrong.any():
        return
    row, column = (int(index) for index in np.argwhere(wrong)[0])
    value = int(label_map[row, column])
    allowed = f"0 to {num_classes - 1}"
    if ignore_class is not None:
        allowed += f" and {ignore_class} (`ignore_class`)"
    others = [str(other) for other in np.unique(label_map[wrong]) if other != value]
    raise ValueError(
        f"{path} holds the value {value} at row {row}, column {column}"
        + (f" (elsewhere also {_first_few(others)})" if others else "")
        + f", but the class ids of {num_classes} classes are {allowed}. "
        + _way_out(value, np.unique(label_map), num_classes)
    )


def read_example(pair: Pair, num_classes: int, ignore_class: int | None) -> dict[str, np.ndarray]:
    """Reads and checks an image and its label map.

    Returns:
        "image": (height, width, 3), uint8, and "label_map": (height, width), int32.

    Raises:
        FileNotFoundError: If one of the files is gone.
        ValueError: If a file cannot be read, the sizes differ, or a value is no class id.
    """
    image, label_map = read_image(pair.image), read_label_map(pair.label_map)
    if image.shape[:2] != label_map.shape:
        (height, width), (label_height, label_width) = image.shape[:2], label_map.shape
        message = (
            "An image and its label map must have the same size. Received (width x height): "
            f"{pair.image} {width}x{height}, {pair.label_map} {label_width}x{label_height}."
        )
        if image.shape[:2] == label_map.shape[::-1]:
            message += " One of them may lack the EXIF orientation that turns the other upright."
        raise ValueError(message)
    check_label_map(pair.label_map, label_map, num_classes, ignore_class)
    return {"image": image, "label_map": label_map}


def check_pairs(
    pairs: Sequence[Pair],
    num_classes: int,
    ignore_class: int | None,
    progress: Callable[[int, int], None] | None = None,
) -> dict[tuple[int, int], int]:
    """Reads every pair once, so that a bad file shows before training and not hours into it.

    Args:
        pairs: As from `find_pairs`.
        num_classes: See `check_label_map`.
        ignore_class: See `check_label_map`.
        progress: Called after every pair with the number done and the number of all.

    Returns:
        How many images there are of each size (height, width).

    Raises:
        FileNotFoundError, ValueError: What `read_example` raises for the first bad pair in order.
    """

    def size(pair):
        return read_example(pair, num_classes, ignore_class)["label_map"].shape

    sizes = collections.Counter()
    with concurrent.futures.ThreadPoolExecutor() as threads:
        for done, image_size in enumerate(threads.map(size, pairs), start=1):
            sizes[image_size] += 1
            if progress is not None:
                progress(done, len(pairs))
    return dict(sizes)


def _files_by_stem(argument, folder, suffixes):
    if not folder.is_dir():
        raise FileNotFoundError(f"`{argument}` must be a folder. Received: {argument}={folder}.")
    names = sorted(
        path.name for path in folder.iterdir() if path.is_file() and not path.name.startswith(".")
    )
    files = {}
    for path in (folder / name for name in names):
        if path.suffix.lower() not in suffixes:
            continue
        if path.stem in files:
            raise ValueError(
                f"{folder} must hold one file per name. Received: {files[path.stem].name} and "
                f"{path.name}."
            )
        files[path.stem] = path
    if not files:
        found = f"{len(names)} other files: {_first_few(names)}" if names else "no files"
        raise ValueError(
            f"`{argument}` must be a folder of {', '.join(suffixes)} files. Received: {folder} "
            f"with {found}."
        )
    return files


def _decode(path):
    """(Pillow image, upright; the mode in which the file stores its values, "" if unknown)."""
    try:
        with Image.open(path) as image:
            raw_mode = image.tile[0][3] if image.tile else ""
            ImageOps.exif_transpose(image, in_place=True)
            image.load()
    except FileNotFoundError:
        raise
    except _DECODING_ERRORS as error:
        raise ValueError(f"{path} cannot be read as an image: {error}.") from None
    return image, raw_mode[0] if isinstance(raw_mode, tuple) else raw_mode


def _way_out(value, values, num_classes):
    if num_classes == 2 and values.tolist() == [0, 255]:
        return "Save the second class as 1 instead of 255."
    way_out = (
        f"If {value} marks pixels to leave out, pass `ignore_class={value}` "
        f"(--ignore-class {value})"
    )
    if value < num_classes or value == 255:
        return f"{way_out}."
    return f"{way_out}; if it is a class, `num_classes` must be at least {value + 1}."


def _count(files, noun):
    example = next(iter(files.values())).name
    return f"{len(files)} {noun}{'s' if len(files) > 1 else ''} such as {example}"


def _first_few(names: Iterable[str], most=3):
    names = list(names)
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")
