"""Only what Keras lacks."""

import keras


@keras.saving.register_keras_serializable(package="keras_fcn")
class SparseCategoricalCrossentropy(keras.losses.SparseCategoricalCrossentropy):
    """Keras's loss of the same name, with the classes on any axis.

    Keras 3.15 takes `axis=1`, which `channels_first` needs, on PyTorch alone, and forgets it when a
    compiled model is saved. With `axis=-1` the two are equal.

    Args:
        from_logits: As in Keras; `True` for the logits of this package's models.
        ignore_class: Label of the pixels that give neither loss nor gradient.
        reduction: As in Keras: `"sum_over_batch_size"` is the mean over the batch's pixels that are
            not ignored, `"sum"` the paper's sum.
        axis: Axis of the predictions that holds the classes; 1 for `channels_first`.
        name: Name of the loss.
        dtype: As in Keras.

    Examples:
        >>> loss = SparseCategoricalCrossentropy(from_logits=True, ignore_class=255, axis=1)
        >>> round(float(loss(np.array([[[0, 255]]]), np.zeros((1, 4, 1, 2)))), 4)  # log(4)
        1.3863
    """

    def __init__(
        self,
        from_logits: bool = False,
        ignore_class: int | None = None,
        reduction: str | None = "sum_over_batch_size",
        axis: int = -1,
        name: str = "sparse_categorical_crossentropy",
        dtype: str | keras.DTypePolicy | None = None,
    ):
        super().__init__(from_logits, ignore_class, reduction=reduction, name=name, dtype=dtype)
        self.axis = axis

    def call(self, y_true, y_pred):
        return super().call(y_true, keras.ops.moveaxis(y_pred, self.axis, -1))

    def get_config(self):
        return {**super().get_config(), "axis": self.axis}
