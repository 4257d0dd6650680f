import doctest
import importlib
import pkgutil

import keras
import numpy as np
import pytest

import keras_fcn

# What other backends than this one's are trained with cannot be imported.
OTHERS = {"tensorflow_", "jax_", "torch_"} - {f"{keras.backend.backend()}_"}
MODULES = [
    module.name
    for module in pkgutil.walk_packages(keras_fcn.__path__, "keras_fcn.")
    if not module.name.endswith("__main__")
    and not module.name.removeprefix("keras_fcn.distribution.").startswith(tuple(OTHERS))
]


@pytest.mark.parametrize("name", MODULES)
def test_examples_print_what_they_say(name):
    from keras_fcn import FCN8s

    module = importlib.import_module(name)
    names = {"np": np, "FCN8s": FCN8s, **vars(module)}
    failed, _ = doctest.testmod(module, extraglobs=names)
    assert failed == 0


def test_there_are_examples():
    finder = doctest.DocTestFinder()
    modules = [importlib.import_module(name) for name in MODULES]
    assert sum(bool(test.examples) for module in modules for test in finder.find(module)) > 10
