import functools
import importlib
import inspect
import pkgutil
from importlib import resources

import keras
import pytest

import keras_fcn

BACKENDS = {"tensorflow", "jax", "torch"}
OTHERS = tuple(f"keras_fcn.backends.{name}" for name in BACKENDS - {keras.backend.backend()})
MODULES = [
    module.name
    for module in pkgutil.walk_packages(keras_fcn.__path__, "keras_fcn.")
    if not module.name.startswith(OTHERS) and not module.name.endswith("__main__")
]
# The mixins of a backend precede these two in the bases of what they are mixed into.
KERAS_METHODS = {*dir(keras.Model), *dir(keras.distribution.DataParallel)}


def public_functions(module):
    for name, item in vars(module).items():
        if name.startswith("_") or getattr(item, "__module__", None) != module.__name__:
            continue
        if inspect.isclass(item):
            yield from methods(item)
        elif inspect.isfunction(inspect.unwrap(item)):
            yield name, inspect.unwrap(item)


def methods(cls):
    """Yields the methods of a class that override neither Keras's nor those of a base class."""
    inherited = {name for base in cls.__mro__[1:] for name in vars(base)} | KERAS_METHODS
    for name, member in vars(cls).items():
        function = function_of(member)
        is_new = name not in inherited and not name.startswith("_")
        if function is not None and (is_new or name == "__init__"):
            yield f"{cls.__name__}.{name}", function


def function_of(member):
    if isinstance(member, property):
        return member.fget
    if isinstance(member, functools.cached_property):
        return member.func
    if isinstance(member, classmethod | staticmethod):
        return member.__func__
    return inspect.unwrap(member) if inspect.isfunction(member) else None


def untyped(function, name):
    signature = inspect.signature(function)
    missing = [
        parameter.name
        for parameter in signature.parameters.values()
        if parameter.annotation is parameter.empty and parameter.name not in ("self", "cls")
    ]
    if signature.return_annotation is signature.empty and not name.endswith("__init__"):
        missing.append("return")
    return missing


@pytest.mark.parametrize("name", MODULES)
def test_public_functions_are_typed(name):
    found = {n: untyped(f, n) for n, f in public_functions(importlib.import_module(name))}
    assert not {name: missing for name, missing in found.items() if missing}


def test_untyped_arguments_and_results_are_found():
    def function(a: int, b):
        pass

    assert untyped(function, "function") == ["b", "return"]


def test_type_checkers_read_the_annotations_of_the_package():
    assert resources.files("keras_fcn").joinpath("py.typed").is_file()
