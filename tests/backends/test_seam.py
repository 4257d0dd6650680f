"""Only `keras_fcn.backends` asks which backend runs; only `keras_compat` uses private names."""

import ast
import inspect
import re
from pathlib import Path

import keras
import pytest

import keras_fcn
from keras_fcn.backends import backend, base, keras_compat

PACKAGE = Path(keras_fcn.__file__).parent
BACKENDS = PACKAGE / "backends"
COMPAT = BACKENDS / "keras_compat.py"
PRIVATE_MODULE = re.compile(r"keras\.src\b|jax\._src\b|tensorflow\.python\b|\.compat\.v1\b")
# Documented despite their underscore.
PUBLIC = {"os._exit", "_make"}


def modules(*left_out):
    return [path for path in sorted(PACKAGE.rglob("*.py")) if not any(map(path.match, left_out))]


def private_uses(tree):
    """Lines and code of imports of private modules and of others' private attributes."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Attribute):
            owner = ast.unparse(node.value)
            is_private = re.match(r"_(?!_)", node.attr) and f"{owner}.{node.attr}" not in PUBLIC
            if is_private and owner not in ("self", "cls") and not owner.startswith("super("):
                yield node.lineno, ast.unparse(node)
            continue
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("getattr", "setattr"):
            owner, name = node.args[0], node.args[1]
            if (
                isinstance(name, ast.Constant)
                and re.match(r"_(?!_)", name.value)
                and name.value not in PUBLIC
                and ast.unparse(owner) not in ("self", "cls")
            ):
                yield node.lineno, ast.unparse(node)
            continue
        else:
            continue
        yield from ((node.lineno, name) for name in names if PRIVATE_MODULE.match(name))


@pytest.mark.parametrize(
    ("code", "number"),
    [
        ("from keras.src.trainers import trainer", 1),
        ("import jax._src.distributed", 1),
        ("from tensorflow.python.data import x", 1),
        ("model._compile_loss._flat_losses", 2),
        ("type(optimizer)._sum", 1),
        ("getattr(spec, '_value_specs', None)", 1),
        ("self._own; cls._own; super()._own(); os._exit(1); x.__dict__; keras.ops.sum", 0),
    ],
)
def test_private_names_are_found(code, number):
    assert len(list(private_uses(ast.parse(code)))) == number


@pytest.mark.any_backend
def test_private_names_of_others_stand_in_one_file():
    found = {
        f"{path.relative_to(PACKAGE)}:{line} {code}"
        for path in modules("backends/keras_compat.py")
        for line, code in private_uses(ast.parse(path.read_text()))
    }
    assert found == set()
    assert len(list(private_uses(ast.parse(COMPAT.read_text())))) > 10


@pytest.mark.any_backend
def test_only_the_seam_asks_which_backend_runs():
    asks = re.compile(r"\b(backend\.backend|config\.backend)\(\)|KERAS_BACKEND\W*\]")
    found = {
        str(path.relative_to(PACKAGE))
        for path in modules("backends/*.py")
        if asks.search(path.read_text())
        or re.search(r"backend\.name [!=]=|backend\.name in", path.read_text())
    }
    assert found == set()


@pytest.mark.any_backend
def test_every_private_name_has_its_reason():
    entries = [
        (name, function)
        for name, function in vars(keras_compat).items()
        if getattr(function, "__module__", None) == keras_compat.__name__
    ]
    assert len(entries) > 10
    for name, entry in entries:
        doc = inspect.getdoc(entry)
        assert "Public way tried:" in doc, name
        assert re.search(r"(Keras|TensorFlow|JAX|TFDS) \d", doc), name
        first_test = re.search(r"tests/\S+", doc)[0]
        assert (PACKAGE.parent / first_test.rstrip(".")).exists(), name
    for name, reason in keras_compat.OVERRIDDEN_METHODS.items():
        first_test = re.search(r"tests/\S+", reason)[0]
        assert (PACKAGE.parent / first_test).exists(), name


def test_overridden_private_methods_of_keras_are_listed():
    overridden = {
        name
        for name in vars(backend.trainer())
        if re.match(r"_(?!_)", name) and hasattr(keras.Model, name)
    }
    assert overridden <= set(keras_compat.OVERRIDDEN_METHODS)
    # Those of the other backends, and `_initialize_ddp` of Keras 3.16.
    assert overridden or backend.name == "torch"


def test_used_private_attributes_of_keras_are_listed():
    listed = set(keras_compat.OVERRIDDEN_METHODS) | set(keras_compat.USED_METHODS)
    model = keras_fcn.FCN32s(2, filters=(2, 2, 2, 2, 2), fc_units=2, padding="same")
    model.compile(keras.optimizers.SGD(1e-3), "mse")
    own = {
        name
        for cls in type(model).__mro__
        if cls.__module__.startswith("keras_fcn")
        for name in vars(cls)
    }
    of_keras = {*dir(keras.Model), *vars(keras.Model(model.inputs, model.outputs))} - own
    tree = ast.parse((BACKENDS / f"{backend.name}_trainer.py").read_text())
    trainer = next(node for node in tree.body if getattr(node, "name", "") == "Trainer")
    used = {
        node.attr
        for node in ast.walk(trainer)
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) in ("self", "super()")
    }
    assert {name for name in used & of_keras if re.match(r"_(?!_)", name)} <= listed


def test_a_backend_overrides_only_what_the_protocol_has():
    public = {name for name in vars(type(backend)) if not name.startswith("_")}
    extra = public - set(vars(base.Backend))
    # What only a backend's own trainer and layers call.
    assert extra <= {"computes_on_one_cpu", "common_step"}
