"""What a saved model is made of is found again in a process that has imported nothing else."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from helpers import NARROW_FILTERS

import keras_fcn
from keras_fcn import _registration
from keras_fcn.training.optimizer import CoupledSGD

PACKAGE = Path(keras_fcn.__file__).parent
SERIALIZABLE = re.compile(r"^@keras\.saving\.register_keras_serializable\(.*\)\nclass (\w+)", re.M)
SCRIPT = """
import {0}
import {1}
import keras
print(sorted(keras.saving.get_custom_objects()))
print(type(keras.saving.load_model("model.keras").optimizer).__name__)
"""


@pytest.mark.gate
@pytest.mark.parametrize(
    "order",
    [
        pytest.param(("keras", "keras_fcn"), marks=pytest.mark.any_backend),
        ("keras_fcn", "keras"),
    ],
)
def test_a_fresh_process_knows_every_class_and_a_model_compiled_with_our_optimizer(order, tmp_path):
    model = keras_fcn.FCN32s(3, filters=NARROW_FILTERS, fc_units=4, padding="same")
    loss = keras_fcn.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=255)
    metric = keras_fcn.metrics.MeanIoU(3, ignore_class=255)
    model.compile(CoupledSGD(1e-10, momentum=0.99, decay=5e-4), loss, metrics=[metric])
    model.train_on_batch(np.zeros((1, 8, 8, 3)), np.zeros((1, 8, 8), "int32"))
    model.save(tmp_path / "model.keras")

    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(*order)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    names, optimizer = done.stdout.splitlines()[-2:]
    written = {
        f"keras_fcn>{name}"
        for path in PACKAGE.rglob("*.py")
        for name in SERIALIZABLE.findall(path.read_text())
    }
    assert len(written) > 20
    assert set(ast.literal_eval(names)) == written
    assert optimizer == "CoupledSGD"


def test_every_module_with_a_serializable_class_is_imported_with_keras():
    with_classes = {
        path.relative_to(PACKAGE.parent).with_suffix("").as_posix().replace("/", ".")
        for path in PACKAGE.rglob("*.py")
        if SERIALIZABLE.search(path.read_text())
    }
    registered = _registration._MODULES_WITH_SERIALIZABLE_CLASSES
    assert [
        m
        for m in sorted(with_classes)
        if not f"{m}.".startswith(tuple(f"{r}." for r in registered))
    ] == []
    assert all(
        keras.saving.get_registered_object(f"keras_fcn>{name}") is not None
        for name in ("CoupledSGD", "FCN8s", "Bilinear", "Dice", "MeanIoU")
    )


# Forks a process for each module: an interpreter for each would cost three seconds of imports. What
# Keras imports if it is there is imported before the first of them.
FIRST = """
import contextlib, importlib, os, sys
importlib.import_module(sys.argv[1])
import h5py, numpy, PIL.Image, keras_fcn
for name in ("matplotlib.pyplot", "pandas", "sklearn.base"):
    with contextlib.suppress(ImportError):
        importlib.import_module(name)
assert "keras" not in sys.modules
failed = 0
for name in sys.argv[2:]:
    child = os.fork()
    if child == 0:
        try:
            importlib.import_module(name)
            import keras
            assert "keras_fcn>FCN8s" in keras.saving.get_custom_objects()
        except BaseException as error:
            print(f"{name}: {error!r}", flush=True)
            os._exit(1)
        os._exit(0)
    failed |= os.waitpid(child, 0)[1]
sys.exit(failed != 0)
"""


@pytest.mark.gate
@pytest.mark.skipif(
    keras.backend.backend() != "jax", reason="TensorFlow imports Keras, and PyTorch takes longer"
)
def test_every_room_can_be_imported_before_keras():
    """Keras's import, in the midst of ours, imports the modules of the classes."""
    rooms = [
        *("alignment", "backends", "layers", "losses", "metrics", "inference", "weights"),
        *("data", "distribution.scopes", "training.trainer"),
        *("models.fcn", "models.backbone", "models.alexnet", "models.multitask"),
    ]
    done = subprocess.run(
        [
            *(sys.executable, "-W", "ignore", "-c", FIRST),
            keras.backend.backend(),
            *(f"keras_fcn.{room}" for room in rooms),
        ],
        capture_output=True,
        text=True,
    )
    assert (done.stdout, done.returncode) == ("", 0)
