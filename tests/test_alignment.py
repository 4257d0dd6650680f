import keras
import pytest
from helpers import NARROW_FILTERS

import keras_fcn
from keras_fcn import alignment
from keras_fcn.alignment import fcn_crop_offsets

pytestmark = pytest.mark.any_backend
SKIPS = {"FCN32s": (), "FCN16s": ("pool4",), "FCN8s": ("pool4", "pool3")}


@pytest.mark.parametrize(
    ("model", "offsets"), [("FCN32s", (19,)), ("FCN16s", (5, 27)), ("FCN8s", (5, 9, 31))]
)
def test_paper_padding_gives_the_offsets_of_the_reference_release(model, offsets):
    assert (
        fcn_crop_offsets(SKIPS[model], input_padding=99, fc6_kernel_size=7, fc6_padding=0)
        == offsets
    )


@pytest.mark.parametrize(
    ("model", "offsets"), [("FCN32s", (16,)), ("FCN16s", (-1, 8)), ("FCN8s", (-1, -1, 4))]
)
def test_without_input_padding_the_upsampled_maps_are_cropped(model, offsets):
    assert (
        fcn_crop_offsets(SKIPS[model], input_padding=0, fc6_kernel_size=7, fc6_padding=3) == offsets
    )


def test_maps_compose():
    # A stride-2 pool after a 3x3 convolution padded by 1: output 3 covers pixels 6 and 7.
    path = alignment.IMAGE.then(alignment.convolution(3, padding=1))
    path = path.then(alignment.convolution(2, stride=2))
    assert path.stride * 3 + path.offset == 6.5


def test_a_transposed_convolution_undoes_its_convolution():
    path = alignment.convolution(64, stride=32, padding=5)
    path = path.then(alignment.transposed_convolution(64, stride=32, padding=5))
    assert (path.stride, path.offset) == (1, 0)


def test_maps_of_different_scale_do_not_align():
    with pytest.raises(ValueError, match="same stride"):
        alignment.crop_offset(alignment.convolution(1, stride=2), alignment.IMAGE)


def test_maps_half_a_pixel_apart_do_not_align():
    with pytest.raises(ValueError, match="whole number of pixels"):
        alignment.crop_offset(alignment.convolution(2), alignment.IMAGE)


@pytest.mark.parametrize("padding", ["paper", "same"])
@pytest.mark.parametrize("name", ["FCN32s", "FCN16s", "FCN8s"])
def test_every_path_of_the_built_model_lands_on_the_image(name, padding):
    """Walks the layers that Keras holds: at every sum and at the end the maps must agree."""
    model = getattr(keras_fcn, name)(2, filters=NARROW_FILTERS, fc_units=2, padding=padding)
    maps = {}
    for layer in model.layers:
        # The layers that see the border, too, are called with the image first.
        inputs = layer._inbound_nodes[0].input_tensors
        inputs = [maps[tensor._keras_history.operation.name] for tensor in inputs]
        if isinstance(layer, keras.layers.Add):
            assert place(inputs[0]) == place(inputs[1]), layer.name
        maps[layer.name] = inputs[0].then(coordinate_map(layer)) if inputs else alignment.IMAGE
    assert place(maps[model.layers[-1].name]) == (1, 0)


def place(path):
    return path.stride, path.offset


def coordinate_map(layer):
    if isinstance(layer, keras_fcn.layers.CropToReference):
        return alignment.CoordinateMap(1, layer.offset)
    if isinstance(layer, keras_fcn.layers.Surround):
        return alignment.CoordinateMap(1, layer.start - layer.origin)
    if isinstance(layer, keras.layers.Cropping2D):
        return alignment.CoordinateMap(1, layer.cropping[0][0])
    if isinstance(layer, keras.layers.ZeroPadding2D):
        return alignment.CoordinateMap(1, -layer.padding[0][0])
    if isinstance(layer, keras.layers.Conv2DTranspose):
        return alignment.transposed_convolution(layer.kernel_size[0], layer.strides[0])
    if isinstance(layer, keras.layers.MaxPooling2D):
        return alignment.convolution(layer.pool_size[0], layer.strides[0])
    if isinstance(layer, (keras.layers.Conv2D, keras_fcn.layers.ConvolutionalizedDense)):
        size = layer.kernel.shape[0]
        return alignment.convolution(size, padding=size // 2 if layer.padding == "same" else 0)
    return alignment.IMAGE


@pytest.mark.parametrize("padding", ["paper", "same"])
@pytest.mark.parametrize("fc6_kernel_size", [1, 3, 5, 7, 9, 15])
@pytest.mark.parametrize("name", ["FCN32s", "FCN16s", "FCN8s"])
def test_crops_lie_inside_their_maps_and_cover_the_image_at_every_size(
    name, fc6_kernel_size, padding
):
    extra = max(0, fc6_kernel_size - 7)
    input_padding, fc6_padding = (
        (0, fc6_kernel_size // 2) if padding == "same" else (99 + 16 * extra, 0)
    )
    *offsets, last = fcn_crop_offsets(
        SKIPS[name],
        input_padding=input_padding,
        fc6_kernel_size=fc6_kernel_size,
        fc6_padding=fc6_padding,
    )
    for image in range(1, 400):
        pools = {}
        size = image + 2 * input_padding
        for number in range(1, 6):
            size = -(-size // 2)
            pools[f"pool{number}"] = size
        size += 2 * fc6_padding - fc6_kernel_size + 1
        assert size >= 1
        for skip, offset in zip(SKIPS[name], offsets, strict=True):
            upsampled = 2 * (size - 1) + 4
            if offset >= 0:
                size = min(upsampled, pools[skip] - offset)
                assert size == upsampled or (name, fc6_kernel_size) == ("FCN8s", 3)
            else:
                assert upsampled >= pools[skip] - offset
                size = pools[skip]
        stride = {"FCN32s": 32, "FCN16s": 16, "FCN8s": 8}[name]
        assert stride * (size - 1) + 2 * stride >= last + image
        assert last >= 0
