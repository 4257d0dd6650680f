"""How scores are upsampled and cropped to align with finer features and with the image."""

import contextlib
import dataclasses

import keras

from keras_fcn.alignment import (
    IMAGE,
    CoordinateMap,
    FeatureMap,
    coordinate_maps,
    crop_offset,
    transposed_convolution,
)

# Image sizes are multiples of the coarsest stride; this many of them show how a network is aligned.
_MULTIPLES = 16


@dataclasses.dataclass(frozen=True)
class Upsampling:
    """How scores are upsampled and cropped to align with what they are added to.

    Args:
        kernel_size: Of the bilinear kernel: 2 * factor, or 2 * factor - 1.
        factor: Stride of the transposed convolution.
        crop: Pixels to crop from the start of the upsampled scores; if negative, its absolute value
            from the start of the reference.
        is_shorter: Whether the upsampled scores end before the reference, which is then cropped.
    """

    kernel_size: int
    factor: int
    crop: int
    is_shorter: bool = False


@dataclasses.dataclass(frozen=True)
class AlignedFeatures:
    """The features of a backbone that an FCN scores, and how they are aligned.

    Args:
        features: Functional model from the image to one feature map per output stride, coarsest
            first.
        strides: Their output strides in pixels.
        padding: Pixels of zeros on each side of the image, so that the logits cover it.
        upsamplings: One `Upsampling` for each skip connection, and one to the image.
        data_format: Layout of the feature maps.
    """

    features: keras.Model
    strides: tuple[int, ...]
    padding: int
    upsamplings: tuple[Upsampling, ...]
    data_format: str


def aligned(features: keras.Model) -> AlignedFeatures:
    """Returns how the outputs of `feature_pyramid` are upsampled and cropped to the image.

    Raises:
        ValueError: If no bilinear kernel aligns two of them on whole pixels.
    """
    found, _ = _maps(features, 2048)
    coarsest = max(int(m.height.stride) for m in found)
    for number in range(_MULTIPLES // 2):
        padding = number * coarsest
        # For the smallest image and for one whose features are far from any limit.
        plans = []
        for size in (2 * padding + coarsest, _MULTIPLES * coarsest):
            found, smallest = _maps(features, size)
            plan, covers = _plan(found, padding, size)
            plans.append(plan if covers and smallest > 0 else None)
        if plans[0] is not None and plans[0] == plans[1]:
            data_format = "channels_first" if found[0].rows_axis == 2 else "channels_last"
            strides = tuple(int(m.height.stride) for m in found)
            return AlignedFeatures(features, strides, padding, plans[0], data_format)
    raise ValueError(
        "`backbone` must have features that cover the image. Received: "
        f"{features.output_names} of {[m.size for m in found]} pixels for {size} x {size}."
    )


def _maps(features, size):
    """The maps of the outputs for a square image, and the smallest size of any feature map."""
    maps = coordinate_maps(features, misaligned="first", image_size=(size, size))
    for name in features.output_names:
        rows, columns = maps[name].axes
        if (rows.stride, rows.offset) != (columns.stride, columns.offset) or len(
            set(maps[name].size)
        ) > 1:
            raise ValueError(
                "`backbone` must have the same padding along rows and columns. Received: layer "
                f"{name!r} with (rows) x (columns) {maps[name]}."
            )
    smallest = min(min(found.size) for found in maps.values())
    return [maps[name] for name in features.output_names], smallest


def _plan(maps: list[FeatureMap], padding: int, size: int) -> tuple[tuple[Upsampling, ...], bool]:
    """The upsamplings, and whether the logits cover an image of `size` - 2 * `padding`."""
    axes = [CoordinateMap(m.height.stride, m.height.offset - padding) for m in maps]
    scores, length, plan = axes[0], maps[0].size[0], []
    targets = [*zip(axes[1:], [m.size[0] for m in maps[1:]], strict=True)]
    for reference, reference_length in [*targets, (IMAGE, size - 2 * padding)]:
        step = bilinear_upsampling(scores, reference)
        upsampled = scores.then(transposed_convolution(step.kernel_size, step.factor))
        length = (length - 1) * step.factor + step.kernel_size
        if step.crop >= 0:
            scores, length = reference, length - step.crop
        else:
            scores, reference_length = upsampled, reference_length + step.crop
        step = dataclasses.replace(step, is_shorter=length < reference_length)
        plan.append(step)
        length = min(length, reference_length)
    return tuple(plan), step.crop >= 0 and not step.is_shorter


def bilinear_upsampling(scores: CoordinateMap, reference: CoordinateMap) -> Upsampling:
    """Returns the bilinear kernel and the crop that align scores with what they are added to.

    Args:
        scores: Coordinate map of the scores.
        reference: That of the finer features, or of the image.

    Raises:
        ValueError: If no kernel of twice the factor, or one less, aligns them on whole pixels.
    """
    ratio = scores.stride / reference.stride
    if ratio.denominator != 1 or ratio == 1:
        raise ValueError(
            "The output strides of `backbone` must divide each other. Received: "
            f"{scores.stride} and {reference.stride}."
        )
    factor = int(ratio)
    for kernel_size in (2 * factor, 2 * factor - 1):
        upsampled = scores.then(transposed_convolution(kernel_size, factor))
        with contextlib.suppress(ValueError):  # Not on whole pixels.
            return Upsampling(kernel_size, factor, -crop_offset(upsampled, reference))
    raise ValueError(
        "`backbone` must have outputs that a bilinear kernel aligns on whole pixels. Received: "
        f"offset {scores.offset} at stride {scores.stride} and offset {reference.offset} at stride "
        f"{reference.stride}. Choose other layers with `skips`."
    )
