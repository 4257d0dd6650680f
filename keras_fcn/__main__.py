import sys

from keras_fcn.cli import main

sys.exit(main())
