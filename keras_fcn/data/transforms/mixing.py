"""Transforms that mix two training examples."""

import dataclasses
from collections.abc import Callable, Sequence

import tensorflow as tf

from keras_fcn.arguments import integers, number, optional_integer, wrong


@dataclasses.dataclass(frozen=True)
class MixingTransform:
    """A transform that takes a second training example.

    `training_batches` passes the example that follows in the shuffled order of the epoch, after the
    last the first. So every example is the second one once per epoch, and the choice depends only
    on seed and epoch: neither on the number of processes nor on where a run resumed. The second
    example has gone through the transforms before this one, with its own random numbers, but not
    through other mixing transforms.

    Args:
        function: Function of (image, label_map, seed, other_image, other_label_map) that returns
            (image, label_map). The images may differ in size.
    """

    function: Callable[..., tuple[tf.Tensor, tf.Tensor]]

    def __post_init__(self):
        if not callable(self.function):
            raise wrong("function", "a function", self.function)

    def __call__(
        self,
        image: tf.Tensor,
        label_map: tf.Tensor,
        seed: tf.Tensor,
        other_image: tf.Tensor,
        other_label_map: tf.Tensor,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the image and the label map of the mixed example."""
        return self.function(image, label_map, seed, other_image, other_label_map)

    @property
    def __name__(self):  # For messages.
        return getattr(self.function, "__name__", type(self.function).__name__)


def class_mix(
    classes: Sequence[int] | None = None,
    *,
    probability: float = 0.5,
    ignore_class: int | None = None,
) -> MixingTransform:
    """Makes a transform that pastes the pixels of some classes of another training image.

    Image and label map get the same pixels at the same place. Of a larger image the part at the top
    left is taken.

    Args:
        classes: Ids of the classes that are pasted, such as rare ones. `None` for a random half of
            the classes of the other label map, rounded down, as in ClassMix.
        probability: Probability that an image is pasted on, from 0 to 1.
        ignore_class: Class id that is no class; only for `classes=None`.

    Returns:
        A `MixingTransform` for `training_batches`.

    Raises:
        ValueError: If an argument is not as described.

    Examples:
        >>> paste = class_mix([2], probability=1)
        >>> image = tf.zeros((1, 3, 3), tf.uint8)
        >>> other = image + 9, tf.constant([[2, 0, 2]])
        >>> _, label_map = paste(image, tf.constant([[1, 1, 0]]), (0, 0), *other)
        >>> label_map.numpy().tolist()
        [[2, 1, 2]]

    References:
        - [Olsson et al., 2021](https://arxiv.org/abs/2007.07936)
    """
    probability = number("probability", probability, least=0, most=1)
    if classes is not None:
        classes = integers("classes", classes, least=0)
    if classes == []:
        raise ValueError(
            f"`classes` must hold at least one class id, or be None. Received: {classes=}."
        )
    ignore_class = optional_integer("ignore_class", ignore_class)

    def paste_classes(image, label_map, seed, other_image, other_label_map):
        of_pasting, of_classes = tf.unstack(tf.random.split(seed, 2))

        def pasted():
            if classes is None:
                chosen = _half_of_the_classes(other_label_map, ignore_class, of_classes)
            else:
                chosen = tf.constant(classes, other_label_map.dtype)
            is_chosen = tf.reduce_any(other_label_map[..., None] == chosen, axis=-1)
            size = tf.shape(label_map)
            is_pasted = _of_size(is_chosen, size)
            return (
                tf.where(is_pasted[..., None], _of_size(other_image, size), image),
                tf.where(is_pasted, _of_size(other_label_map, size), label_map),
            )

        is_mixed = tf.random.stateless_uniform((), of_pasting) < probability
        return tf.cond(is_mixed, pasted, lambda: (tf.identity(image), tf.identity(label_map)))

    return MixingTransform(paste_classes)


def _half_of_the_classes(label_map, ignore_class, seed):
    present = tf.unique(tf.reshape(label_map, (-1,)))[0]
    if ignore_class is not None:
        present = tf.boolean_mask(present, present != ignore_class)
    # In the order of the ids, so that the choice does not depend on which comes first.
    shuffled = tf.random.experimental.stateless_shuffle(tf.sort(present), seed)
    return shuffled[: tf.size(present) // 2]


def _of_size(tensor, size):
    """Cuts off rows and columns at the bottom and right, or adds zeros there."""
    tensor = tensor[: size[0], : size[1]]
    missing = size - tf.shape(tensor)[:2]
    paddings = tf.stack([tf.zeros(2, tf.int32), missing], axis=1)
    rest = tf.zeros((tensor.shape.rank - 2, 2), tf.int32)
    return tf.pad(tensor, tf.concat([paddings, rest], axis=0))
