"""Receptive fields: by hand, by coordinate maps, and the part of one that changes a logit."""

from pathlib import Path

import keras
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

import keras_fcn
from keras_fcn.alignment import coordinate_maps

by_hand, field, stride = {}, 1, 1
for block, convolutions in enumerate((2, 2, 3, 3, 3), start=1):
    field, stride = field + (convolutions * (3 - 1) + (2 - 1)) * stride, 2 * stride  # (k - 1) * s
    by_hand[f"block{block}_pool"] = field
by_hand["fc6"] = field + (7 - 1) * stride
model = keras_fcn.FCN8s(11, weights="camvid", dropout_rate=0)
both = model, keras_fcn.FCN32s(21, fc_units=16)
its, paper = ({k: m.height.receptive_field for k, m in coordinate_maps(f).items()} for f in both)
for name, field in by_hand.items():
    print(f"{name}: by hand {field}, VGG-16 {paper[name]}, shipped model {its[name]}")
print("a logit of the shipped model:", its["logits_of_image"])


class Change(keras.layers.Layer):
    """Adds zeros that can be trained: a step of SGD turns them into minus their gradient."""

    def build(self, input_shape):
        self.change = self.add_weight(shape=input_shape[1:], initializer="zeros")

    def call(self, inputs):
        return inputs + self.change


PLACE, HALF = 192, 112  # A window of 224x224 around the pixel (192, 192) holds all it sees.
photo = Image.open(Path(__file__).parent / "street.jpg")
window = np.asarray(photo)[PLACE - HALF : PLACE + HALF, PLACE - HALF : PLACE + HALF]
model.trainable, change, image = False, Change(), keras.Input(window.shape)
network = keras.Model(image, keras.ops.max(model(change(image))[:, HALF, HALF], axis=-1))
network.compile(keras.optimizers.SGD(1.0), lambda _, logit: logit)
network.train_on_batch(window[None].astype("float32"), np.zeros(1))
gradient = abs(keras.ops.convert_to_numpy(change.change)).sum(axis=-1)
for side in (61, 91, 131):
    inside = gradient[HALF - side // 2 :, HALF - side // 2 :][:side, :side].sum() / gradient.sum()
    print(f"{side}x{side} pixels hold {100 * inside:.0f} % of the gradient")
figure = Figure(figsize=(10, 4), layout="constrained")
left, right = figure.subplots(1, 2, subplot_kw={"xticks": [], "yticks": []})
left.imshow(photo.convert("L"), cmap="gray", vmin=-150)
right.imshow(window.mean(axis=-1), cmap="gray", vmin=-150, vmax=400)
right.imshow(gradient, cmap="inferno", alpha=np.minimum(1, (gradient / gradient.max()) ** 0.25))
for number, name in enumerate((*list(by_hand)[2:], "logits_of_image")):
    size = its[name]
    for axes, centre in ((left, PLACE), (right, HALF)):
        box = Rectangle((centre - size / 2,) * 2, size, size, fill=False, ec=f"C{number}", lw=2)
        axes.add_patch(box).set_label(f"{name}: {size}×{size}")
left.legend(loc="lower right", fontsize=8)
figure.savefig("receptive-field.png", dpi=65)
