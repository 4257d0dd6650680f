"""A classifier with a Dense layer becomes a network that returns a score map for any image size."""

from pathlib import Path

import keras
import numpy as np
from keras.ops import convert_to_numpy
from matplotlib.figure import Figure
from PIL import Image

from keras_fcn.label_spaces import CAMVID
from keras_fcn.layers import ConvolutionalizedDense
from keras_fcn.visualization import colorize

here = Path(__file__).parent
street = np.asarray(Image.open(here / "street.jpg"), "float32") / 255
truth = np.asarray(Image.open(here / "street.png")).astype(int)

# A classifier of 56x56 windows: mean colours of 7x7 cells -> Flatten -> Dense(11).
pool = keras.layers.AveragePooling2D(8, data_format="channels_last")
dense = keras.layers.Dense(11)
classifier = keras.Sequential([keras.Input((56, 56, 3)), pool, keras.layers.Flatten(), dense])

# Fit its weights with least squares on 2,000 windows; the label is the class of the centre pixel.
generator = np.random.default_rng(0)
corners = np.transpose([generator.integers(0, 360 - 56, 4000), generator.integers(0, 424, 4000)])
corners = [(r, c) for r, c in corners if truth[r + 28, c + 28] != CAMVID.ignore_class][:2000]
windows = np.stack([street[r : r + 56, c : c + 56] for r, c in corners])
answers = np.eye(11)[[truth[r + 28, c + 28] for r, c in corners]]
features = convert_to_numpy(pool(windows)).reshape(2000, -1)
features = np.hstack([features, np.ones((2000, 1))])
solution = np.linalg.solve(features.T @ features + 0.1 * np.eye(148), features.T @ answers)
dense.set_weights([solution[:-1], solution[-1]])

# The same weights as a 7x7 kernel: the Dense matrix (7*7*3, 11), reshaped to (7, 7, 3, 11).
fc6 = ConvolutionalizedDense(11, kernel_size=7, data_format="channels_last")
convolutional = keras.Sequential([keras.Input((None, None, 3)), pool, fc6])
fc6.set_weights([solution[:-1].reshape(7, 7, 3, 11), solution[-1]])

one, scores = (convert_to_numpy(model(windows[:1])) for model in (classifier, convolutional))
print("on a window of 56x56  Dense:", one.shape, " convolution:", scores.shape)
print("the same scores:", np.allclose(one, scores[:, 0, 0], atol=1e-3))
try:
    classifier(street[None])
except ValueError:
    print("on the whole street   Dense: ValueError")
scores = convert_to_numpy(convolutional(street[None]))[0]
print("on the whole street   convolution:", scores.shape)

figure = Figure(figsize=(10, 2.3), layout="constrained")
panels = {"image, 360×480": street, "true classes, 360×480": colorize(truth, CAMVID)}
panels["highest score, 39×54"] = colorize(scores.argmax(-1), CAMVID)
panels["score of tree, 39×54"] = scores[..., CAMVID.class_names.index("tree")]
for axes, (title, panel) in zip(figure.subplots(1, 4), panels.items(), strict=True):
    axes.imshow(panel)
    axes.set(title=title, xticks=[], yticks=[])
figure.savefig("convolutional.png", dpi=90)
