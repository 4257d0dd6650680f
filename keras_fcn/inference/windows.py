"""Splits an image into overlapping windows whose predictions join to that of the whole image."""

import dataclasses
import math

import keras

from keras_fcn.alignment import FeatureMap, coordinate_maps
from keras_fcn.inference.prediction import image_layout

# Of the image on which a network is read: large enough that none of its feature maps is empty.
_LEAST_SIZE = 2048


@dataclasses.dataclass(frozen=True)
class Window:
    """A part of an image that is predicted at once, and the smaller part that is kept of it.

    Args:
        rows: The image's rows that the model sees.
        columns: The image's columns that the model sees.
        kept_rows: The image's rows whose prediction is exact and kept.
        kept_columns: The image's columns whose prediction is exact and kept.
    """

    rows: slice
    columns: slice
    kept_rows: slice
    kept_columns: slice

    @property
    def kept(self) -> tuple[slice, slice]:
        """The kept rows and columns, counted from the start of the window."""
        return (
            slice(self.kept_rows.start - self.rows.start, self.kept_rows.stop - self.rows.start),
            slice(
                self.kept_columns.start - self.columns.start,
                self.kept_columns.stop - self.columns.start,
            ),
        )


@dataclasses.dataclass(frozen=True)
class _Halo:
    """How windows must lie along an axis, in pixels.

    Args:
        stride: The starts of windows are multiples of it.
        before: How far the receptive field of a pixel extends to smaller coordinates.
        after: How far it extends to larger ones.
    """

    stride: int
    before: int
    after: int


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
    halos = _halos(model, size)
    rows, columns = (_along(length, tile, halo) for length, halo in zip(size, halos, strict=True))
    return [
        Window(row, column, kept_row, kept_column)
        for row, kept_row in rows
        for column, kept_column in columns
    ]


def _along(length, tile, halo):
    """Returns the slices along an axis: pairs of what the model sees and what is kept."""
    if length <= tile:
        return [(slice(0, length), slice(0, length))]
    size = tile - (tile - length) % halo.stride
    least = halo.before + halo.after + halo.stride
    if size < least:
        least += (length - least) % halo.stride
        raise ValueError(
            f"`tile` must be at least {least} for this model and image: the halo of a window is "
            f"{halo.before} pixels before and {halo.after} after what is kept. Received: {tile=}."
        )
    count = _count(length, size, halo)
    # The smallest windows of the same number.
    while size - halo.stride >= least and _count(length, size - halo.stride, halo) == count:
        size -= halo.stride
    starts = [*range(0, length - size, _step(size, halo)), length - size]
    cuts = [0, *(start + halo.before for start in starts[1:]), length]
    return [
        (slice(start, start + size), slice(first, end))
        for start, first, end in zip(starts, cuts[:-1], cuts[1:], strict=True)
    ]


def _step(size, halo):
    return (size - halo.before - halo.after) // halo.stride * halo.stride


def _count(length, size, halo):
    return 1 + math.ceil((length - size) / _step(size, halo))


def _halos(model, size):
    """Returns the `_Halo` along the rows and along the columns."""
    first = 2 if image_layout(model) == "channels_first" else 1
    if model.inputs[0].shape[first : first + 2] != (None, None):
        raise ValueError(
            "`model` must take images of any size, to predict in tiles. Received: "
            f"{model.name!r}, which takes images of shape {tuple(model.inputs[0].shape[1:])}."
        )
    try:
        maps = coordinate_maps(model, misaligned="first")
        # Padding "same" with a stride depends on the image's size modulo the stride.
        strides = [_coarsest(maps, axis) for axis in ("height", "width")]
        image_size = tuple(
            length + stride * math.ceil(_LEAST_SIZE / stride)
            for length, stride in zip(size, strides, strict=True)
        )
        maps = coordinate_maps(model, misaligned="first", image_size=image_size)
    except ValueError as error:
        raise ValueError(
            f"`model` must be a network whose receptive field can be read, to predict in "
            f"tiles. Received: {model.name!r}. {error}"
        ) from error
    _check_bounded(model, maps)
    output = maps.get(model.output_names[0])
    if output is None or len(model.outputs) != 1:
        raise ValueError(
            f"`model` must return one map of logits. Received: {model.name!r}, whose outputs are "
            f"{', '.join(model.output_names)}."
        )
    return [
        _Halo(stride, -math.ceil(axis.first), math.floor(axis.last))
        for stride, axis in zip(strides, (output.height, output.width), strict=True)
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
