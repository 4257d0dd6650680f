"""Helpers of several tests: random weights, variables, gradients, Keras 2's files, small images."""

import zlib

import h5py
import keras
import numpy as np
from keras import ops
from PIL import Image

NARROW_FILTERS = (8, 8, 8, 16, 16)
"""`filters` of small models, for tests that do not depend on VGG-16's width."""


def randomize(model, seed):
    """Draws non-zero weights for every layer; equal names, shapes and seed give equal weights.

    Activations keep their scale through the layers (He et al., arXiv 1502.01852). The score layers
    scale values in the hundreds down to logits near one, so that no softmax saturates.
    """
    for name, (layer, variable) in _variables(model).items():
        generator = np.random.default_rng([seed, zlib.crc32(name.encode())])
        values = generator.standard_normal(variable.shape, dtype="float32")
        variable.assign(values * _standard_deviation(layer.name, variable.shape))


def assign(model, values):
    """Sets every variable of the model from a dictionary of "layer/variable" to its value."""
    for name, (_, variable) in _variables(model).items():
        variable.assign(values[name])


def variables_as_numpy(model):
    """Dictionary of "layer/variable" to its float32 value."""
    return {
        name: np.array(ops.convert_to_numpy(variable), dtype="float32")
        for name, (_, variable) in _variables(model).items()
    }


def assert_equal_weights(model, source):
    """Asserts that the weights of both models are bitwise equal; seeds are not compared."""
    ours, theirs = variables_as_numpy(model), variables_as_numpy(source)
    assert len(theirs) >= 26  # Kernels and biases of VGG-16's convolutions.
    for name, value in theirs.items():
        if "seed" not in name:
            np.testing.assert_array_equal(ours[name], value, err_msg=name)


def write_legacy_h5(path, model):
    """Writes a weight file in Keras 2's layout, which `keras.applications` still publishes."""
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [layer.name.encode() for layer in model.layers]
        for layer in model.layers:
            group = file.create_group(layer.name)
            names = [f"{layer.name}/{variable.name}:0" for variable in layer.weights]
            group.attrs["weight_names"] = [name.encode() for name in names]
            for name, variable in zip(names, layer.weights, strict=True):
                group[name] = keras.ops.convert_to_numpy(variable)


def gradients(model, images, label_map, ignore_class=255, axis=-1):
    """Gradient of the summed cross-entropy by each trainable variable, "layer/variable" to NumPy.

    The model runs in inference mode, without dropout. `axis` is the class axis of the logits.
    """
    names = {id(variable): name for name, (_, variable) in _variables(model).items()}

    def loss_of(logits):
        return summed_cross_entropy(logits, label_map, ignore_class, axis)

    values = gradients_of(model, ops.convert_to_tensor(images, "float32"), loss_of)
    return {
        names[id(variable)]: ops.convert_to_numpy(value)
        for variable, value in zip(model.trainable_weights, values, strict=True)
    }


def gradients_of(model, images, loss_of):
    """Gradients of `loss_of(logits)` by the trainable variables, a list of tensors."""
    differentiate = {"tensorflow": _by_tensorflow, "jax": _by_jax, "torch": _by_torch}
    return differentiate[keras.backend.backend()](model, images, loss_of)


def summed_cross_entropy(logits, label_map, ignore_class=255, axis=-1):
    """Softmax cross-entropy summed over the pixels not labelled `ignore_class`, a scalar tensor."""
    label_map = np.asarray(label_map)
    valid = label_map != ignore_class
    one_hot = np.eye(logits.shape[axis], dtype="float32")[np.where(valid, label_map, 0)]
    one_hot = np.moveaxis(one_hot * valid[..., None], -1, axis)
    return -ops.sum(ops.log_softmax(logits, axis=axis) * ops.convert_to_tensor(one_hot))


def _variables(model):
    return {
        f"{layer.name}/{variable.name}": (layer, variable)
        for layer in model.layers
        for variable in layer.weights
    }


def _standard_deviation(layer_name, shape):
    if len(shape) == 1:
        return 0.1
    if layer_name.startswith("upscore"):
        # With a kernel of twice the stride, every output pixel depends on 2x2 input pixels.
        return 1 / np.sqrt(2 * 2 * shape[-1])
    gain = 0.01 if layer_name.startswith("score") else 1.0
    return gain * np.sqrt(2 / np.prod(shape[:-1]))


def _by_tensorflow(model, images, loss_of):
    import tensorflow as tf

    with tf.GradientTape() as tape:
        loss = loss_of(model(images, training=False))
    return tape.gradient(loss, [variable.value for variable in model.trainable_weights])


def _by_jax(model, images, loss_of):
    import jax

    non_trainable = [variable.value for variable in model.non_trainable_variables]

    def loss_of_variables(trainable):
        logits, _ = model.stateless_call(trainable, non_trainable, images, training=False)
        return loss_of(logits)

    # Without jit, JAX would compile each of some hundred operations separately.
    gradient = jax.jit(jax.grad(loss_of_variables))
    return gradient([v.value for v in model.trainable_variables])


def _by_torch(model, images, loss_of):
    import torch

    tensors = [variable.value for variable in model.trainable_weights]
    return torch.autograd.grad(loss_of(model(images, training=False)), tensors)


def write_pairs(folder, names="abcd", size=(36, 40), seed=0):
    """Writes folders `images` and `labels` of small PNGs with 3 classes and 255 in a corner."""
    images, labels = folder / "images", folder / "labels"
    images.mkdir(parents=True)
    labels.mkdir()
    generator = np.random.default_rng(seed)
    for name in names:
        label_map = np.zeros(size, "uint8")
        label_map[:, size[1] // 2 :] = generator.integers(1, 3)
        label_map[:2, :2] = 255
        image = np.repeat(label_map[:, :, None] % 255 * 80, 3, axis=2)
        Image.fromarray(image.astype("uint8")).save(images / f"{name}.png")
        Image.fromarray(label_map).save(labels / f"{name}.png")
    return images, labels


def valid_pixels(logits, label_map, ignored):
    """Softmax (pixels, classes) and labels (pixels,) of the pixels that count, in float64."""
    logits = logits.astype("float64").reshape(-1, logits.shape[-1])
    labels = label_map.ravel()
    logits, labels = logits[labels != ignored], labels[labels != ignored]
    exponents = np.exp(logits - logits.max(1, keepdims=True))
    return exponents / exponents.sum(1, keepdims=True), labels
