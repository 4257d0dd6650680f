"""Throughput of FCN's convolutions and transposed convolutions, compared with Keras's.

    KERAS_BACKEND=jax python -m benchmarks.layers

Feature maps are those of a 500x500 image with the paper's padding. Measures the forward pass, and
the gradients of input and kernel for a given output gradient. `VGGConv2D` alternates with Keras's
`Conv2D`, `FCNConv2DTranspose` with Keras's `Conv2DTranspose`. For comparison, a matrix
multiplication of 2048x2048. On PyTorch, the layers run Keras's own kernels.
"""

import argparse
import sys
import time

import keras
import numpy as np

from benchmarks.contestant import matrix_product, our_product
from keras_fcn.layers import FCNConv2DTranspose, VGGConv2D

# Side of the feature map, input channels, output channels, occurrences in the network.
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
# Side of the scores and stride of the last transposed convolution: FCN-8s, FCN-16s and FCN-32s.
UPSAMPLINGS = ((70, 8), (34, 16), (16, 32))
CLASSES = 21
CHANNELS_LAST = {"data_format": "channels_last"}


def main() -> None:
    """Prints two tables for Keras's backend."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--precision", choices=["float32", "bfloat16"], default="float32")
    options = parser.parse_args()
    if keras.backend.backend() == "torch":
        sys.exit("KERAS_BACKEND must be tensorflow or jax. Received: torch")
    convolutions(options.runs, options.precision)
    print()
    upsamplings(options.runs, options.precision)


def convolutions(runs, precision) -> None:
    """Prints GFLOP/s of VGG-16's convolutions."""
    print(f"GFLOP/s on {keras.backend.backend()} in {precision}, best of {runs}\n")
    print("| feature map, channels | forward | Conv2D's | gradients | Conv2D's | matrix product |")
    print("|---|---|---|---|---|---|")
    totals = np.zeros(4)
    for side, inputs, outputs, times in CONVOLUTIONS:
        shapes = (1, side, side, inputs), (3, 3, inputs, outputs), (1, side, side, outputs)
        functions = [
            function
            for layer_class in (VGGConv2D, keras.layers.Conv2D)
            for function in compiled(
                layer_class(
                    outputs, 3, padding="same", dtype=precision, **CHANNELS_LAST
                ).convolution_op
            )
        ]
        seconds = best(functions, shapes, runs, precision)
        rate = matrix_product(our_product(precision))
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
        f"\nall 13 convolutions: forward {forward:.2f} s, Conv2D's {their_forward:.2f} s; "
        f"gradients {gradients:.2f} s, Conv2D's {their_gradients:.2f} s"
    )


def upsamplings(runs, precision) -> None:
    """Prints milliseconds of the last transposed convolutions."""
    print(f"milliseconds on {keras.backend.backend()} in {precision}, best of {runs}\n")
    print("| scores, stride | forward | Conv2DTranspose's | gradients | Conv2DTranspose's |")
    print("|---|---|---|---|---|")
    for side, stride in UPSAMPLINGS:
        size, side_after = 2 * stride, (side + 1) * stride
        shapes = [(1, side, side, CLASSES), (size, size, CLASSES, CLASSES)]
        shapes.append((1, side_after, side_after, CLASSES))
        functions = []
        for layer_class in (FCNConv2DTranspose, keras.layers.Conv2DTranspose):
            options = {"use_bias": False, "dtype": precision, **CHANNELS_LAST}
            layer = layer_class(CLASSES, size, stride, **options)
            layer.build(shapes[0])

            def convolve(scores, kernel, layer=layer):
                return layer.stateless_call([kernel], [], scores)[0]

            functions += compiled(convolve)
        seconds = 1000 * best(functions, shapes, runs, precision)
        forward, gradients, their_forward, their_gradients = seconds
        print(
            f"| {side}×{side}, {stride} | {forward:.1f} | {their_forward:.1f} "
            f"| {gradients:.1f} | {their_gradients:.1f} |",
            flush=True,
        )


def compiled(convolve):
    """Returns two functions of (image, kernel, gradient): forward pass, and gradients only.

    Args:
        convolve: Function of (image, kernel).
    """

    def forward(image, kernel, gradient):
        return convolve(image, kernel)

    if keras.backend.backend() == "jax":
        import jax

        def gradients(image, kernel, gradient):
            return jax.vjp(convolve, image, kernel)[1](gradient)

        return jax.jit(forward), jax.jit(gradients)
    import tensorflow as tf

    def gradients(image, kernel, gradient):
        with tf.GradientTape() as tape:
            tape.watch([image, kernel])
            outputs = convolve(image, kernel)
        return tape.gradient(outputs, [image, kernel], gradient)

    return tf.function(forward), tf.function(gradients)


def best(functions, shapes, runs, precision):
    """Returns the shortest time of each function in seconds, on tensors of these shapes."""
    random = np.random.default_rng(0)
    tensors = [
        keras.ops.convert_to_tensor(random.standard_normal(shape), precision) for shape in shapes
    ]
    seconds = []
    for _ in range(runs + 1):
        for function in functions:
            start = time.perf_counter()
            results = function(*tensors)
            for result in keras.tree.flatten(results):
                keras.ops.convert_to_numpy(result[0, 0])
            seconds.append(time.perf_counter() - start)
    # The first run compiles.
    return np.reshape(seconds, (runs + 1, -1))[1:].min(axis=0)


if __name__ == "__main__":
    main()
