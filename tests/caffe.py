"""Writes .caffemodel and prototxt files from the tables of the formats, without the package.

Field numbers: NetParameter layers (V1) 2, layer 100; LayerParameter name 1, type 2, blobs 7;
V1LayerParameter name 4, type 5, blobs 6; BlobProto num 1, channels 2, height 3, width 4, data 5
(packed float), shape 7 (BlobShape: dim 1, packed int64), double_data 8 (packed).
"""

import numpy as np

_V1_TYPES = {"Convolution": 4, "Deconvolution": 39, "InnerProduct": 14, "ReLU": 18}


def varint(value):
    parts = bytearray()
    while value >= 0x80:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    parts.append(value)
    return bytes(parts)


def number_field(number, value):
    return varint(number << 3) + varint(value)


def bytes_field(number, payload):
    return varint(number << 3 | 2) + varint(len(payload)) + payload


def blob(array, *, legacy=False, double=False):
    array = np.asarray(array)
    if legacy:
        shape = (1,) * (4 - array.ndim) + array.shape
        header = b"".join(number_field(axis + 1, size) for axis, size in enumerate(shape))
    else:
        header = bytes_field(7, bytes_field(1, b"".join(varint(size) for size in array.shape)))
    if double:
        return header + bytes_field(8, array.astype("<f8").tobytes())
    return header + bytes_field(5, array.astype("<f4").tobytes())


def layer(name, kind, arrays, *, v1=False, **options):
    """One field of NetParameter."""
    blobs = [blob(array, **options) for array in arrays]
    if v1:
        head = bytes_field(4, name.encode()) + number_field(5, _V1_TYPES[kind])
        return bytes_field(2, head + b"".join(bytes_field(6, value) for value in blobs))
    head = bytes_field(1, name.encode()) + bytes_field(2, kind.encode())
    return bytes_field(100, head + b"".join(bytes_field(7, value) for value in blobs))


def npz_arrays(layers):
    """The arrays of an `.npz` file of wkentaro/fcn, from `layers` as in `write_caffemodel`."""
    return {
        f"{layer}/{name}": array
        for layer, values in layers.items()
        for name, array in zip("Wb", values, strict=False)
    }


def write_caffemodel(path, layers, *, v1=False, legacy=False, double=False):
    """`layers` is a dictionary from a layer's name to its arrays, in Caffe's layout."""
    with open(path, "wb") as file:
        file.write(bytes_field(1, b"a network"))
        for name, arrays in layers.items():
            kind = "Deconvolution" if name.startswith("upscore") else "Convolution"
            kind = "Scale" if name.startswith("scale") else kind
            kind = "InnerProduct" if np.ndim(arrays[0]) == 2 else kind
            file.write(layer(name, kind, arrays, v1=v1, legacy=legacy, double=double))
            if name.startswith("conv"):
                file.write(layer(name.replace("conv", "relu"), "ReLU", [], v1=v1))


# (name of the paper, name of Keras) of the 13 convolutions.
CONVOLUTIONS = {
    f"conv{block}_{number}": f"block{block}_conv{number}"
    for block, convolutions in ((1, 2), (2, 2), (3, 3), (4, 3), (5, 3))
    for number in range(1, convolutions + 1)
}


def paper_layers(values):
    """Arrays by the paper's names, in Caffe's and PyTorch's layout.

    Args:
        values: Dictionary from "layer/kernel" and "layer/bias" to arrays, as Keras has them.
    """
    names = {keras_name: name for name, keras_name in CONVOLUTIONS.items()}
    layers = {}
    for key, value in values.items():
        keras_name, variable = key.split("/")
        if variable not in ("kernel", "bias"):
            continue
        if variable == "kernel":
            # (height, width, in, out) of Conv2D and (height, width, out, in) of Conv2DTranspose
            # become (out, in, height, width) and (in, out, height, width).
            value = np.ascontiguousarray(np.moveaxis(value, (3, 2), (0, 1)))
        layers.setdefault(names.get(keras_name, keras_name), []).append(value)
    return layers


def prototxt(stride, *, num_classes, filters, fc_units, size, at_once=False):
    """The network as REFERENCE's table of layers describes it, for another reader than ours."""
    lines = [
        'input: "data"',
        f"input_dim: 1 input_dim: 3 input_dim: {size[0]} input_dim: {size[1]}",
    ]

    def add(name, kind, bottoms, parameters="", top=None):
        bottoms = " ".join(f'bottom: "{bottom}"' for bottom in bottoms)
        lines.append(
            f'layer {{ name: "{name}" type: "{kind}" {bottoms} top: "{top or name}" {parameters} }}'
        )
        return top or name

    def convolution(x, name, outputs, kernel, pad=0, relu=False):
        x = add(
            name,
            "Convolution",
            [x],
            f"convolution_param {{ num_output: {outputs} kernel_size: {kernel} pad: {pad} }}",
        )
        return add(f"relu_{name}", "ReLU", [x], top=x) if relu else x

    def upsample(x, name, factor):
        return add(
            name,
            "Deconvolution",
            [x],
            f"convolution_param {{ num_output: {num_classes} kernel_size: {2 * factor} "
            f"stride: {factor} bias_term: false }}",
        )

    def crop(x, reference, offset, name):
        return add(name, "Crop", [x, reference], f"crop_param {{ axis: 2 offset: {offset} }}")

    x, pools = "data", {}
    convolutions_of_blocks = zip(filters, (2, 2, 3, 3, 3), strict=True)
    for block, (outputs, convolutions) in enumerate(convolutions_of_blocks, start=1):
        for number in range(1, convolutions + 1):
            pad = 100 if block == number == 1 else 1
            x = convolution(x, f"conv{block}_{number}", outputs, 3, pad, relu=True)
        pools[block] = x = add(
            f"pool{block}", "Pooling", [x], "pooling_param { pool: MAX kernel_size: 2 stride: 2 }"
        )
    x = convolution(x, "fc6", fc_units, 7, relu=True)
    x = convolution(x, "fc7", fc_units, 1, relu=True)
    x = convolution(x, "score_fr", num_classes, 1)
    if stride == 32:
        crop(upsample(x, "upscore", 32), "data", 19, "logits")
        return "\n".join(lines)
    skips = [(4, "upscore2", 5)] + ([(3, "upscore_pool4", 9)] if stride == 8 else [])
    for block, upscore, offset in skips:
        x = upsample(x, upscore, 2)
        skip = pools[block]
        if at_once:
            skip = add(f"scale_pool{block}", "Scale", [skip], "scale_param { bias_term: false }")
        skip = convolution(skip, f"score_pool{block}", num_classes, 1)
        skip = crop(skip, x, offset, f"score_pool{block}c")
        x = add(f"fuse_pool{block}", "Eltwise", [x, skip], "eltwise_param { operation: SUM }")
    offset = {16: 27, 8: 31}[stride]
    crop(upsample(x, f"upscore{stride}", stride), "data", offset, "logits")
    return "\n".join(lines)
