"""Several label maps of one image as a single label map, for reading and augmentation."""

import math
from collections.abc import Mapping

import tensorflow as tf

from keras_fcn.label_spaces import LabelSpace, generic


class JointClasses:
    """One class for each combination of the classes of several tasks, ignored pixels included.

    A joint label map passes through augmentation and batching like any other, so that the label
    maps of all tasks stay in register. The joint ignored class is that of pixels which every task
    ignores.

    Args:
        label_spaces: Dictionary from the name of each task to its `LabelSpace`, which must have an
            `ignore_class`.

    Raises:
        ValueError: If a label space has no `ignore_class`.
    """

    def __init__(self, label_spaces: Mapping[str, LabelSpace]):
        if without := [task for task, s in label_spaces.items() if s.ignore_class is None]:
            raise ValueError(
                f"`label_spaces` must have an `ignore_class` each. Received: {without[0]} without."
            )
        self.label_spaces = dict(label_spaces)
        # The digits of a joint class id; the last digit of a task is its ignored class.
        self._bases = [space.num_classes + 1 for space in label_spaces.values()]
        ignore_class = math.prod(self._bases) - 1
        self.label_space = generic(ignore_class, ignore_class=ignore_class)
        """`LabelSpace` of the joint label map."""

    def join(self, label_maps: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """Returns the joint label map, int32, of one label map per task of the same shape."""
        joint = 0
        for (task, space), base in zip(self.label_spaces.items(), self._bases, strict=True):
            label_map = tf.cast(label_maps[task], tf.int32)
            digit = tf.where(label_map == space.ignore_class, base - 1, label_map)
            joint = joint * base + digit
        return joint

    def split(self, joint: tf.Tensor) -> dict[str, tf.Tensor]:
        """Returns the label map of each task, int32, of a joint label map of any shape."""
        label_maps = {}
        for task, base in zip(reversed(self.label_spaces), reversed(self._bases), strict=True):
            joint, digit = joint // base, joint % base
            ignore_class = self.label_spaces[task].ignore_class
            label_maps[task] = tf.where(digit == base - 1, ignore_class, digit)
        return {task: label_maps[task] for task in self.label_spaces}
