"""Upper bound of the mean IoU by output stride: every grid cell predicts a single class.

python stride.py [FOLDER OF LABEL MAPS [NUM_CLASSES [IGNORE_CLASS]]]
"""

import sys
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from keras_fcn.label_spaces import CAMVID
from keras_fcn.metrics import confusion_matrix, mean_iou
from keras_fcn.visualization import colorize

here = Path(__file__).parent
files = sorted(Path(sys.argv[1]).glob("*.png")) if sys.argv[1:] else [here / "street.png"]
num_classes, ignore_class = (int(n) for n in (*sys.argv[2:4], 11, 11)[:2])


def best_on_grid(label_map, stride):
    """Returns the most frequent class of every stride x stride cell, upsampled to full size."""
    height, width = label_map.shape
    rows, columns = -(-height // stride), -(-width // stride)
    counts = np.zeros((num_classes, rows, columns), int)
    y, x = np.nonzero(label_map != ignore_class)
    np.add.at(counts, (label_map[y, x], y // stride, x // stride), 1)
    cells = counts.argmax(axis=0)
    return cells.repeat(stride, 0).repeat(stride, 1)[:height, :width]


figure = Figure(figsize=(10, 2.5), layout="constrained")
for axes, stride in zip(figure.subplots(1, 4), (1, 8, 16, 32), strict=True):
    matrix = 0
    for file in files:
        label_map = np.asarray(Image.open(file)).astype(int)
        best = best_on_grid(label_map, stride)
        matrix = matrix + confusion_matrix(label_map, best, num_classes, ignore_class)
    score = mean_iou(matrix)
    print(f"stride {stride:2}: mean IoU at most {100 * score:.1f} % of {len(files)} label map(s)")
    shown = colorize(label_map if stride == 1 else best, CAMVID)
    axes.imshow(shown)
    title = "truth" if stride == 1 else f"stride {stride}: {100 * score:.1f} %"
    axes.set(title=title, xticks=[], yticks=[])
figure.savefig("stride.png", dpi=100)
