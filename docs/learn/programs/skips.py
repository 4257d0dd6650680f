"""What scores at stride 32, 16 and 8 can draw: each skip adds what the coarser ones left over."""

from pathlib import Path

import keras
import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from keras_fcn import FCN8s
from keras_fcn.label_spaces import CAMVID
from keras_fcn.metrics import confusion_matrix, mean_iou
from keras_fcn.visualization import colorize

truth = np.asarray(Image.open(Path(__file__).parent / "street.png")).astype(int)[:352]
valid = truth != CAMVID.ignore_class
# What perfect logits would be: 1 for the true class, 0 for the others.
wanted = np.eye(12, dtype="float32")[truth][..., :11]

# The upsampling layers of FCN-8s alone: from scores at strides 32, 16 and 8 to logits.
model = FCN8s(11, padding="same", fc_units=4, data_format="channels_last")
names = ("score_fr", "score_pool4", "score_pool3")
scores = [keras.Input((None, None, 11)) for _ in names]
x = scores[0]
for layer, skip in (("upscore2", scores[1]), ("upscore_pool4", scores[2])):
    x = keras.layers.Cropping2D(1, data_format="channels_last")(model.get_layer(layer)(x))
    x = x + skip
x = model.get_layer("upscore8")(x)
decoder = keras.Model(scores, keras.layers.Cropping2D(4, data_format="channels_last")(x))


def cell_means(values, stride):
    """The mean of every stride x stride cell: the score that a cell is to have."""
    height, width, classes = values.shape
    return values.reshape(height // stride, stride, width // stride, stride, classes).mean((1, 3))


panels, given = {"truth": truth}, [np.zeros((352 // s, 480 // s, 11)) for s in (32, 16, 8)]
logits = 0.0
for index, stride in enumerate((32, 16, 8)):
    given[index] = cell_means(wanted - logits, stride)  # What is missing so far.
    logits = np.array(decoder([s[None].astype("float32") for s in given]))[0]
    label_map = logits.argmax(-1)
    score = mean_iou(confusion_matrix(truth, label_map, 11, ignore_class=11))
    print(f"with {names[index]:<12} (stride {stride:2}): mean IoU {100 * score:.1f} %")
    panels[f"+ {names[index]}: {100 * score:.1f} %"] = label_map

figure = Figure(figsize=(10, 2.1), layout="constrained")
for axes, (title, label_map) in zip(figure.subplots(1, 4), panels.items(), strict=True):
    axes.imshow(colorize(np.where(valid, label_map, 11), CAMVID))
    axes.set(title=title, xticks=[], yticks=[])
figure.savefig("skips.png", dpi=100)
