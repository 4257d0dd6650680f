"""Splits an image into overlapping windows whose predictions join to that of the whole image."""

import dataclasses
import itertools
import math
from collections.abc import Sequence
from fractions import Fraction

import keras

from keras_fcn.alignment import IMAGE, FeatureMap, coordinate_maps
from keras_fcn.alignment.graph import output_maps
from keras_fcn.inference.checks import image_layout

# Of the image on which a network is read: large enough that none of its feature maps is empty.
_LEAST_SIZE = 2048


@dataclasses.dataclass(frozen=True)
class Kept:
    """The part of an output for a window that equals that of the whole image.

    Args:
        rows: Its rows, in the output for the whole image.
        columns: Its columns there.
        within: Its rows and columns in the output for the window.
    """

    rows: slice
    columns: slice
    within: tuple[slice, slice]


@dataclasses.dataclass(frozen=True)
class Window:
    """A part of an image that is predicted at once.

    Args:
        rows: The image's rows that the model sees.
        columns: The image's columns that the model sees.
        kept: A `Kept` for each output of the model.
    """

    rows: slice
    columns: slice
    kept: tuple[Kept, ...]


@dataclasses.dataclass(frozen=True)
class Reach:
    """Which input pixels an output depends on along an axis.

    Output pixel o depends on the input pixels from `stride * o + first` to `stride * o + last`.

    Args:
        stride: Input pixels per output pixel.
        first: First input pixel that output pixel 0 depends on.
        last: Its last one.
        size: Output pixels for the whole input.
    """

    stride: Fraction
    first: Fraction
    last: Fraction
    size: int

    def start(self) -> int:
        """Returns the first pixel of a window's output that sees nothing before the window."""
        return max(0, math.floor((-1 - self.first) / self.stride) + 1)

    def stop(self, length: int, whole: int) -> int:
        """Returns the end of the pixels that see nothing behind a window.

        Args:
            length: Input pixels of the window.
            whole: Those of the whole input.
        """
        size = self.size - int((whole - length) / self.stride)
        return min(size, math.ceil((length - self.last) / self.stride))


@dataclasses.dataclass(frozen=True)
class Geometry:
    """How windows must lie, along the rows and along the columns.

    Args:
        size: Height and width of the input.
        strides: Pixels of which the start of a window is a multiple.
        reaches: The `Reach` of each output, along the rows and along the columns.
    """

    size: tuple[int, int]
    strides: tuple[int, int]
    reaches: Sequence[tuple[Reach, Reach]]

    def windows(self, tile: int) -> list[Window]:
        """Returns windows as the function `windows` does, for every output of a model.

        Raises:
            ValueError: If `tile` is too small.
        """
        rows, columns = (
            _along(length, tile, stride, [reach[axis] for reach in self.reaches])
            for axis, (length, stride) in enumerate(zip(self.size, self.strides, strict=True))
        )
        return [
            Window(
                row,
                column,
                tuple(
                    Kept(kept_row, kept_column, (row_within, column_within))
                    for (kept_row, row_within), (kept_column, column_within) in zip(
                        row_parts, column_parts, strict=True
                    )
                ),
            )
            for row, row_parts in rows
            for column, column_parts in columns
        ]


def windows(model: keras.Model, size: tuple[int, int], tile: int) -> list[Window]:
    """Returns the windows of an image, row by row; their kept parts cover it without overlap.

    A window starts at a multiple of the coarsest output stride, so that its feature maps are parts
    of those of the whole image. All windows have one size, which equals that of the image modulo
    the stride, so that padding and pools that round up do the same at the lower and right border.
    Along a border that is not the image's, the receptive field's extent (the halo) is not kept,
    because the model sees padding there instead of the neighbouring pixels.

    Args:
        model: A functional model from images of any size to one score map of their size.
        size: (height, width) of the image in pixels.
        tile: Largest height and width of a window in pixels, halo included.

    Raises:
        ValueError: If the model's receptive field is unbounded or cannot be read, or `tile` is
            smaller than the halo allows.
    """
    geometry, maps = read_geometry(model, size)
    if len(model.outputs) != 1 or not maps:
        names = getattr(model, "output_names", [model.layers[-1].name])  # Sequential has none.
        raise ValueError(
            f"`model` must return one map of logits. Received: {model.name!r}, whose outputs are "
            f"{', '.join(names)}."
        )
    return geometry.windows(tile)


def read_geometry(model: keras.Model, size: tuple[int, int]) -> tuple[Geometry, list[FeatureMap]]:
    """Returns the `Geometry` of a model, and the maps of its outputs that have positions.

    Args:
        model: A functional model of images of any size.
        size: (height, width) of the image in pixels.

    Raises:
        ValueError: If the model's receptive field is unbounded or cannot be read.
    """
    rows_axis = 2 if image_layout(model) == "channels_first" else 1
    if model.inputs[0].shape[rows_axis : rows_axis + 2] != (None, None):
        raise ValueError(
            "`model` must take images of any size, to predict in tiles. Received: "
            f"{model.name!r}, which takes images of shape {tuple(model.inputs[0].shape[1:])}."
        )
    try:
        maps = coordinate_maps(model, misaligned="first")
        # Padding "same" with a stride depends on the image's size modulo the stride.
        strides = _coarsest(maps, "height"), _coarsest(maps, "width")
        beyond = [stride * math.ceil(_LEAST_SIZE / stride) for stride in strides]
        larger = size[0] + beyond[0], size[1] + beyond[1]
        maps = coordinate_maps(model, misaligned="first", image_size=larger)
        outputs = output_maps(model, [FeatureMap(IMAGE, IMAGE, larger, rows_axis)])
    except ValueError as error:
        raise ValueError(
            f"`model` must be a network whose receptive field can be read, to predict in "
            f"tiles. Received: {model.name!r}. {error}"
        ) from error
    _check_bounded(model, maps)
    outputs = [_of_size(found, beyond) for found in outputs if isinstance(found, FeatureMap)]
    reaches = [
        (_reach(found.height, found.size[0]), _reach(found.width, found.size[1]))
        for found in outputs
    ]
    return Geometry(size, strides, reaches), outputs


def _of_size(found, beyond):
    """Returns the map of an output for an image that is smaller by the pixels `beyond`."""
    height, width = (
        length - int(more / axis.stride)
        for length, axis, more in zip(found.size, found.axes, beyond, strict=True)
    )
    return dataclasses.replace(found, size=(height, width))


def _reach(axis, size):
    return Reach(axis.stride, axis.first, axis.last, size)


def _along(length, tile, stride, reaches):
    """Returns the slices along an axis: what the model sees, and for each output what is kept of it
    in the output for the whole image and in that for the window.
    """
    if length <= tile:
        everything = [(slice(0, reach.size),) * 2 for reach in reaches]
        return [(slice(0, length), everything)]

    def step(size):
        """How far apart windows of a size may start."""
        steps = (reach.stride * (reach.stop(size, length) - reach.start()) for reach in reaches)
        return math.floor(min(steps) / stride) * stride

    def count(size):
        return 1 + math.ceil((length - size) / step(size))

    least = next(size for size in itertools.count(length % stride, stride) if step(size) > 0)
    size = tile - (tile - length) % stride
    if size < least:
        raise ValueError(
            f"`tile` (--tile) must be at least {least} for this model and image, because windows "
            f"overlap by the halo of their receptive field, about {least - stride} pixels. "
            f"Received: {tile=}."
        )
    # The smallest windows of the same number.
    while size - stride >= least and count(size - stride) == count(size):
        size -= stride
    starts = [*range(0, length - size, step(size)), length - size]
    kept = [_kept(starts, reach) for reach in reaches]
    seen = [slice(start, start + size) for start in starts]
    return list(zip(seen, zip(*kept, strict=True), strict=True))


def _kept(starts, reach):
    """Returns for each window the pixels of an output that are kept, in the whole and within."""
    shifts = [int(start / reach.stride) for start in starts]
    cuts = [0, *(shift + reach.start() for shift in shifts[1:]), reach.size]
    return [
        (slice(first, end), slice(first - shift, end - shift))
        for shift, first, end in zip(shifts, cuts[:-1], cuts[1:], strict=True)
    ]


def _coarsest(maps: dict[str, FeatureMap], axis: str) -> int:
    """Returns the smallest number of pixels that is a multiple of the strides of all layers."""
    return math.lcm(*(getattr(found, axis).stride.numerator for found in maps.values()))


def _check_bounded(model, maps):
    for name, found in maps.items():
        if math.isinf(found.height.receptive_field) or math.isinf(found.width.receptive_field):
            raise ValueError(
                "`model` must have a bounded receptive field, to predict in tiles. Received: "
                f"{model.name!r}, whose layer {name!r} depends on the whole image."
            )
