"""Models in the formats of other runtimes: written, checked there, and used as models."""

from keras_fcn.export.exported import ExportedModel, names_model, open_model
from keras_fcn.export.exporting import Exported, export, published_license
from keras_fcn.export.metadata import Metadata

__all__ = [
    "Exported",
    "ExportedModel",
    "Metadata",
    "export",
    "names_model",
    "open_model",
    "published_license",
]
