"""Independent oracle of FCN-32s, FCN-16s and FCN-8s in bare TensorFlow and NumPy.

Written from the tables of the paper's networks (Long et al., arXiv 1411.4038, and the authors'
Caffe `net.py`); imports neither keras_fcn nor Keras, and runs with every Keras backend.

Images are NHWC, RGB in [0, 255]; logits are NHWC. Variables are a dictionary of arrays named
`layer/kernel` and `layer/bias`; convolution kernels are (height, width, in, out), upsampling
kernels (height, width, out, in). Everything is computed in `dtype`.
"""

import itertools

import numpy as np
import tensorflow as tf

PASCAL_VOC_MEAN_BGR = (104.00699, 116.66877, 122.67892)

CONVOLUTIONS_PER_BLOCK = (2, 2, 3, 3, 3)

INPUT_PADDING = {"paper": 100, "same": 0}

# Crop offsets, one row per variant: the cropped layer, and the pixels cropped at the top and left.
# The paper crops the skips. Where that would need a negative offset, the upsampled map is cropped
# instead. The rows for a 1x1 fc6 follow from the coordinate maps: without the 3 cells of the 7x7
# kernel's radius, the stride-32 map starts 96 pixels further up.
CROP_OFFSETS = {
    ("paper", 7): {
        "FCN32s": {"upscore": 19},
        "FCN16s": {"score_pool4": 5, "upscore16": 27},
        "FCN8s": {"score_pool4": 5, "score_pool3": 9, "upscore8": 31},
    },
    ("paper", 1): {
        "FCN32s": {"upscore": 115},
        "FCN16s": {"upscore2": 1, "upscore16": 107},
        "FCN8s": {"upscore2": 1, "upscore_pool4": 1, "upscore8": 103},
    },
    ("same", 7): {
        "FCN32s": {"upscore": 16},
        "FCN16s": {"upscore2": 1, "upscore16": 8},
        "FCN8s": {"upscore2": 1, "upscore_pool4": 1, "upscore8": 4},
    },
}
CROP_OFFSETS["same", 1] = CROP_OFFSETS["same", 7]


def fcn_logits(
    variables,
    image,
    variant,
    padding,
    fc6_kernel_size=7,
    skip_scales=(1.0, 1.0),
    mean=PASCAL_VOC_MEAN_BGR,
    dtype="float64",
):
    """Inference logits of `variant` ("FCN32s", "FCN16s" or "FCN8s"), of the image's own size."""
    trunk = pools_and_fc7(variables, image, padding, fc6_kernel_size, mean, dtype)
    size = image.shape[1:3]
    return logits_of_trunk(variables, trunk, size, variant, padding, fc6_kernel_size, skip_scales)


def pools_and_fc7(
    variables, image, padding, fc6_kernel_size=7, mean=PASCAL_VOC_MEAN_BGR, dtype="float64"
):
    """pool3, pool4 and fc7, which all variants share; `mean=None` for a preprocessed image."""

    def activation(name, features):
        return tf.nn.relu(_convolution(variables, name, features))

    return _trunk(activation, tf.cast(image, dtype), padding, fc6_kernel_size, mean)


def logits_of_trunk(
    variables, trunk, size, variant, padding, fc6_kernel_size=7, skip_scales=(1.0, 1.0)
):
    """Logits of the image's `size` (height, width) from its pool3, pool4 and fc7."""
    pool3, pool4, fc7 = trunk
    offsets = CROP_OFFSETS[padding, fc6_kernel_size][variant]
    score = _convolution(variables, "score_fr", fc7)
    if variant == "FCN32s":
        upscore = _upsampling(variables, "upscore", score, stride=32)
        return _crop(upscore, offsets["upscore"], *size)

    upscore2 = _upsampling(variables, "upscore2", score, stride=2)
    score_pool4 = _convolution(variables, "score_pool4", pool4 * skip_scales[0])
    fused = _fuse(upscore2, "upscore2", score_pool4, "score_pool4", offsets)
    if variant == "FCN16s":
        upscore16 = _upsampling(variables, "upscore16", fused, stride=16)
        return _crop(upscore16, offsets["upscore16"], *size)

    upscore_pool4 = _upsampling(variables, "upscore_pool4", fused, stride=2)
    score_pool3 = _convolution(variables, "score_pool3", pool3 * skip_scales[1])
    fused = _fuse(upscore_pool4, "upscore_pool4", score_pool3, "score_pool3", offsets)
    upscore8 = _upsampling(variables, "upscore8", fused, stride=8)
    return _crop(upscore8, offsets["upscore8"], *size)


def fused_logits(variables, streams, dtype="float64"):
    """FCN-32s of preprocessed images, which the paper's padding surrounds.

    Args:
        variables: Names end in the key of their stream; those of the upsampling have no end.
        streams: Preprocessed images by the end of the names of their stream. The scores of several
            are averaged.
    """
    scores = []
    for end, image in streams.items():
        own = {
            name.replace(f"{end}/", "/"): value for name, value in variables.items() if end in name
        }
        _, _, fc7 = pools_and_fc7(own, image, "paper", mean=None, dtype=dtype)
        scores.append(_convolution(own, "score_fr", fc7))
    upscore = _upsampling(variables, "upscore", sum(scores) / len(scores), stride=32)
    return _crop(upscore, 19, *image.shape[1:3])


def alexnet_logits(variables, image, dtype="float64"):
    """FCN-AlexNet of a preprocessed image: 100 pixels of padding, pools that round up."""

    def convolution(x, name, groups=1, stride=1, padding=0):
        kernel = tf.cast(variables[f"{name}/kernel"], x.dtype)
        parts = zip(tf.split(x, groups, 3), tf.split(kernel, groups, 3), strict=True)
        maps = [
            tf.nn.conv2d(_zero_padding(part, padding), own, strides=stride, padding="VALID")
            for part, own in parts
        ]
        return tf.nn.relu(tf.concat(maps, 3) + tf.cast(variables[f"{name}/bias"], x.dtype))

    def pool(x):
        beyond = [(size - 3) % 2 for size in x.shape[1:3]]
        sides = [[0, 0], [0, beyond[0]], [0, beyond[1]], [0, 0]]
        x = tf.pad(x, sides, constant_values=float("-inf"))
        return tf.nn.max_pool2d(x, ksize=3, strides=2, padding="VALID")

    def normalized(x):
        return tf.cast(
            tf.nn.local_response_normalization(
                tf.cast(x, "float32"), depth_radius=2, bias=1.0, alpha=1e-4 / 5, beta=0.75
            ),
            x.dtype,
        )

    x = convolution(tf.cast(image, dtype), "conv1", stride=4, padding=100)
    x = convolution(normalized(pool(x)), "conv2", groups=2, padding=2)
    x = convolution(normalized(pool(x)), "conv3", padding=1)
    x = convolution(x, "conv4", groups=2, padding=1)
    x = pool(convolution(x, "conv5", groups=2, padding=1))
    x = convolution(convolution(x, "fc6"), "fc7")
    upscore = _upsampling(variables, "upscore", _convolution(variables, "score_fr", x), stride=32)
    return _crop(upscore, 18, *image.shape[1:3])


def summed_cross_entropy(logits, label_map, ignore_class=255):
    """Softmax cross-entropy summed over every pixel whose label is not `ignore_class`."""
    pixels = np.nonzero(np.asarray(label_map) != ignore_class)
    labels = np.asarray(label_map)[pixels]
    log_probabilities = tf.nn.log_softmax(tf.gather_nd(logits, np.stack(pixels, axis=-1)))
    return -tf.reduce_sum(log_probabilities * np.eye(logits.shape[-1])[labels])


def logits_and_gradients(variables, image, label_map, *args, ignore_class=255, **kwargs):
    """Logits, and the gradient of the summed cross-entropy by each variable, as NumPy arrays.

    The remaining arguments are those of `fcn_logits`.
    """
    dtype = kwargs.get("dtype", "float64")
    variables = {name: tf.constant(value, dtype) for name, value in variables.items()}
    with tf.GradientTape() as tape:
        tape.watch(variables)
        logits = fcn_logits(variables, image, *args, **kwargs)
        loss = summed_cross_entropy(logits, label_map, ignore_class)
    gradients = tape.gradient(loss, variables)
    return logits.numpy(), {name: gradient.numpy() for name, gradient in gradients.items()}


def clear_of_kinks(variables, image, padding, fc6_kernel_size=7, mean=PASCAL_VOC_MEAN_BGR):
    """Returns slightly changed variables for which rounding decides no ReLU and no max pooling.

    A gradient is discontinuous where a ReLU's input crosses zero or where the two largest inputs of
    a pool swap. Among millions of activations some are always within float32 rounding of such a
    point, and two correct programs then differ by thousandths. So each bias is moved to the middle
    of the widest gap between nearby activations, and channels with accidentally equal pool inputs
    are redrawn.
    """
    variables = {name: np.array(value) for name, value in variables.items()}
    generator = np.random.default_rng(0)
    pooled = [f"block{b}_conv{n}" for b, n in enumerate(CONVOLUTIONS_PER_BLOCK, start=1)]

    def activation(name, features):
        kernel, bias = variables[f"{name}/kernel"], variables[f"{name}/bias"]
        linear = np.empty(0)
        redraw = np.ones(bias.size, dtype=bool)
        while redraw.any():
            drawn = tf.cast(kernel[..., redraw], features.dtype)
            without_bias = tf.nn.conv2d(features, drawn, strides=1, padding="VALID").numpy()
            bias[redraw] = _biases_in_gaps(without_bias, bias[redraw])
            if not linear.size:
                linear = without_bias
            linear[..., redraw] = without_bias + bias[redraw]
            if name not in pooled:
                break
            redraw = _accidentally_equal_pool_inputs(linear)
            new_kernel = generator.standard_normal((*kernel.shape[:-1], redraw.sum()))
            kernel[..., redraw] = new_kernel * kernel.std()
        return tf.nn.relu(linear)

    _trunk(activation, tf.cast(image, "float64"), padding, fc6_kernel_size, mean)
    return variables


def bilinear_kernel(size, classes):
    """Bilinear upsampling kernel (size, size, classes, classes), diagonal over the classes."""
    factor = (size + 1) // 2
    centre = factor - 1 if size % 2 == 1 else factor - 0.5
    kernel = np.zeros((size, size, classes, classes))
    for row in range(size):
        for column in range(size):
            weight = (1 - abs(row - centre) / factor) * (1 - abs(column - centre) / factor)
            for index in range(classes):
                kernel[row, column, index, index] = weight
    return kernel


def _trunk(activation, image, padding, fc6_kernel_size, mean):
    features = image if mean is None else image[..., ::-1] - tf.constant(mean, image.dtype)
    features = _zero_padding(features, INPUT_PADDING[padding])
    pools = []
    for block, convolutions in enumerate(CONVOLUTIONS_PER_BLOCK, start=1):
        for index in range(1, convolutions + 1):
            if padding == "same" or (block, index) != (1, 1):
                features = _zero_padding(features, 1)
            features = activation(f"block{block}_conv{index}", features)
        features = _pool_rounding_up(features)
        pools.append(features)

    if padding == "same":
        features = _zero_padding(features, (fc6_kernel_size - 1) // 2)
    return pools[2], pools[3], activation("fc7", activation("fc6", features))


def _zero_padding(features, cells):
    return tf.pad(features, [[0, 0], [cells, cells], [cells, cells], [0, 0]])


def _convolution(variables, name, features):
    kernel = tf.cast(variables[f"{name}/kernel"], features.dtype)
    bias = tf.cast(variables[f"{name}/bias"], features.dtype)
    return tf.nn.conv2d(features, kernel, strides=1, padding="VALID") + bias


def _pool_rounding_up(features):
    height, width = features.shape[1:3]
    odd = [[0, 0], [0, height % 2], [0, width % 2], [0, 0]]
    features = tf.pad(features, odd, constant_values=float("-inf"))
    return tf.nn.max_pool2d(features, ksize=2, strides=2, padding="VALID")


def _upsampling(variables, name, features, stride):
    kernel = tf.cast(variables[f"{name}/kernel"], features.dtype)
    size, _, out_channels, _ = kernel.shape
    batch, height, width, _ = features.shape
    output_shape = [batch, (height - 1) * stride + size, (width - 1) * stride + size, out_channels]
    return tf.nn.conv2d_transpose(features, kernel, output_shape, stride, padding="VALID")


def _fuse(upsampled, upsampled_name, skip, skip_name, offsets):
    if skip_name in offsets:
        skip = _crop(skip, offsets[skip_name], *upsampled.shape[1:3])
    else:
        upsampled = _crop(upsampled, offsets[upsampled_name], *skip.shape[1:3])
    return upsampled + skip


def _crop(features, offset, height, width):
    cropped = features[:, offset : offset + height, offset : offset + width]
    if cropped.shape[1:3] != (height, width):
        raise ValueError(f"{features.shape} holds no {height}x{width} window at {offset}.")
    return cropped


def _biases_in_gaps(without_bias, biases):
    """The middle of the widest gap near each wanted bias, one per channel."""
    channels = np.ascontiguousarray(np.moveaxis(without_bias, -1, 0)).reshape(biases.size, -1)
    result = np.empty_like(biases)
    for index, (values, bias) in enumerate(zip(channels, biases, strict=True)):
        reach = 0.05 * np.sqrt(np.mean(values**2))
        edges = [-bias - reach, -bias + reach]
        nearby = np.sort(np.append(values[np.abs(values + bias) < reach], edges))
        widest = np.argmax(np.diff(nearby))
        result[index] = -(nearby[widest] + nearby[widest + 1]) / 2
    return result


def _accidentally_equal_pool_inputs(linear):
    """Returns per channel whether rounding can decide which input of a pool is the largest.

    Two inputs that are nearly equal in all channels, as in the constant border around the image,
    come from equal patches; either choice has the same gradient, so they are not counted.
    """
    _, height, width, channels = linear.shape
    odd = [(0, 0), (0, height % 2), (0, width % 2), (0, 0)]
    padded = np.pad(linear, odd, constant_values=-np.inf)
    inputs = [padded[:, row::2, column::2] for row in (0, 1) for column in (0, 1)]
    largest = np.maximum.reduce(inputs)
    scale = np.sqrt(np.mean(linear**2))
    # Most channels keep this distance everywhere at the first draw; float32 needs about 1e-6.
    close = min(1e-5, 0.2 / largest[..., 0].size) * scale
    accidental = np.zeros(channels, dtype=bool)
    for first, second in itertools.combinations(inputs, 2):
        finite = np.isfinite(first + second)
        distance = np.abs(np.subtract(first, second, where=finite, out=np.zeros_like(first)))
        told_apart = np.sqrt(np.mean(distance**2, axis=-1, keepdims=True)) > 1e-5 * scale
        decisive = (np.maximum(first, second) == largest) & (largest > 0)
        accidental |= (finite & told_apart & decisive & (distance < close)).any(axis=(0, 1, 2))
    return accidental
