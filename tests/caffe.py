"""Writes .caffemodel and prototxt files from the tables of the formats, without the package.

Field numbers: NetParameter layers (V1) 2, layer 100; LayerParameter name 1, type 2, blobs 7;
V1LayerParameter name 4, type 5, blobs 6; BlobProto num 1, channels 2, height 3, width 4, data 5
(packed float), shape 7 (BlobShape: dim 1, packed int64), double_data 8 (packed). Of NVIDIA's fork:
raw_data_type 10 (0 double, 1 float, 2 half), raw_data 12 (bytes).
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


def blob(array, *, legacy=False, double=False, raw=None):
    array = np.asarray(array)
    if legacy:
        shape = (1,) * (4 - array.ndim) + array.shape
        header = b"".join(number_field(axis + 1, size) for axis, size in enumerate(shape))
    else:
        header = bytes_field(7, bytes_field(1, b"".join(varint(size) for size in array.shape)))
    if raw is not None:
        raw_type = {"<f8": 0, "<f4": 1, "<f2": 2, "<i4": 3}[raw]
        return header + number_field(10, raw_type) + bytes_field(12, array.astype(raw).tobytes())
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


def write_caffemodel(path, layers, *, v1=False, **options):
    """`layers` is a dictionary from a layer's name to its arrays, in Caffe's layout."""
    with open(path, "wb") as file:
        file.write(bytes_field(1, b"a network"))
        for name, arrays in layers.items():
            kind = "Deconvolution" if name.startswith("upscore") else "Convolution"
            kind = "Scale" if name.startswith("scale") else kind
            kind = "InnerProduct" if np.ndim(arrays[0]) == 2 else kind
            file.write(layer(name, kind, arrays, v1=v1, **options))
            if name.startswith("conv"):
                file.write(layer(name.replace("conv", "relu"), "ReLU", [], v1=v1))


# (name of the paper, name of Keras) of the 13 convolutions.
CONVOLUTIONS = {
    f"conv{block}_{number}": f"block{block}_conv{number}"
    for block, convolutions in ((1, 2), (2, 2), (3, 3), (4, 3), (5, 3))
    for number in range(1, convolutions + 1)
}


def paper_layers(values, suffixes=None):
    """Arrays by the paper's names, in Caffe's and PyTorch's layout.

    Args:
        values: Dictionary from "layer/kernel" and "layer/bias" to arrays, as Keras has them.
        suffixes: Dictionary from ends of names to those of the paper.
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
        ours = next((end for end in suffixes or {} if keras_name.endswith(end)), "")
        keras_name = keras_name.removesuffix(ours)
        name = names.get(keras_name, keras_name) + (suffixes or {}).get(ours, "")
        layers.setdefault(name, []).append(value)
    return layers


class Prototxt:
    """A network as text, layer by layer; each method returns the name of its output."""

    def __init__(self, **inputs):
        self.lines = [
            f'input: "{name}" input_shape {{ dim: 1 dim: {channels} dim: {rows} dim: {columns} }}'
            for name, (channels, rows, columns) in inputs.items()
        ]

    def __str__(self):
        return "\n".join(self.lines)

    def add(self, name, kind, bottoms, parameters="", top=None):
        bottoms = " ".join(f'bottom: "{bottom}"' for bottom in bottoms)
        self.lines.append(
            f'layer {{ name: "{name}" type: "{kind}" {bottoms} top: "{top or name}" {parameters} }}'
        )
        return top or name

    def convolution(self, x, name, outputs, kernel, pad=0, relu=False, stride=1, group=1):
        x = self.add(
            name,
            "Convolution",
            [x],
            f"convolution_param {{ num_output: {outputs} kernel_size: {kernel} pad: {pad} "
            f"stride: {stride} group: {group} }}",
        )
        return self.add(f"relu_{name}", "ReLU", [x], top=x) if relu else x

    def pool(self, x, name, kernel=2):
        parameters = f"pooling_param {{ pool: MAX kernel_size: {kernel} stride: 2 }}"
        return self.add(name, "Pooling", [x], parameters)

    def upsample(self, x, name, outputs, factor, kernel=None):
        return self.add(
            name,
            "Deconvolution",
            [x],
            f"convolution_param {{ num_output: {outputs} kernel_size: {kernel or 2 * factor} "
            f"stride: {factor} bias_term: false }}",
        )

    def crop(self, x, reference, offset, name):
        return self.add(name, "Crop", [x, reference], f"crop_param {{ axis: 2 offset: {offset} }}")

    def trunk(self, data, filters, fc_units, suffix="", first=None):
        """VGG-16's pools by block, and fc7."""
        x, pools = data, {}
        convolutions_of_blocks = zip(filters, (2, 2, 3, 3, 3), strict=True)
        for block, (outputs, convolutions) in enumerate(convolutions_of_blocks, start=1):
            for number in range(1, convolutions + 1):
                is_first = block == number == 1
                name = f"conv{block}_{number}{suffix}"
                name = first if is_first and first else name
                x = self.convolution(x, name, outputs, 3, 100 if is_first else 1, relu=True)
            pools[block] = x = self.pool(x, f"pool{block}{suffix}")
        x = self.convolution(x, f"fc6{suffix}", fc_units, 7, relu=True)
        return pools, self.convolution(x, f"fc7{suffix}", fc_units, 1, relu=True)

    def decoder(self, pools, fc7, stride, num_classes, suffix="", at_once=False):
        """From fc7 to `logits`, of the size of `data`."""
        x = self.convolution(fc7, f"score_fr{suffix}", num_classes, 1)
        if stride == 32:
            x = self.upsample(x, f"upscore{suffix}", num_classes, 32)
            return self.crop(x, "data", 19, f"logits{suffix}")
        skips = [(4, "upscore2", 5)] + ([(3, "upscore_pool4", 9)] if stride == 8 else [])
        for block, upscore, offset in skips:
            x = self.upsample(x, f"{upscore}{suffix}", num_classes, 2)
            skip = pools[block]
            if at_once:
                scale = "scale_param { bias_term: false }"
                skip = self.add(f"scale_pool{block}", "Scale", [skip], scale)
            skip = self.convolution(skip, f"score_pool{block}{suffix}", num_classes, 1)
            skip = self.crop(skip, x, offset, f"score_pool{block}{suffix}c")
            total = "eltwise_param { operation: SUM }"
            x = self.add(f"fuse_pool{block}{suffix}", "Eltwise", [x, skip], total)
        offset = {16: 27, 8: 31}[stride]
        x = self.upsample(x, f"upscore{stride}{suffix}", num_classes, stride)
        return self.crop(x, "data", offset, f"logits{suffix}")


def prototxt(stride, *, num_classes, filters, fc_units, size, at_once=False):
    """The network as REFERENCE's table of layers describes it, for another reader than ours."""
    net = Prototxt(data=(3, *size))
    pools, fc7 = net.trunk("data", filters, fc_units)
    net.decoder(pools, fc7, stride, num_classes, at_once=at_once)
    return str(net)


def two_heads_prototxt(stride, *, num_classes, filters, fc_units, size):
    """SIFT Flow's network, with `num_classes` by the end of the names of a head."""
    net = Prototxt(data=(3, *size))
    pools, fc7 = net.trunk("data", filters, fc_units)
    for suffix, classes in num_classes.items():
        net.decoder(pools, fc7, stride, classes, suffix)
    return str(net)


def early_fusion_prototxt(*, num_classes, filters, fc_units, size):
    """NYUDv2's network of colour and depth."""
    net = Prototxt(color=(3, *size), depth=(1, *size))
    data = net.add("data", "Concat", ["color", "depth"])
    pools, fc7 = net.trunk(data, filters, fc_units, first="conv1_1_bgrd")
    net.decoder(pools, fc7, 32, num_classes)
    return str(net)


def late_fusion_prototxt(*, num_classes, filters, fc_units, size):
    """NYUDv2's network of colour and HHA."""
    net = Prototxt(color=(3, *size), hha=(3, *size))
    scores = []
    for modality in ("color", "hha"):
        _, fc7 = net.trunk(modality, filters, fc_units, suffix=modality)
        scores.append(net.convolution(fc7, f"score_fr{modality}", num_classes, 1))
    half = "eltwise_param { operation: SUM coeff: 0.5 coeff: 0.5 }"
    x = net.add("score_fused", "Eltwise", scores, half)
    net.crop(net.upsample(x, "upscore", num_classes, 32), "color", 19, "logits")
    return str(net)


def alexnet_prototxt(*, num_classes, filters, fc_units, size):
    """The release's FCN-AlexNet."""
    net = Prototxt(data=(3, *size))
    normalization = "lrn_param { local_size: 5 alpha: 0.0001 beta: 0.75 }"
    x = net.convolution("data", "conv1", filters[0], 11, 100, relu=True, stride=4)
    x = net.add("norm1", "LRN", [net.pool(x, "pool1", 3)], normalization)
    x = net.convolution(x, "conv2", filters[1], 5, 2, relu=True, group=2)
    x = net.add("norm2", "LRN", [net.pool(x, "pool2", 3)], normalization)
    x = net.convolution(x, "conv3", filters[2], 3, 1, relu=True)
    x = net.convolution(x, "conv4", filters[3], 3, 1, relu=True, group=2)
    x = net.convolution(x, "conv5", filters[4], 3, 1, relu=True, group=2)
    x = net.convolution(net.pool(x, "pool5", 3), "fc6", fc_units, 6, relu=True)
    x = net.convolution(x, "fc7", fc_units, 1, relu=True)
    x = net.convolution(x, "score_fr", num_classes, 1)
    x = net.upsample(x, "upscore", num_classes, 32, kernel=63)
    net.crop(x, "data", 18, "logits")
    return str(net)
