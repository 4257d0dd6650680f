import doctest
import functools
import importlib
import pkgutil

import keras
import numpy as np
import pytest
from helpers import NARROW_FILTERS

import keras_fcn

# The modules of backends other than this one, which may not be installed.
OTHERS = {"tensorflow", "jax", "torch"} - {keras.config.backend()}
MODULES = [
    module.name
    for module in pkgutil.walk_packages(keras_fcn.__path__, "keras_fcn.")
    if not module.name.endswith("__main__")
    and not module.name.removeprefix("keras_fcn.backends.").startswith(tuple(OTHERS))
]


# The examples of other modules are whole networks, which other tests run on every backend, or
# compute nothing with one.
ON_EVERY_BACKEND = tuple(
    f"keras_fcn.{room}"
    for room in ("backends", "distribution", "label_maps", "layers", "losses", "metrics")
)


def once(name):
    marks = [] if name.startswith(ON_EVERY_BACKEND) else [pytest.mark.any_backend]
    return pytest.param(name, marks=marks)


@pytest.mark.parametrize("name", [once(name) for name in MODULES])
def test_examples_print_what_they_say(name):
    module = importlib.import_module(name)
    failed, _ = doctest.testmod(module, extraglobs={"np": np, **narrow_models()})
    assert failed == 0


def narrow_models():
    """The models as the examples see them: all that these print is the same at any width."""
    return {
        name: functools.partial(getattr(keras_fcn, name), filters=NARROW_FILTERS)
        for name in ("FCN32s", "FCN16s", "FCN8s")
    }


def test_there_are_examples():
    finder = doctest.DocTestFinder()
    modules = [importlib.import_module(name) for name in MODULES]
    assert sum(bool(test.examples) for module in modules for test in finder.find(module)) > 10
