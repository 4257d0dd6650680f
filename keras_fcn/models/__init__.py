"""FCN-32s, FCN-16s and FCN-8s, and the coordinate alignment that determines their crop offsets."""

# Before any module of this package begins: Keras's import also imports those that register classes.
import keras as keras
