"""The modules of the builders by the names of their data sets."""

import importlib


def module_of(data_set):
    return importlib.import_module(f"keras_fcn.data.builders.{data_set}.{data_set}_dataset_builder")
