"""A prediction in tiles that ended early continues; one of something else begins again."""

import os
import random
import subprocess
import sys
import time
import warnings

import keras
import numpy as np
import pytest
from helpers import NARROW_FILTERS, randomize
from keras import layers

from keras_fcn import FCN8s
from keras_fcn.inference import predict, predict_tiles
from keras_fcn.inference.rasters import DamagedImageError

pytestmark = pytest.mark.any_backend
IMAGE = np.random.default_rng(0).integers(0, 256, (64, 48, 3), "uint8")
TILE = 20


def above(threshold):
    """A network whose label is whether the red value is above a threshold; halo 1."""
    image = keras.Input((None, None, 3))
    convolution = layers.Conv2D(2, 3, padding="same")
    model = keras.Model(image, convolution(image))
    kernel = np.zeros((3, 3, 3, 2))
    kernel[1, 1, 0, 1] = 1
    convolution.set_weights([kernel, np.array([threshold, 0.0])])
    return model


@pytest.fixture(scope="module")
def model():
    return above(100)


def until(windows):
    """A `progress` that interrupts after some windows."""

    def progress(done, total):
        if done == windows:
            raise KeyboardInterrupt

    return progress


def write_tiff(path, image):
    """Writes an image in strips of a few rows, from top to bottom."""
    rasterio = pytest.importorskip("rasterio")
    profile = {"driver": "GTiff", "count": 3, "dtype": "uint8", "photometric": "RGB"}
    with (
        warnings.catch_warnings(action="ignore"),
        rasterio.open(path, "w", height=64, width=48, blockysize=4, **profile) as file,
    ):
        file.write(image.transpose(2, 0, 1))


def begin(model, sink, image=IMAGE, windows=5):
    """Predicts some windows and is interrupted."""
    with pytest.raises(KeyboardInterrupt):
        predict_tiles(model, image, sink, tile=TILE, progress=until(windows))
    assert not sink.exists()
    return sink.with_name(f"{sink.name}.unfinished")


def first_count(model, sink, image=IMAGE, tile=TILE):
    """Finishes a prediction; returns how many windows were finished before."""
    calls = []
    predict_tiles(model, image, sink, tile=tile, progress=lambda *n: calls.append(n))
    assert calls[-1][0] == calls[-1][1]
    return calls[0][0]


class TestResume:
    @pytest.mark.parametrize("suffix", [".tif", ".png", ".npy"])
    def test_continues_after_the_last_finished_window(self, model, suffix, tmp_path):
        folder = begin(model, tmp_path / f"labels{suffix}")
        assert folder.is_dir()
        # What a later run would overwrite, if it computed the first window again.
        array = np.load(folder / "array.npy", mmap_mode="r+")
        array[0, 0] = 1 - array[0, 0]
        array.flush()
        assert first_count(model, tmp_path / f"labels{suffix}") == 5
        assert [path.name for path in tmp_path.iterdir()] == [f"labels{suffix}"]
        if suffix == ".npy":
            expected = IMAGE[..., 0] > 100
            expected[0, 0] ^= True
            np.testing.assert_array_equal(np.load(tmp_path / "labels.npy"), expected)

    def test_a_line_that_was_being_written_does_not_count(self, model, tmp_path):
        folder = begin(model, tmp_path / "labels.npy")
        with (folder / "finished.txt").open("a") as file:
            file.write("6")  # Without its end.
        assert first_count(model, tmp_path / "labels.npy") == 5
        np.testing.assert_array_equal(np.load(tmp_path / "labels.npy"), IMAGE[..., 0] > 100)

    def test_an_error_in_the_last_step_loses_nothing(self, model, tmp_path, monkeypatch):
        from keras_fcn.inference import sinks

        def full(*args, **kwargs):
            raise OSError("disk full")

        with monkeypatch.context() as patch:
            patch.setattr(sinks, "write_geotiff", full)
            with pytest.raises(OSError, match="disk full"):
                predict_tiles(model, IMAGE, tmp_path / "labels.tif", tile=TILE)
        assert [path.name for path in tmp_path.iterdir()] == ["labels.tif.unfinished"]
        assert first_count(model, tmp_path / "labels.tif") > 5


@pytest.mark.parametrize("windows", [1, 3, 5, 6])
def test_an_fcn_continues_in_every_stage(windows, tmp_path):
    """Four windows of the trunk, one of the classifier, and three of the decoder."""
    options = {"filters": NARROW_FILTERS, "fc_units": 4, "fc6_kernel_size": 1}
    model = FCN8s(3, **options, padding="same")
    randomize(model, seed=0)
    image = np.repeat(IMAGE, 10, axis=0)
    with pytest.raises(KeyboardInterrupt):
        predict_tiles(model, image, tmp_path / "labels.npy", tile=320, progress=until(windows))
    assert first_count(model, tmp_path / "labels.npy", image, 320) == windows
    expected = predict(model, image)
    second, first = np.sort(expected.scores, axis=-1)[..., -2:].transpose(2, 0, 1)
    is_clear = first - second > 1e-4
    found = np.load(tmp_path / "labels.npy")
    np.testing.assert_array_equal(found[is_clear], expected.label_map[is_clear])
    assert [path.name for path in tmp_path.iterdir()] == ["labels.npy"]


LOCKED = """
import fcntl, sys
file = open(sys.argv[1], "a")
fcntl.lockf(file, fcntl.LOCK_EX)
print("locked", flush=True)
sys.stdin.read()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such locks")
def test_another_process_that_writes_the_same_file_is_an_error(model, tmp_path):
    folder = begin(model, tmp_path / "labels.npy")
    command = [sys.executable, "-c", LOCKED, str(folder / "lock")]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout.readline() == "locked\n"
        with pytest.raises(OSError, match="must be written by one process"):
            predict_tiles(model, IMAGE, tmp_path / "labels.npy", tile=TILE)
        other.stdin.close()
    assert first_count(model, tmp_path / "labels.npy") == 5


class TestOfSomethingElse:
    """Begins again, with a warning, and with the right result."""

    def check(self, folder, model, image=IMAGE, threshold=100, tile=TILE):
        with pytest.warns(UserWarning, match=r"labels.npy.unfinished is of another image, model"):
            assert first_count(model, folder / "labels.npy", image, tile) == 0
        np.testing.assert_array_equal(np.load(folder / "labels.npy"), image[..., 0] > threshold)
        assert [path.name for path in folder.iterdir()] == ["labels.npy"]

    def test_weights(self, model, tmp_path):
        begin(model, tmp_path / "labels.npy")
        self.check(tmp_path, above(50), threshold=50)

    def test_image(self, model, tmp_path):
        begin(model, tmp_path / "labels.npy")
        self.check(tmp_path, model, 255 - IMAGE)

    def test_size_of_the_tiles(self, model, tmp_path):
        begin(model, tmp_path / "labels.npy")
        self.check(tmp_path, model, tile=TILE + 5)

    def test_file(self, model, tmp_path):
        folder = tmp_path / "out"
        folder.mkdir()
        write_tiff(tmp_path / "image.tif", IMAGE)
        begin(model, folder / "labels.npy", tmp_path / "image.tif")
        write_tiff(tmp_path / "image.tif", 255 - IMAGE)
        os.utime(tmp_path / "image.tif", (0, 0))
        with pytest.warns(UserWarning, match="is of another image"):
            assert first_count(model, folder / "labels.npy", tmp_path / "image.tif") == 0
        np.testing.assert_array_equal(np.load(folder / "labels.npy"), 255 - IMAGE[..., 0] > 100)


class TestNothingToContinue:
    """Leaves no file."""

    def test_no_window_is_finished(self, model, tmp_path):
        places = {"sink": tmp_path / "a.npy", "probabilities": tmp_path / "b.npy"}
        with pytest.raises(KeyboardInterrupt):
            predict_tiles(model, IMAGE, **places, tile=TILE, progress=until(0))
        assert not list(tmp_path.iterdir())

    def test_the_second_file_cannot_be_written(self, model, tmp_path):
        places = {"sink": tmp_path / "a.npy", "probabilities": tmp_path / "absent" / "b.npy"}
        with pytest.raises(FileNotFoundError):
            predict_tiles(model, IMAGE, **places, tile=TILE)
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize("is_there", [True, False])
    def test_the_image_is_damaged_or_gone(self, is_there, model, tmp_path):
        """Only the finished windows of one that may come back are kept."""
        image, sink = tmp_path / "image.tif", tmp_path / "labels.tif"
        write_tiff(image, IMAGE)
        finished = []

        def progress(done, total):
            finished.append(done)
            if done == 2:
                os.truncate(image, image.stat().st_size // 2)
                if not is_there:
                    image.rename(tmp_path / "unmounted")

        with pytest.raises(DamagedImageError if is_there else FileNotFoundError):
            predict_tiles(model, image, sink, tile=TILE, progress=progress)
        assert finished[-1] >= 2
        left = ["image.tif"] if is_there else ["labels.tif.unfinished", "unmounted"]
        assert sorted(path.name for path in tmp_path.iterdir()) == left


SCRIPT = """
import sys, time
import numpy as np
from inference.test_unfinished import IMAGE, TILE, above
from keras_fcn import FCN8s
from keras_fcn.inference import predict, predict_tiles

def progress(done, total):
    print(done, flush=True)
    time.sleep(0.05)

predict_tiles(above(100), IMAGE, sys.argv[1], tile=TILE, progress=progress)
"""


@pytest.mark.gate
def test_a_killed_process_leaves_what_the_next_one_continues(tmp_path):
    sink = tmp_path / "labels.tif"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", SCRIPT, str(sink)]

    def start():
        return subprocess.Popen(
            command,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    finished = 0
    process = start()
    while finished < 6:
        finished = int(process.stdout.readline())
    time.sleep(random.uniform(0, 0.06))  # Anywhere in a window.
    process.kill()
    process.communicate()
    assert process.returncode == -9
    assert [path.name for path in tmp_path.iterdir()] == ["labels.tif.unfinished"]
    process = start()
    lines = process.communicate()[0].split()
    assert process.returncode == 0
    assert int(lines[0]) >= finished
    rasterio = pytest.importorskip("rasterio")
    with warnings.catch_warnings(action="ignore"), rasterio.open(sink) as file:
        np.testing.assert_array_equal(file.read(1), IMAGE[..., 0] > 100)
    assert [path.name for path in tmp_path.iterdir()] == ["labels.tif"]
