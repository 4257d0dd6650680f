"""Data augmentation: pure functions that change an image and its label map together.

A transform is a function of (image, label_map, seed), all tensors: (height, width, channels),
(height, width) and two integers. It returns the image and the label map. The result depends only on
the arguments, so that a pipeline can run transforms in any number of threads and repeat them after
a restart. (Keras's preprocessing layers keep a counter instead of a seed per example: which example
gets which random numbers depends on the threads.) `random_flip` is a transform; the other functions
make one. A `MixingTransform` also takes a second training example.

Label maps are never interpolated: a value is copied from the nearest pixel, or is `ignore_class`.
Pixel centres lie at one half, in the image and in the label map, so that both stay aligned.

`as_transform` makes a transform of other augmentation: functions of NumPy arrays, Albumentations
and Keras's layers.
"""

from keras_fcn.data.transforms.adapters import as_transform
from keras_fcn.data.transforms.geometric import (
    Transform,
    random_crop,
    random_flip,
    random_resized_crop,
    random_rotation,
    random_scale,
    resize_keeping_aspect,
)
from keras_fcn.data.transforms.mixing import MixingTransform, class_mix
from keras_fcn.data.transforms.photometric import (
    cutout,
    gaussian_blur,
    gaussian_noise,
    photometric_jitter,
)

__all__ = [
    "MixingTransform",
    "Transform",
    "as_transform",
    "class_mix",
    "cutout",
    "gaussian_blur",
    "gaussian_noise",
    "photometric_jitter",
    "random_crop",
    "random_flip",
    "random_resized_crop",
    "random_rotation",
    "random_scale",
    "resize_keeping_aspect",
]
