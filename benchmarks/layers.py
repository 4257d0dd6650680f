"""Arithmetic per second of each of VGG-16's convolutions, of `VGGConv2D` and of Keras's `Conv2D`.

    KERAS_BACKEND=jax python -m benchmarks.layers

On the maps of an image of 500x500 with the paper's padding, in float32: forward, and both gradients
for a given one of the output. The two take turns. Beside them, a matrix product of 2048x2048. On
PyTorch a `VGGConv2D` is a `Conv2D`.
"""

import argparse
import sys
import time

import keras
import numpy as np

from benchmarks.contestant import matrix_product, our_product
from keras_fcn.layers import VGGConv2D

# Side of the map, inputs, outputs, and how often that is in the network.
CONVOLUTIONS = (
    (510, 3, 64, 1),
    (510, 64, 64, 1),
    (266, 64, 128, 1),
    (266, 128, 128, 1),
    (150, 128, 256, 1),
    (150, 256, 256, 2),
    (88, 256, 512, 1),
    (88, 512, 512, 2),
    (44, 512, 512, 3),
)


def main() -> None:
    """Prints a table for Keras's backend."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=5)
    runs = parser.parse_args().runs
    if keras.backend.backend() == "torch":
        sys.exit("KERAS_BACKEND must be tensorflow or jax. Received: torch")
    print(f"GFLOP/s on {keras.backend.backend()}, best of {runs}\n")
    print("| map, channels | forward | Conv2D's | gradients | Conv2D's | matrix product |")
    print("|---|---|---|---|---|---|")
    random = np.random.default_rng(0)
    totals = np.zeros(4)
    for side, inputs, outputs, times in CONVOLUTIONS:
        arrays = [
            random.standard_normal(shape).astype("float32")
            for shape in (
                (1, side, side, inputs),
                (3, 3, inputs, outputs),
                (1, side, side, outputs),
            )
        ]
        tensors = [keras.ops.convert_to_tensor(array) for array in arrays]
        functions = [
            function
            for layer_class in (VGGConv2D, keras.layers.Conv2D)
            for function in compiled(
                layer_class(outputs, 3, padding="same", data_format="channels_last")
            )
        ]
        seconds = best(functions, tensors, runs)
        rate = matrix_product(our_product("float32"))
        flop = 2 * 9 * side**2 * inputs * outputs
        forward, gradients, their_forward, their_gradients = (
            amount * flop / taken / 1e9 for amount, taken in zip((1, 2, 1, 2), seconds, strict=True)
        )
        print(
            f"| {side}×{side}, {inputs} to {outputs} | {forward:.0f} | {their_forward:.0f} "
            f"| {gradients:.0f} | {their_gradients:.0f} | {rate / 1e9:.0f} |",
            flush=True,
        )
        totals += times * np.array(seconds)
    forward, gradients, their_forward, their_gradients = totals
    print(
        f"\nall 13 of them: forward {forward:.2f} s, Conv2D's {their_forward:.2f} s; "
        f"gradients {gradients:.2f} s, Conv2D's {their_gradients:.2f} s"
    )


def compiled(layer):
    """Returns two functions of (image, kernel, gradient): forward, and gradients alone."""
    convolve = layer.convolution_op
    if keras.backend.backend() == "jax":
        import jax

        def gradients(image, kernel, gradient):
            return jax.vjp(convolve, image, kernel)[1](gradient)

        return jax.jit(lambda image, kernel, _: convolve(image, kernel)), jax.jit(gradients)
    import tensorflow as tf

    def gradients(image, kernel, gradient):
        with tf.GradientTape() as tape:
            tape.watch([image, kernel])
            outputs = convolve(image, kernel)
        return tape.gradient(outputs, [image, kernel], gradient)

    return tf.function(lambda image, kernel, _: convolve(image, kernel)), tf.function(gradients)


def best(functions, tensors, runs):
    """Returns the least seconds of each function."""
    seconds = []
    for _ in range(runs + 1):
        for function in functions:
            start = time.perf_counter()
            results = function(*tensors)
            for result in keras.tree.flatten(results):
                keras.ops.convert_to_numpy(result[0, 0])
            seconds.append(time.perf_counter() - start)
    # The first turn compiles.
    return np.reshape(seconds, (runs + 1, -1))[1:].min(axis=0)


if __name__ == "__main__":
    main()
