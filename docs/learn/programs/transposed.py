"""A transposed convolution by hand, the bilinear kernel, and a learned kernel."""

import keras
import numpy as np
from keras.ops import convert_to_numpy
from matplotlib.figure import Figure

from keras_fcn.data.drawn_shapes import draw_shapes
from keras_fcn.layers import Bilinear

x = np.array([[1, 2], [3, 4]], "float32")
kernel, STRIDE = np.array([[1, 2, 1], [2, 4, 2], [1, 2, 1]], "float32"), 2

# By hand: every input pixel adds its value times the kernel, shifted by 2 pixels per input pixel.
parts = np.zeros((4, 5, 5))
for number, (row, column) in enumerate(np.ndindex(2, 2)):
    top, left = STRIDE * row, STRIDE * column
    parts[number, top : top + 3, left : left + 3] = x[row, column] * kernel
print((by_hand := parts.sum(axis=0)).astype(int))

options = {"strides": STRIDE, "use_bias": False, "data_format": "channels_last"}
layer = keras.layers.Conv2DTranspose(1, 3, **options)
layer.build((None, 2, 2, 1))
layer.set_weights([kernel[:, :, None, None]])
by_keras = convert_to_numpy(layer(x[None, :, :, None]))[0, ..., 0]
print("Keras agrees:", np.array_equal(by_keras, by_hand))

# It is not the inverse: a convolution with the same kernel and stride does not return x.
back = [[(by_hand[2 * r :, 2 * c :][:3, :3] * kernel).sum() for c in (0, 1)] for r in (0, 1)]
print("and back by the convolution:", np.array(back).astype(int).tolist())

# Bilinear and learned upsampling of 2x2 means; the learned kernel is initialized with zeros.
sharp = (draw_shapes(96, size=64, seed=3)[0].mean(-1, keepdims=True) / 255).astype("float32")
blurred = sharp.reshape(96, 32, 2, 32, 2, 1).mean((2, 4))
options["padding"] = "same"
bilinear = keras.layers.Conv2DTranspose(1, 4, kernel_initializer=Bilinear(), **options)
learned = keras.layers.Conv2DTranspose(1, 4, kernel_initializer="zeros", **options)
model = keras.Sequential([keras.Input((32, 32, 1)), learned])
model.compile(keras.optimizers.Adam(0.05), "mse")
model.fit(blurred[:64], sharp[:64], batch_size=8, epochs=20, shuffle=False, verbose=0)
layers = {"bilinear": bilinear, "learned (zero init)": learned}
upsampled = {name: convert_to_numpy(layer(blurred[64:])) for name, layer in layers.items()}
for name, images in upsampled.items():  # Without the border, which is affected by zero padding.
    print(f"{name}: mean squared error {((images - sharp[64:])[:, 2:-2, 2:-2] ** 2).mean():.4f}")

figure = Figure(figsize=(10, 4.9), layout="constrained")
figure.get_layout_engine().set(h_pad=0.1)
top, bottom = figure.subfigures(2, 1, height_ratios=(1, 1.15))
titles = [f"{value:.0f} × kernel" for value in x.flat] + ["their sum"]
for axes, title, grid in zip(top.subplots(1, 5), titles, [*parts, by_hand], strict=True):
    axes.imshow(grid, cmap="Blues", vmin=0, vmax=45)
    for row, column in zip(*np.nonzero(grid), strict=True):
        axes.text(column, row, f"{grid[row, column]:.0f}", ha="center", va="center", fontsize=8)
    axes.set(title=title, xticks=[], yticks=[])
pictures = {"image": sharp[70], "input": blurred[70]} | {n: u[6] for n, u in upsampled.items()}
for axes, (title, picture) in zip(bottom.subplots(1, 4), pictures.items(), strict=True):
    axes.imshow(picture[..., 0], cmap="gray", vmin=0, vmax=1)
    axes.set(title=title, xticks=[], yticks=[])
figure.savefig("transposed.png", dpi=90)
