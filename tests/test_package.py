import ast
import importlib
import os
import subprocess
import sys
from pathlib import Path

import keras
import pytest
from programs import imported_by

import keras_fcn

PACKAGE = Path(keras_fcn.__file__).parent

# Each room may import only what stands to its left.
ROOMS = (
    "spec",
    "spelling",
    "arguments",
    "io",
    "label_spaces",
    "backends",
    "distribution",
    "label_maps",
    "losses",
    "metrics",
    "layers",
    "alignment",
    "weights",
    "models",
    "data",
    "visualization",
    "inference",
    "polygons",
    "training",
    "export",
    "serve",
    "cli",
)


def test_every_public_name_resolves():
    for name in keras_fcn.__all__:
        assert getattr(keras_fcn, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'FCN2s'"):
        keras_fcn.FCN2s  # noqa: B018


def test_importing_the_package_imports_no_backend():
    heavy = "keras", "tensorflow", "jax", "torch", "numpy", "PIL", "matplotlib"
    assert imported_by("import keras_fcn", *heavy) == []


def test_help_imports_no_backend():
    script = "from keras_fcn.cli import main\ntry: main(['--help'])\nexcept SystemExit: pass"
    assert imported_by(script, "keras", "tensorflow", "numpy") == []


@pytest.mark.any_backend
def test_what_starts_the_tests_workers_imports_no_backend():
    conftest = Path(__file__).with_name("conftest.py")
    script = f"import runpy; runpy.run_path({str(conftest)!r})"
    assert imported_by(script, "pytest", "keras", "tensorflow", "jax", "torch") == ["pytest"]


@pytest.mark.any_backend
def test_processes_of_tests_keep_their_byte_code_on_disk():
    """Without it, the import of Keras would take two to three times as long in each."""
    script = "import sys; sys.exit(sys.dont_write_bytecode)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


@pytest.mark.gate
@pytest.mark.skipif(keras.backend.backend() == "tensorflow", reason="it is the backend")
def test_a_model_imports_no_tensorflow():
    script = (
        "import keras, keras_fcn, numpy as np\n"
        "model = keras_fcn.FCN8s(2, filters=[8] * 5, fc_units=4, padding='same')\n"
        "model.compile('sgd', keras_fcn.losses.SparseCategoricalCrossentropy(from_logits=True))\n"
        "images, label_maps = np.zeros((1, 8, 8, 3)), np.zeros((1, 8, 8), 'int32')\n"
        "model.train_on_batch(images, label_maps)\n"
        "model.predict(images, verbose=0)\n"
        "image, label_map = np.zeros((600, 8, 3)), np.zeros((600, 8), 'int32')\n"
        "keras_fcn.inference.predict_tiles(model, image, label_map, tile=544)\n"
        "image = x = keras.Input((None, None, 3))\n"
        "for i in range(5): x = keras.layers.Conv2D(4, 3, strides=2, padding='same')(x)\n"
        "model = keras_fcn.FCN8s(2, backbone=keras.Model(image, x), fc_units=4)\n"
        "type(model).from_config(model.get_config())"
    )
    assert imported_by(script, "tensorflow") == []


@pytest.mark.gate
@pytest.mark.any_backend
def test_the_backend_is_the_one_that_was_asked_for():
    assert keras.backend.backend() == os.environ.get("KERAS_BACKEND", "tensorflow")


@pytest.mark.any_backend
@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: path.stem)
def test_imports_go_one_way(path):
    room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    if room not in ROOMS:
        return
    for imported in imported_rooms(ast.parse(path.read_text())):
        assert ROOMS.index(imported) <= ROOMS.index(room), f"{path.name} imports {imported}"


def imported_rooms(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "keras_fcn":
            modules = [f"keras_fcn.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            modules = [node.module or ""]
        elif isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        else:
            continue
        for module in modules:
            parts = module.split(".")
            if parts[0] == "keras_fcn" and len(parts) > 1 and parts[1] in ROOMS:
                yield parts[1]


def test_every_room_is_named_in_the_order():
    rooms = {path.name.removesuffix(".py") for path in PACKAGE.iterdir()}
    rooms -= {"__init__", "__main__", "__pycache__", "version", "_registration", "py.typed"}
    assert rooms <= set(ROOMS)


def test_the_version_is_that_of_the_distribution():
    assert importlib.metadata.version("keras-fcn") == keras_fcn.__version__
