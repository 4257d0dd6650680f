"""Writes image files as cameras and annotation tools do."""

import struct
import zlib

import numpy as np
from PIL import Image

EXIF_ORIENTATION = 0x0112

# What an upright viewer shows of an image that is stored as `stored`, from the EXIF standard: the
# place of the stored row 0 and column 0 is (1) top left, (2) top right, (3) bottom right, ...
UPRIGHT = {
    1: lambda stored: stored,
    2: lambda stored: stored[:, ::-1],
    3: lambda stored: stored[::-1, ::-1],
    4: lambda stored: stored[::-1],
    5: lambda stored: stored.swapaxes(0, 1),
    6: lambda stored: stored.swapaxes(0, 1)[:, ::-1],
    7: lambda stored: stored.swapaxes(0, 1)[::-1, ::-1],
    8: lambda stored: stored.swapaxes(0, 1)[::-1],
}


def pixels(height, width, channels=3, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype="uint8")


def class_ids(height, width, num_classes=3, seed=0, dtype="uint8"):
    return np.random.default_rng(seed).integers(0, num_classes, (height, width)).astype(dtype)


def save(array, path, mode=None, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(array)
    (image.convert(mode) if mode else image).save(path, **options)
    return path


def save_palette(array, path, **options):
    image = Image.fromarray(array)
    image.putpalette([value for index in range(256) for value in (index, 255 - index, 7)])
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)
    return path


def save_packed_grey_png(array, path, bits):
    """A grey PNG of less than 8 bits per pixel, which Pillow cannot write; PNG standard, ch. 7."""
    height, width = array.shape
    rows = b""
    for row in array:
        stream = "".join(f"{value:0{bits}b}" for value in row)
        stream += "0" * (-len(stream) % 8)
        rows += b"\0" + bytes(int(stream[i : i + 8], 2) for i in range(0, len(stream), 8))

    def chunk(kind, content):
        checksum = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + checksum

    header = struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )
    return path


def orientation(value):
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = value
    return exif


def cut(path, share):
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    return path


def damage_chunk(path):
    """Shortens the first data chunk of a PNG, so that no chunk follows where one should."""
    content = path.read_bytes()
    place = content.index(b"IDAT")
    path.write_bytes(content[: place - 4] + struct.pack(">I", 3) + content[place:])
    return path
