"""Keras layers and initializers that the FCN models are built from."""

from keras_fcn.layers.bilinear import Bilinear
from keras_fcn.layers.bilinear_upsampling2d import BilinearUpSampling2D
from keras_fcn.layers.convolutionalized_dense import ConvolutionalizedDense
from keras_fcn.layers.crop_to_reference import CropToReference
from keras_fcn.layers.dropout import Dropout
from keras_fcn.layers.empty_border import EmptyBorder
from keras_fcn.layers.fcn_conv2d_transpose import FCNConv2DTranspose
from keras_fcn.layers.grouped_conv2d import GroupedConv2D
from keras_fcn.layers.local_response_normalization import LocalResponseNormalization
from keras_fcn.layers.pad_to_stride import PadToStride
from keras_fcn.layers.surround import Surround
from keras_fcn.layers.vgg_conv2d import VGGConv2D
from keras_fcn.layers.vgg_max_pooling2d import VGGMaxPooling2D
from keras_fcn.layers.vgg_preprocessing import VGGPreprocessing

__all__ = [
    "Bilinear",
    "BilinearUpSampling2D",
    "ConvolutionalizedDense",
    "CropToReference",
    "Dropout",
    "EmptyBorder",
    "FCNConv2DTranspose",
    "GroupedConv2D",
    "LocalResponseNormalization",
    "PadToStride",
    "Surround",
    "VGGConv2D",
    "VGGMaxPooling2D",
    "VGGPreprocessing",
]
