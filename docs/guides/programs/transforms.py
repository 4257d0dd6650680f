"""What each transform makes of one photo and its label map, drawn over each other.

python transforms.py

Prints the share of ignored pixels and writes transforms.jpg.
"""

from pathlib import Path

import numpy as np
import tensorflow as tf
from matplotlib.figure import Figure
from PIL import Image

from keras_fcn.data import transforms as t
from keras_fcn.label_spaces import CAMVID
from keras_fcn.visualization import overlay

programs = Path(__file__).parents[2] / "learn" / "programs"
image = np.asarray(Image.open(programs / "street.jpg"))
label_map = np.asarray(Image.open(programs / "street.png")).astype("int32")
ignored, rare = CAMVID.ignore_class, [CAMVID.class_id("pole"), CAMVID.class_id("pedestrian")]
height, width = label_map.shape
# The second example: the photo, mirrored.
second = tf.constant(image[:, ::-1]), tf.constant(label_map[:, ::-1])

views = {
    "the photo": lambda image, label_map, seed: (image, label_map),
    "random_scale + random_crop": t.random_crop(height, width, ignored),
    "random_crop(classes=...)": t.random_crop(height // 2, width // 2, ignored, classes=rare),
    "random_resized_crop": t.random_resized_crop(height, width),
    "random_rotation": t.random_rotation(-15, -15, ignored),
    "photometric_jitter": t.photometric_jitter(),
    "gaussian_blur": t.gaussian_blur(3, 3),
    "gaussian_noise": t.gaussian_noise(0.1, 0.1),
    "cutout": t.cutout(height // 4, width // 4, number=2),
    "cutout(ignore_class=...)": t.cutout(height // 4, width // 4, number=2, ignore_class=ignored),
    "class_mix": t.class_mix([CAMVID.class_id("car"), *rare], probability=1),
    "as_transform": t.as_transform(lambda image, labels: (image[:, ::-1], labels[:, ::-1])),
}
figure = Figure(figsize=(12, 7.2), layout="constrained")
for axes, (name, transform) in zip(figure.subplots(3, 4).flat, views.items(), strict=True):
    example = tf.constant(image), tf.constant(label_map)
    if "scale" in name:
        example = t.random_scale(0.8, 0.8)(*example, (3, 0))
    others = second if isinstance(transform, t.MixingTransform) else ()
    changed, labels = (part.numpy() for part in transform(*example, (3, 1), *others))
    share = (labels == ignored).mean()
    print(f"{name:28} {labels.shape[1]}x{labels.shape[0]} {share:6.1%} ignored")
    axes.imshow(overlay(changed, labels, CAMVID, opacity=0.4))
    axes.set_title(name, fontsize=10)
    axes.axis("off")
figure.savefig("transforms.jpg", dpi=80, pil_kwargs={"quality": 85})
