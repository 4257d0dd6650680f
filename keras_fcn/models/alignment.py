"""Where every pixel of a feature map lies in the image, and the crops that follow from it.

A layer maps its output coordinate o to the input coordinate x = scale * o + offset. Along a path
the maps compose; two maps of the same scale that meet align when one of them is cropped by the
difference of their offsets. The numbers 19, 27, 31, 5 and 9 of the reference release come out of
this, and so do those of every other padding. Pure Python, without Keras.
"""

import dataclasses
from fractions import Fraction

VGG16_CONVOLUTIONS = (2, 2, 3, 3, 3)
"""Convolutions in each block of VGG-16, which ends in a pool of size 2 and stride 2."""


@dataclasses.dataclass(frozen=True)
class CoordinateMap:
    """The affine map from a layer's (or a path's) output coordinates to its input coordinates.

    Args:
        scale: Input pixels per output pixel; the stride of a convolution.
        offset: Input coordinate of output pixel 0.
    """

    scale: Fraction
    offset: Fraction

    def then(self, layer: "CoordinateMap") -> "CoordinateMap":
        """Returns the map of this path followed by `layer`, another `CoordinateMap`."""
        return CoordinateMap(self.scale * layer.scale, self.scale * layer.offset + self.offset)


IMAGE = CoordinateMap(Fraction(1), Fraction(0))


def convolution(kernel_size: int, stride: int = 1, padding: int = 0) -> CoordinateMap:
    """Returns the `CoordinateMap` of a convolution or pool, sizes in pixels along one axis."""
    return CoordinateMap(Fraction(stride), Fraction(kernel_size - 1, 2) - padding)


def transposed_convolution(kernel_size: int, stride: int = 1, padding: int = 0) -> CoordinateMap:
    """Returns the `CoordinateMap` of a transposed convolution: the inverse of `convolution`."""
    inverse = convolution(kernel_size, stride, padding)
    return CoordinateMap(1 / inverse.scale, -inverse.offset / inverse.scale)


def crop_offset(upsampled: CoordinateMap, reference: CoordinateMap) -> int:
    """Returns how many pixels to crop from the start of `reference` to align it with `upsampled`.

    A negative number says that `upsampled` is to be cropped instead, by its absolute value.

    Args:
        upsampled: `CoordinateMap` of the upsampled feature map.
        reference: `CoordinateMap` of the map that it meets: a skip, or `IMAGE`.

    Raises:
        ValueError: If the two differ in scale, or by a fraction of a pixel.
    """
    if upsampled.scale != reference.scale:
        raise ValueError(
            "`upsampled` and `reference` must have the same scale. "
            f"Received: {upsampled.scale} and {reference.scale}."
        )
    offset = (upsampled.offset - reference.offset) / reference.scale
    if offset.denominator != 1:
        raise ValueError(
            "`upsampled` and `reference` must lie a whole number of pixels apart. "
            f"Received: {float(offset)} pixels."
        )
    return int(offset)


def vgg16_pool_maps(input_padding: int) -> dict[str, CoordinateMap]:
    """Returns the `CoordinateMap` of each pool of VGG-16, by name `"pool1"` to `"pool5"`.

    Args:
        input_padding: Pixels of zeros around the image, beside the 1 of every convolution.
    """
    path = CoordinateMap(Fraction(1), Fraction(-input_padding))
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
    """Returns the crop offsets of an FCN: one for each skip, and the one of the logits.

    Each skip meets the scores so far, upsampled by 2 with a kernel of 4; the last scores of stride
    s are upsampled with a kernel of 2s.

    Args:
        skips: Names of the pools that are fused, coarsest first, e.g. `("pool4", "pool3")`.
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
    scores = pools["pool5"].then(convolution(fc6_kernel_size, padding=fc6_padding))
    offsets = []
    for skip in skips:
        upsampled = scores.then(transposed_convolution(4, stride=2))
        offset = crop_offset(upsampled, pools[skip])
        scores = upsampled if offset >= 0 else pools[skip]
        offsets.append(offset)
    stride = int(scores.scale)
    logits = scores.then(transposed_convolution(2 * stride, stride=stride))
    return (*offsets, -crop_offset(logits, IMAGE))
