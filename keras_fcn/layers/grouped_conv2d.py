"""AlexNet's convolutions in groups of channels."""

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="keras_fcn")
class GroupedConv2D(keras.layers.Conv2D):
    """`keras.layers.Conv2D` whose groups are computed one by one; equal to it up to rounding.

    TensorFlow on CPUs compiles Keras's grouped convolution with XLA, for every image size anew, and
    no exported ONNX file can run it. Arguments, shapes and errors are those of
    `keras.layers.Conv2D`.

    Examples:
        >>> tuple(GroupedConv2D(6, 3, groups=2, padding="same")(np.zeros((1, 9, 8, 4))).shape)
        (1, 9, 8, 6)
    """

    def convolution_op(self, inputs, kernel):
        axis = -1 if self.data_format == "channels_last" else 1
        parts = zip(
            ops.split(inputs, self.groups, axis=axis),
            ops.split(kernel, self.groups, axis=-1),
            strict=True,
        )
        maps = [super(GroupedConv2D, self).convolution_op(part, own) for part, own in parts]
        return ops.concatenate(maps, axis=axis)
