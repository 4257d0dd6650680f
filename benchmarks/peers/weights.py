"""The same weights for every side of a comparison, seeded by the layer's name."""

import zlib

import numpy as np

WIDTHS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
SKIPS = {"FCN32s": (), "FCN16s": ("pool4",), "FCN8s": ("pool4", "pool3")}


def kernel_shapes(model: str, num_classes: int) -> dict[str, tuple[int, ...]]:
    """Returns the kernel shape of each layer: (height, width, inputs, outputs), or, for transposed
    convolutions, (height, width, outputs, inputs).
    """
    shapes, channels = {}, 3
    for block, widths in enumerate(WIDTHS, start=1):
        for number, width in enumerate(widths, start=1):
            shapes[f"block{block}_conv{number}"] = (3, 3, channels, width)
            channels = width
    shapes |= {"fc6": (7, 7, 512, 4096), "fc7": (1, 1, 4096, 4096)}
    shapes["score_fr"] = (1, 1, 4096, num_classes)
    stride, name = 32, "upscore2" if SKIPS[model] else "upscore"
    for skip in SKIPS[model]:
        shapes[f"score_{skip}"] = (1, 1, 512 if skip == "pool4" else 256, num_classes)
        shapes[name] = (4, 4, num_classes, num_classes)
        stride, name = stride // 2, f"upscore_{skip}"
    name = "upscore" if stride == 32 else f"upscore{stride}"
    shapes[name] = (2 * stride, 2 * stride, num_classes, num_classes)
    return shapes


def arrays(model: str, num_classes: int):
    """Yields the name and the array of every variable: normal values that preserve the standard
    deviation of activations (He initialization), and bilinear kernels.
    """
    for layer, shape in kernel_shapes(model, num_classes).items():
        if layer.startswith("upscore"):
            yield f"{layer}/kernel", _bilinear(shape)
            continue
        random = np.random.default_rng(zlib.crc32(layer.encode()))
        kernel = random.standard_normal(shape, "float32")
        kernel *= np.float32(np.sqrt(2 / np.prod(shape[:3])))
        yield f"{layer}/kernel", kernel
        yield f"{layer}/bias", random.standard_normal(shape[3], "float32")


def _bilinear(shape):
    size = shape[0]
    tent = 1 - np.abs((np.arange(size) + 0.5) / (size / 2) - 1)
    kernel = np.zeros(shape, "float32")
    for channel in range(shape[2]):
        kernel[:, :, channel, channel] = np.outer(tent, tent)
    return kernel


def multiplications(model: str, num_classes: int, height: int, width: int, padding: str) -> int:
    """Returns the number of multiplications of the network on one image, including padding."""
    border = 198 if padding == "paper" else 0
    height, width = height + border, width + border
    total = 0
    pools = {}
    for layer, shape in kernel_shapes(model, num_classes).items():
        weights = int(np.prod(shape))
        if layer.startswith("block"):
            total += weights * height * width
            if layer in ("block1_conv2", "block2_conv2") or layer.endswith("conv3"):
                height, width = -(-height // 2), -(-width // 2)
                pools[f"pool{layer[5]}"] = height, width
        elif layer == "fc6" and padding == "paper":
            height, width = height - 6, width - 6
            total += weights * height * width
        elif layer.startswith("score_pool"):
            total += weights * pools[layer[6:]][0] * pools[layer[6:]][1]
        else:
            total += weights * height * width
            if layer == "upscore2":
                height, width = _added_to("pool4", pools, height, width, padding)
            elif layer == "upscore_pool4":
                height, width = _added_to("pool3", pools, height, width, padding)
    return total


def _added_to(pool, pools, height, width, padding):
    """Size after upsampling by 2 and adding the skip; the larger of the two is cropped."""
    return (2 * height + 2, 2 * width + 2) if padding == "paper" else pools[pool]
