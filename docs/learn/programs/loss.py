"""The learning rate 1e-10 with the loss summed over pixels and with the mean over pixels."""

from pathlib import Path

import keras
import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from keras_fcn.label_spaces import CAMVID

here = Path(__file__).parent
image = np.asarray(Image.open(here / "street.jpg"), "float32")[None, ::2, ::2] - 117
label_map = np.asarray(Image.open(here / "street.png"))[None, ::2, ::2].astype("int32")
num_pixels = int((label_map != CAMVID.ignore_class).sum())
print("pixels that count:", num_pixels)

RATE, MOMENTUM, STEPS = 1e-10, 0.99, 25


def train(rate, reduction):
    """Returns the loss per pixel after each training step of a single 1x1 convolution."""
    score = keras.layers.Conv2D(11, 1, kernel_initializer="zeros", data_format="channels_last")
    model = keras.Sequential([keras.Input(image.shape[1:]), score])
    loss = keras.losses.SparseCategoricalCrossentropy(
        from_logits=True, ignore_class=CAMVID.ignore_class, reduction=reduction
    )
    model.compile(keras.optimizers.SGD(rate, MOMENTUM), loss)
    losses = [float(model.train_on_batch(image, label_map)) for _ in range(STEPS)]
    return np.array(losses) / (num_pixels if reduction == "sum" else 1)


runs = {
    "sum, rate 1e-10 (the paper)": train(RATE, "sum"),
    f"mean, rate 1e-10 × {num_pixels:,}": train(RATE * num_pixels, "sum_over_batch_size"),
    "mean, rate 1e-10": train(RATE, "sum_over_batch_size"),
}
for name, losses in runs.items():
    print(f"{name:<31} loss per pixel {losses[0]:.2f} -> {losses[-1]:.2f}")
print(f"1e-10 for the sum over a 375x500 image is {RATE * 375 * 500:.3g} for the mean,")
print(f"and momentum {MOMENTUM} carries a steady gradient {1 / (1 - MOMENTUM):.0f} times as far.")

figure = Figure(figsize=(7, 3), layout="constrained")
axes = figure.subplots()
for (name, losses), style in zip(runs.items(), ("-", "--", ":"), strict=True):
    axes.plot(losses, style, lw=2.5, label=name)
axes.set(xlabel="step", ylabel="loss per pixel", ylim=(0, None))
axes.legend(loc="lower left")
axes.grid(alpha=0.3)
figure.savefig("loss.png", dpi=100)
