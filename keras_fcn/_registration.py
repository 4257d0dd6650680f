"""Makes `keras.saving.load_model` find this package's classes once both packages are imported.

Keras finds custom classes only when they are registered, that is, when their module has been
imported. Importing them with the package would load a backend on `import keras_fcn`, also for
`keras-fcn --help`. They are imported when Keras is: at once, or later.
"""

import importlib

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


@wrapt.when_imported("keras")
def _import_serializable_classes(_):
    for module in _MODULES_WITH_SERIALIZABLE_CLASSES:
        importlib.import_module(module)
