"""The paper's four metrics, from a confusion matrix small enough to check by hand."""

import numpy as np
from matplotlib.figure import Figure

from keras_fcn import metrics

CLASSES = ("road", "car", "pole")
# Rows are the ground truth, columns the prediction: 10 car pixels were predicted as road.
matrix = np.array([[90, 8, 2], [10, 30, 0], [6, 0, 4]])

right, truth, predicted = matrix.diagonal(), matrix.sum(axis=1), matrix.sum(axis=0)
union = truth + predicted - right
for i, name in enumerate(CLASSES):
    print(f"{name}: accuracy {right[i]}/{truth[i]}, IoU {right[i]}/{union[i]}")
print("pixel accuracy        ", round(float(metrics.pixel_accuracy(matrix)), 4))
print("mean accuracy         ", round(float(metrics.mean_accuracy(matrix)), 4))
print("mean IoU              ", round(float(metrics.mean_iou(matrix)), 4))
print("frequency-weighted IoU", round(float(metrics.frequency_weighted_iou(matrix)), 4))

# One matrix for the whole dataset is not the mean over images: the second image has few car pixels.
first = np.array([[50, 0, 0], [10, 30, 0], [0, 0, 0]])
second = np.array([[95, 4, 0], [1, 0, 0], [0, 0, 0]])
together = metrics.mean_iou(first + second)
each = [metrics.mean_iou(image) for image in (first, second)]
print(f"one matrix: mean IoU {together:.3f}; mean over the two images: {np.mean(each):.3f}")

figure = Figure(figsize=(9, 2.9), layout="constrained")
left, axes = figure.subplots(1, 2, width_ratios=(1, 1.9))
left.imshow(matrix / truth[:, None], cmap="Blues", vmin=0, vmax=1.3)
for row, column in np.ndindex(matrix.shape):
    left.text(column, row, matrix[row, column], ha="center", va="center")
left.set_xticks(range(3), CLASSES)
left.set_yticks(range(3), CLASSES)
left.set(xlabel="predicted", ylabel="truth", title="pixels")
for start, width, colour, label in (
    (np.zeros(3), right, "#55a868", "right"),
    (right, truth - right, "#c44e52", "missed"),
    (truth, predicted - right, "#ccb974", "wrongly claimed"),
):
    axes.barh(range(3), width, left=start, color=colour, label=label)
axes.set_yticks(range(3), [f"{CLASSES[i]}\nIoU {right[i] / union[i]:.2f}" for i in range(3)])
axes.set(xlabel="pixels of the union", title="IoU = green / whole bar")
axes.invert_yaxis()
axes.legend(loc="lower right")
figure.savefig("metrics.png", dpi=90)
