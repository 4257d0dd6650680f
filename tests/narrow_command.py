"""The command `keras-fcn` with a VGG-16 in few channels, for tests that start many processes."""

import sys

from helpers import NARROW_FILTERS

from keras_fcn.cli import main
from keras_fcn.models import vgg16

vgg16._FILTERS = NARROW_FILTERS

if __name__ == "__main__":
    sys.exit(main())
