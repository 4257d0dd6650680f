"""Makes `keras.saving.load_model` know this package's classes as soon as both are imported.

Keras only finds custom classes that are registered, that is, whose module has been imported. To
import them with the package would load a backend on `import keras_fcn`; so they are imported right
away where Keras is loaded already, and else at the moment it is.
"""

import gc
import importlib
import importlib.abc
import importlib.util
import sys

_MODULES_WITH_SERIALIZABLE_CLASSES = (
    "keras_fcn.layers",
    "keras_fcn.models.fcn",
    "keras_fcn.losses",
    "keras_fcn.metrics",
    "keras_fcn.training.optimizer",
)


def register_with_keras():
    """Imports the serializable classes now if Keras is loaded, else when it will be."""
    if "keras" in sys.modules:
        _import_serializable_classes()
    elif not any(isinstance(finder, _AfterKerasImport) for finder in sys.meta_path):
        sys.meta_path.insert(0, _AfterKerasImport())


def _import_serializable_classes():
    # A collection that comes due meanwhile goes through all that Keras and TensorFlow hold, and
    # takes several times as long as the imports.
    collects = gc.isenabled()
    gc.disable()
    try:
        for module in _MODULES_WITH_SERIALIZABLE_CLASSES:
            importlib.import_module(module)
    finally:
        if collects:
            gc.enable()


class _AfterKerasImport(importlib.abc.MetaPathFinder):
    """Finder that lets Keras load as usual and then imports the serializable classes, once."""

    def find_spec(self, fullname, path=None, target=None):
        if fullname != "keras":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec("keras")
        if spec is None or spec.loader is None:
            return spec
        run_keras = spec.loader.exec_module

        def run_keras_and_register(module):
            run_keras(module)
            _import_serializable_classes()

        spec.loader.exec_module = run_keras_and_register
        return spec
