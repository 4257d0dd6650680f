"""Coordinate maps from feature maps to the image, and the crop offsets that follow from them.

A layer maps its output coordinate o to the input coordinate x = stride * o + offset, the centre of
o's receptive field. Along a path the maps compose. Two feature maps of the same stride are aligned
when one of them is cropped by the difference of their offsets. This derives the crop offsets 19,
27, 31, 5 and 9 of the reference release, and those of every other padding. Pure Python, without
Keras.
"""

import dataclasses
import math
import numbers
from fractions import Fraction

from keras_fcn.arguments import as_tuple, integer, wrong
from keras_fcn.spec import VGG16_CONVOLUTIONS


@dataclasses.dataclass(frozen=True)
class CoordinateMap:
    """The affine map from output to input coordinates of a layer or a path, along one axis.

    Output pixel o lies at the input coordinate `stride * o + offset`, the centre of its receptive
    field: the input pixels from `stride * o + first` to `stride * o + last`.

    Args:
        stride: Input pixels per output pixel.
        offset: Input coordinate of output pixel 0.
        first: First input pixel of output pixel 0's receptive field; `offset` by default.
        last: Its last one. Both are infinite for an unbounded receptive field. After upsampling the
            outputs of different phases see different pixels, and these are bounds of them all.
    """

    stride: Fraction
    offset: Fraction
    first: Fraction | float = None  # type: ignore[assignment]
    last: Fraction | float = None  # type: ignore[assignment]

    def __post_init__(self):
        for name in ("first", "last"):
            if getattr(self, name) is None:
                object.__setattr__(self, name, self.offset)
        for name, value in vars(self).items():
            if not isinstance(value, numbers.Real) or math.isnan(value):
                raise wrong(name, "a number", value)
        if not 0 < self.stride < math.inf or math.isinf(self.offset):
            raise ValueError(
                "`stride` must be finite and greater than 0, and `offset` finite. Received: "
                f"stride={self.stride}, offset={self.offset}."
            )

    @property
    def receptive_field(self) -> int | float:
        """Size of the receptive field in input pixels; an upper bound after upsampling."""
        if math.isinf(self.first) or math.isinf(self.last):
            return math.inf
        return math.floor(self.last) - math.ceil(self.first) + 1

    def then(self, layer: "CoordinateMap") -> "CoordinateMap":
        """Returns the map of this path followed by `layer`, another `CoordinateMap`."""
        return CoordinateMap(
            self.stride * layer.stride,
            self.stride * layer.offset + self.offset,
            self.stride * layer.first + self.first,
            self.stride * layer.last + self.last,
        )


@dataclasses.dataclass(frozen=True)
class FeatureMap:
    """Where the pixels of a layer's output lie in the image.

    Args:
        height: `CoordinateMap` along the rows.
        width: `CoordinateMap` along the columns.
        size: (height, width) of the output in pixels.
        rows_axis: Axis of the output tensor that holds the rows; the columns follow it.
    """

    height: CoordinateMap
    width: CoordinateMap
    size: tuple[int, int]
    rows_axis: int = 1

    @property
    def axes(self) -> tuple[CoordinateMap, CoordinateMap]:
        """The `CoordinateMap` along the rows, and that along the columns."""
        return self.height, self.width

    def then(
        self, height: CoordinateMap, width: CoordinateMap, size: tuple[int, int] | None = None
    ) -> "FeatureMap":
        """Returns the map of this path followed by a layer of these two maps and output size."""
        return FeatureMap(
            self.height.then(height), self.width.then(width), size or self.size, self.rows_axis
        )

    def __str__(self):
        return " x ".join(f"(stride {axis.stride}, offset {axis.offset})" for axis in self.axes)


IMAGE = CoordinateMap(Fraction(1), Fraction(0))


def convolution(
    kernel_size: int, stride: int = 1, padding: int = 0, dilation: int = 1
) -> CoordinateMap:
    """Returns the `CoordinateMap` of a convolution or pool.

    Args:
        kernel_size: Size of the kernel in pixels along the axis.
        stride: Its stride in pixels.
        padding: Pixels of padding before the first pixel.
        dilation: Dilation rate.
    """
    kernel_size = integer("kernel_size", kernel_size, least=1)
    stride = integer("stride", stride, least=1)
    padding = integer("padding", padding)
    reach = Fraction(integer("dilation", dilation, least=1) * (kernel_size - 1))
    return CoordinateMap(Fraction(stride), reach / 2 - padding, -Fraction(padding), reach - padding)


def transposed_convolution(
    kernel_size: int, stride: int = 1, padding: int = 0, dilation: int = 1
) -> CoordinateMap:
    """Returns the `CoordinateMap` of a transposed convolution: the inverse of `convolution`."""
    inverse = convolution(kernel_size, stride, padding, dilation)
    return CoordinateMap(
        1 / inverse.stride,
        -inverse.offset / inverse.stride,
        -inverse.last / inverse.stride,
        -inverse.first / inverse.stride,
    )


def crop_offset(upsampled: CoordinateMap, reference: CoordinateMap) -> int:
    """Returns how many pixels to crop from the start of `reference` to align it with `upsampled`.

    If the number is negative, crop `upsampled` by its absolute value instead.

    Args:
        upsampled: `CoordinateMap` of the upsampled feature map.
        reference: `CoordinateMap` of the map to align with: a skip connection, or `IMAGE`.

    Raises:
        ValueError: If the two differ in stride, or by a fraction of a pixel.
    """
    for name, found in (("upsampled", upsampled), ("reference", reference)):
        if not isinstance(found, CoordinateMap):
            raise wrong(name, "a CoordinateMap", found)
    if upsampled.stride != reference.stride:
        raise ValueError(
            "`upsampled` and `reference` must have the same stride. "
            f"Received: {upsampled.stride} and {reference.stride}."
        )
    offset = Fraction(upsampled.offset - reference.offset) / Fraction(reference.stride)
    if offset.denominator != 1:
        raise ValueError(
            "`upsampled` and `reference` must lie a whole number of pixels apart. "
            f"Received: {float(offset)} pixels."
        )
    return int(offset)


def vgg16_pool_maps(input_padding: int) -> dict[str, CoordinateMap]:
    """Returns the `CoordinateMap` of each pool of VGG-16, by name `"pool1"` to `"pool5"`.

    Args:
        input_padding: Zero padding around the image in pixels, in addition to the 1 pixel of
            padding of every convolution.
    """
    path = CoordinateMap(Fraction(1), Fraction(-integer("input_padding", input_padding, least=0)))
    maps = {}
    for block, convolutions in enumerate(VGG16_CONVOLUTIONS, start=1):
        for _ in range(convolutions):
            path = path.then(convolution(3, padding=1))
        path = path.then(convolution(2, stride=2))
        maps[f"pool{block}"] = path
    return maps


def fcn_crop_offsets(
    skips: tuple[str, ...], *, input_padding: int, fc6_kernel_size: int, fc6_padding: int
) -> tuple[int, ...]:
    """Returns the crop offsets of an FCN: one for each skip connection, then that of the logits.

    Each skip is added to the current scores, which are upsampled by 2 with a kernel of size 4. The
    final scores of output stride s are upsampled with a kernel of size 2s.

    Args:
        skips: Names of the fused pools, coarsest first, e.g. `("pool4", "pool3")`.
        input_padding: As in `vgg16_pool_maps`.
        fc6_kernel_size: Kernel size of fc6 in pixels.
        fc6_padding: Padding of fc6 in pixels of pool5.

    Examples:
        >>> fcn_crop_offsets(
        ...     ("pool4", "pool3"), input_padding=99, fc6_kernel_size=7, fc6_padding=0
        ... )
        (5, 9, 31)
    """
    pools = vgg16_pool_maps(input_padding)
    skips = as_tuple("skips", skips)
    if skips != ("pool4", "pool3", "pool2", "pool1")[: len(skips)]:
        raise wrong("skips", "the first of ('pool4', 'pool3', 'pool2', 'pool1')", skips)
    fc6_kernel_size = integer("fc6_kernel_size", fc6_kernel_size, least=1)
    fc6_padding = integer("fc6_padding", fc6_padding, least=0)
    scores = pools["pool5"].then(convolution(fc6_kernel_size, padding=fc6_padding))
    offsets = []
    for skip in skips:
        upsampled = scores.then(transposed_convolution(4, stride=2))
        offset = crop_offset(upsampled, pools[skip])
        scores = upsampled if offset >= 0 else pools[skip]
        offsets.append(offset)
    stride = int(scores.stride)
    logits = scores.then(transposed_convolution(2 * stride, stride=stride))
    return (*offsets, -crop_offset(logits, IMAGE))
