"""The command `keras-fcn`: parses, calls the package, prints.

Keras is imported by the commands that need it and not before, so that `--help` answers at once.
"""

import contextlib
import os
import sys
import warnings

from keras_fcn.cli.parser import build_parser


def main(arguments=None):
    """Runs the command line and returns its exit code: 0, 1 for a failure, 2 for wrong options."""
    options = build_parser().parse_args(arguments)
    try:
        with _quiet_imports():
            import tensorflow

            import keras_fcn.training.trainer  # noqa: F401

            tensorflow.config.list_physical_devices()
        warnings.showwarning = _show_warning
        return options.run(options) or 0
    except (ImportError, OSError, ValueError) as error:
        if options.traceback:
            raise
        print(f"keras-fcn: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("keras-fcn: interrupted", file=sys.stderr)
        return 130


def _show_warning(message, category, filename, lineno, file=None, line=None):
    if "keras_fcn" in filename:
        print(f"keras-fcn: warning: {message}", file=sys.stderr)


@contextlib.contextmanager
def _quiet_imports():
    """Keeps away what TensorFlow's libraries write to standard error while they load."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    sys.stderr.flush()
    kept = os.dup(2)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        sys.stderr.flush()
        os.dup2(kept, 2)
        os.close(kept)
