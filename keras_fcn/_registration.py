"""Makes `keras.saving.load_model` find this package's classes once both packages are imported.

Keras finds custom classes only when they are registered, that is, when their module has been
imported. Importing them with the package would load a backend on `import keras_fcn`, also for
`keras-fcn --help`. They are imported when Keras is: at once, or later.
"""

import importlib
import sys

import wrapt

_MODULES_WITH_SERIALIZABLE_CLASSES = (
    "keras_fcn.layers",
    "keras_fcn.models.fcn",
    "keras_fcn.models.alexnet",
    "keras_fcn.models.multimodal",
    "keras_fcn.models.multitask",
    "keras_fcn.losses",
    "keras_fcn.metrics",
    "keras_fcn.training.optimizer",
)
# These import Keras before they define the names that the modules above need of them.
_PACKAGES_THAT_IMPORT_KERAS = ("keras_fcn.alignment", "keras_fcn.backends", "keras_fcn.layers")


class _Registration:
    """Imports the classes once Keras and the packages that import it are complete."""

    def __init__(self):
        self._complete: set[str] = set()
        self._is_done = False

    def completed(self, module):
        """Is called with Keras, and with each of the packages, when its import has ended."""
        self._complete.add(module.__name__)
        begun = {name for name in _PACKAGES_THAT_IMPORT_KERAS if name in sys.modules}
        if self._is_done or "keras" not in self._complete or begun - self._complete:
            return
        self._is_done = True  # The imports below call this again.
        for name in _MODULES_WITH_SERIALIZABLE_CLASSES:
            importlib.import_module(name)


_registration = _Registration()
for _name in ("keras", *_PACKAGES_THAT_IMPORT_KERAS):
    wrapt.when_imported(_name)(_registration.completed)
