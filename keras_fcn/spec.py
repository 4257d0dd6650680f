"""Facts of the networks that several modules share; imports nothing."""

MODEL_NAMES = ("fcn32s", "fcn16s", "fcn8s")
"""Short names of the models, from the coarsest output stride to the finest."""

VGG16_FILTERS = (64, 128, 256, 512, 512)
"""Filters of the convolutions in each of VGG-16's five blocks."""

AT_ONCE_SKIP_SCALES = (0.01, 0.0001)
"""`skip_scales` of FCN-8s trained all at once instead of in three stages."""
