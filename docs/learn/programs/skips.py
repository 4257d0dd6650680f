"""The detail that output stride 32, 16 and 8 can represent: each skip adds the residual scores."""

from pathlib import Path

import keras
import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from keras_fcn.label_spaces import CAMVID
from keras_fcn.layers import Bilinear
from keras_fcn.metrics import confusion_matrix, mean_iou
from keras_fcn.visualization import colorize

truth = np.asarray(Image.open(Path(__file__).parent / "street.png")).astype(int)[:352]
valid = truth != CAMVID.ignore_class
# Perfect logits: 1 for the true class, 0 for all others.
wanted = np.eye(12, dtype="float32")[truth][..., :11]
last = {"data_format": "channels_last"}


def upsample(x, factor, crop):
    """The upsampling of FCN-8s with padding="same": bilinear transposed convolution, then crop."""
    bilinear = {"use_bias": False, "kernel_initializer": Bilinear()}
    x = keras.layers.Conv2DTranspose(11, 2 * factor, strides=factor, **bilinear, **last)(x)
    return keras.layers.Cropping2D(crop, **last)(x)


names = ("score_fr", "score_pool4", "score_pool3")
scores = [keras.Input((None, None, 11)) for _ in names]
fused = upsample(scores[0], 2, crop=1) + scores[1]
fused = upsample(fused, 2, crop=1) + scores[2]
decoder = keras.Model(scores, upsample(fused, 8, crop=4))


def cell_means(values, stride):
    """Returns the mean of every stride x stride cell, the target score of that cell."""
    height, width, classes = values.shape
    return values.reshape(height // stride, stride, width // stride, stride, classes).mean((1, 3))


panels, given = {"truth": truth}, [np.zeros((352 // s, 480 // s, 11)) for s in (32, 16, 8)]
logits = 0.0
for index, stride in enumerate((32, 16, 8)):
    given[index] = cell_means(wanted - logits, stride)  # The residual so far.
    logits = decoder.predict([s[None] for s in given], verbose=0)[0]
    label_map = logits.argmax(-1)
    score = mean_iou(confusion_matrix(truth, label_map, 11, ignore_class=11))
    print(f"with {names[index]:<12} (stride {stride:2}): mean IoU {100 * score:.1f} %")
    panels[f"+ {names[index]}: {100 * score:.1f} %"] = label_map

figure = Figure(figsize=(10, 2.3), layout="constrained")
for axes, (title, label_map) in zip(figure.subplots(1, 4), panels.items(), strict=True):
    axes.imshow(colorize(np.where(valid, label_map, 11), CAMVID))
    axes.set(title=title, xticks=[], yticks=[])
figure.savefig("skips.png", dpi=100)
