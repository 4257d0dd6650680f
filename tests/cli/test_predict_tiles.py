"""`keras-fcn predict --tile`: exact label maps of large images, resumable, with its errors."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from cli.command_line import error_of
from helpers import NARROW_FILTERS, randomize
from PIL import ExifTags, Image

from keras_fcn import FCN32s, MultitaskFCN32s
from keras_fcn.cli import main
from keras_fcn.inference import predict, predict_label_map
from keras_fcn.models import prediction_memory

rasterio = pytest.importorskip("rasterio")

pytestmark = [
    pytest.mark.any_backend,
    pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning"),
]
TRANSFORM = rasterio.Affine(0.5, 0, 300_000, 0, -0.5, 5_000_000)
IMAGE = np.random.default_rng(0).integers(0, 256, (500, 40, 3), "uint8")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Folder with a model, whose halo is 137 pixels, and a GeoTIFF."""
    folder = tmp_path_factory.mktemp("tiles")
    options = {"filters": NARROW_FILTERS, "fc_units": 4, "fc6_kernel_size": 1}
    model = FCN32s(3, **options, padding="same", data_format="channels_last")
    randomize(model, seed=0)
    model.save(folder / "model.keras")
    profile = {"driver": "GTiff", "height": 500, "width": 40, "count": 3, "dtype": "uint8"}
    profile |= {"crs": "EPSG:32633", "transform": TRANSFORM, "photometric": "RGB"}
    with rasterio.open(folder / "scene.tif", "w", **profile) as file:
        file.write(IMAGE.transpose(2, 0, 1))
    np.save(folder / "expected.npy", predict_label_map(model, IMAGE))
    np.save(folder / "probabilities.npy", predict(model, IMAGE).probabilities)
    return folder


def command(place, out, *options, tile=330):
    places = [str(place / "model.keras"), str(place / "scene.tif"), "--out", str(out)]
    return ["predict", *places, "--tile", str(tile), *options]


def check(place, path):
    expected = np.load(place / "expected.npy")
    assert len(np.unique(expected)) > 1
    with rasterio.open(path) as file:
        assert file.transform == TRANSFORM
        # Where the two largest logits are all but equal, rounding decides.
        assert np.mean(file.read(1) == expected) > 0.999


class TestPredictTiles:
    def test_writes_the_label_map_of_the_whole_image(self, place, tmp_path, capsys):
        assert main(command(place, tmp_path)) == 0
        check(place, tmp_path / "scene.tif")
        assert [path.name for path in tmp_path.iterdir()] == ["scene.tif"]
        captured = capsys.readouterr()
        assert captured.out == f"Label maps: {tmp_path}\n"
        first, *lines, last = captured.err.splitlines()
        windows = int(last.partition("/")[2])
        assert first.startswith(f"{windows - 1} more windows, about ")
        assert last == f"predicting: {windows}/{windows}"
        assert all(line.endswith(" s left") for line in lines)

    def test_writes_the_probabilities_of_the_whole_image(self, place, tmp_path):
        assert main(command(place, tmp_path, "--probabilities", "tif")) == 0
        check(place, tmp_path / "scene.tif")
        with rasterio.open(tmp_path / "scene_probabilities.tif") as file:
            found = file.read().transpose(1, 2, 0)
        np.testing.assert_allclose(found, np.load(place / "probabilities.npy"), atol=1e-5)

    def test_writes_the_second_task_in_colours_that_all_readers_tell_apart(self, place, tmp_path):
        model = MultitaskFCN32s(
            {"semantic": 2, "geometric": 3}, filters=NARROW_FILTERS, fc_units=4, padding="same"
        )
        # Scores of zero but for one bias: class 2 everywhere.
        model.get_layer("score_fr_geometric").bias.assign([0.0, 0.0, 1.0])
        model.save(tmp_path / "tasks.keras")
        places = [str(tmp_path / "tasks.keras"), str(place / "scene.tif"), "--out", str(tmp_path)]
        options = ["--tile", "490", "--task", "geometric", "--colour-blind"]
        assert main(["predict", *places, *options]) == 0
        with rasterio.open(tmp_path / "scene.tif") as file:
            assert (file.read(1) == 2).all()
            assert file.colormap(1)[2][:3] == (86, 180, 233)  # Okabe and Ito's sky blue

    def test_an_ordinary_prediction_that_does_not_fit_names_the_option(
        self, place, capsys, monkeypatch
    ):
        monkeypatch.setattr(prediction_memory, "free_memory", lambda: 1000)
        monkeypatch.setattr(prediction_memory.backend, "computes_on_cpu", lambda: True)
        assert main(["predict", str(place / "model.keras"), str(place / "scene.tif")]) == 1
        assert "Predict in tiles" in (error := error_of(capsys))
        assert "--tile" in error

    def test_an_image_beyond_pillows_limit_names_the_option(self, place, capsys, monkeypatch):
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 5000)
        assert main(["predict", str(place / "model.keras"), str(place / "scene.tif")]) == 1
        assert "--tile" in error_of(capsys)


class TestRefused:
    @pytest.mark.parametrize("option", ["--confidence", "--polygons", "--classes"])
    def test_what_needs_the_whole_image(self, place, option, tmp_path, capsys):
        assert main(command(place, tmp_path, option)) == 1
        assert f"without options that need the whole image. Received: {option}." in error_of(capsys)

    def test_other_files_of_probabilities(self, place, tmp_path, capsys):
        assert main(command(place, tmp_path, "--probabilities", "npz")) == 1
        assert "must be used with --probabilities tif. Received: --probabilities npz." in error_of(
            capsys
        )
        whole = ["predict", str(place / "model.keras"), str(place / "scene.tif")]
        assert main([*whole, "--out", str(tmp_path), "--probabilities", "tif"]) == 1
        assert "--probabilities tif must be used with --tile" in error_of(capsys)
        assert not list(tmp_path.iterdir())

    def test_several_views(self, place, tmp_path, capsys):
        assert main(command(place, tmp_path, "--test-flip")) == 1
        assert "pass --test-scales 1 and --no-test-flip" in error_of(capsys)
        assert not list(tmp_path.iterdir())

    def test_a_tile_smaller_than_the_halo(self, place, tmp_path, capsys):
        # The pixels of pool5 see 212 pixels and lie 32 apart.
        assert main(command(place, tmp_path, tile=200)) == 1
        error = error_of(capsys)
        assert "`tile` (--tile) must be at least 244 for this model and image" in error
        assert not list(tmp_path.iterdir())

    def test_a_missing_image(self, place, tmp_path, capsys):
        places = [str(place / "model.keras"), str(place / "none.tif"), "--out", str(tmp_path)]
        assert main(["predict", *places, "--tile", "330"]) == 1
        assert "none.tif, which does not exist" in error_of(capsys)

    def test_an_output_that_is_the_image(self, place, capsys):
        assert main(command(place, place)) == 1
        assert "would be overwritten" in error_of(capsys)


@pytest.mark.gate
def test_ctrl_c_leaves_what_the_same_command_continues(place, tmp_path):
    run = [sys.executable, "-m", "keras_fcn", *command(place, tmp_path, tile=308)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen(
        run,
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
        # A shell lets what it starts in the background ignore it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )

    def count():
        """Windows of all stages, each of which has one file."""
        files = (tmp_path / "scene.tif.unfinished").rglob("finished.txt")
        return sum(max(file.read_text().count("\n") - 1, 0) for file in files)

    while count() < 1:
        assert process.poll() is None
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    errors = process.communicate()[1].splitlines()
    assert process.returncode == 130
    assert errors[-1] == "keras-fcn: interrupted; run the same command again to resume"
    assert [path.name for path in tmp_path.iterdir()] == ["scene.tif.unfinished"]
    done = count()
    second = subprocess.run(run, env=environment, capture_output=True, text=True, check=True)
    assert f"windows already finished: {done} of " in second.stderr
    check(place, tmp_path / "scene.tif")


class TestDamagedImages:
    def test_the_other_images_are_predicted(self, place, tmp_path, capsys):
        scene = (place / "scene.tif").read_bytes()
        images = [tmp_path / f"{name}.tif" for name in "abc"]
        for image in images:
            image.write_bytes(scene)
        os.truncate(images[1], len(scene) // 2)  # The tags come first: the header is sound.
        places = [str(place / "model.keras"), *map(str, images), "--out", str(tmp_path / "out")]
        assert main(["predict", *places, "--tile", "330"]) == 1
        errors = [line for line in capsys.readouterr().err.splitlines() if "error: " in line]
        assert len(errors) == 1
        assert f"error: {images[1]} is truncated or damaged: " in errors[0]
        assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.tif", "c.tif"]
        check(place, tmp_path / "out" / "c.tif")

    def test_nothing_is_left_if_all_are_damaged(self, place, tmp_path):
        scene, folder = (place / "scene.tif").read_bytes(), tmp_path / "images" / "sub"
        folder.mkdir(parents=True)
        (folder / "a.tif").write_bytes(scene[: len(scene) // 2])
        images, out = str(tmp_path / "images"), str(tmp_path / "out" / "here")
        command = ["predict", str(place / "model.keras"), images, "--out", out, "--tile", "330"]
        assert main(command) == 1
        assert [path.name for path in tmp_path.iterdir()] == ["images"]

    def test_png_and_jpeg_are_read_as_without_tiles(self, place, tmp_path, capsys):
        pixels, folder, out = IMAGE[:60], tmp_path / "images", tmp_path / "out"
        folder.mkdir()
        rotated = Image.Exif()
        rotated[ExifTags.Base.Orientation] = 6
        Image.fromarray(pixels).save(folder / "a.png")
        Image.fromarray(pixels).save(folder / "rotated.png", exif=rotated)
        Image.fromarray(pixels).convert("1").save(folder / "two_colours.png")
        for name in ("cut.png", "cut.jpg"):
            Image.fromarray(pixels).save(folder / name)
            os.truncate(folder / name, (folder / name).stat().st_size - 500)
        (folder / "cut.jpg").rename(folder / "z.jpg")
        command = ["predict", str(place / "model.keras"), str(folder), "--out"]
        assert main([*command, str(out / "whole")]) == 1
        assert main([*command, str(out / "tiles"), "--tile", "330"]) == 1
        errors = [line for line in capsys.readouterr().err.splitlines() if "error: " in line]
        for name, error in zip(["cut.png", "z.jpg"] * 2, errors, strict=True):
            assert f"{folder / name} cannot be read as an image: image file is trunc" in error
        names = ["a", "rotated", "two_colours"]
        assert [path.stem for path in sorted((out / "tiles").iterdir())] == names
        for name in names:
            with rasterio.open(out / "tiles" / f"{name}.tif") as file:
                label_map = np.asarray(Image.open(out / "whole" / f"{name}.png"))
                np.testing.assert_array_equal(file.read(1), label_map)

    def test_every_header_is_read_before_the_first_image_is_predicted(
        self, place, tmp_path, capsys
    ):
        profile = {"driver": "GTiff", "height": 9, "width": 9, "count": 5, "dtype": "uint8"}
        with rasterio.open(tmp_path / "z.tif", "w", **profile):
            pass
        out = tmp_path / "out"
        places = [str(place / "model.keras"), str(place / "scene.tif"), str(tmp_path / "z.tif")]
        assert main(["predict", *places, "--out", str(out), "--tile", "330"]) == 1
        assert "z.tif must hold the 3 channels" in error_of(capsys)
        assert not out.exists()
