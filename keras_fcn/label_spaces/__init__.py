"""Label spaces: names and colours of the classes, and the class id of ignored pixels."""

from keras_fcn.label_spaces.ade20k import ADE20K
from keras_fcn.label_spaces.choose import NAMES, choose
from keras_fcn.label_spaces.colour_blind import colour_blind_palette, in_colour_blind_palette
from keras_fcn.label_spaces.files import from_file
from keras_fcn.label_spaces.known import (
    CAMVID,
    CITYSCAPES,
    NYUDV2_40,
    OXFORD_IIIT_PET,
    PASCAL_CONTEXT,
    PASCAL_VOC,
    SIFT_FLOW,
    SIFT_FLOW_GEOMETRIC,
)
from keras_fcn.label_spaces.label_space import LabelSpace, generic, voc_palette

__all__ = [
    "ADE20K",
    "CAMVID",
    "CITYSCAPES",
    "NAMES",
    "NYUDV2_40",
    "OXFORD_IIIT_PET",
    "PASCAL_CONTEXT",
    "PASCAL_VOC",
    "SIFT_FLOW",
    "SIFT_FLOW_GEOMETRIC",
    "LabelSpace",
    "choose",
    "colour_blind_palette",
    "from_file",
    "generic",
    "in_colour_blind_palette",
    "voc_palette",
]
