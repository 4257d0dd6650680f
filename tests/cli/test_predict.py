import json
import tomllib
import warnings
from pathlib import Path

import numpy as np
import pytest
from cli.command_line import NARROW, error_of, npz_arrays, predict, train
from helpers import assert_equal_weights, randomize, write_pairs
from PIL import ExifTags, Image, ImageFile

from keras_fcn import FCN8s, FCN16s, FCN32s, inference
from keras_fcn.cli import main, output_files
from keras_fcn.inference import predict_label_map
from keras_fcn.spec import AT_ONCE_SKIP_SCALES
from keras_fcn.training.trained import open_model
from keras_fcn.visualization import outline


def test_the_precision_is_that_of_the_option_or_of_the_model(tmp_path):
    photo = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype="uint8")
    Image.fromarray(photo).save(tmp_path / "photo.png")
    place, expected = str(tmp_path / "model.keras"), {}
    for precision in ("float32", "mixed_bfloat16"):
        model = FCN32s(3, **NARROW, dtype=precision)
        randomize(model, seed=0)
        expected[precision] = inference.predict(model, photo).probabilities
        model.save(place)
    assert np.abs(expected["float32"] - expected["mixed_bfloat16"]).max() > 1e-4
    for options, precision in (
        ([], "mixed_bfloat16"),
        (["--precision", "float32"], "float32"),
        (["--precision", "mixed_bfloat16"], "mixed_bfloat16"),
    ):
        out = tmp_path / "out"
        options = [*options, "--probabilities", "npz", "--out", str(out)]
        assert main(["predict", place, str(tmp_path / "photo.png"), *options]) == 0
        with np.load(out / "photo_probabilities.npz") as file:
            np.testing.assert_allclose(file["probabilities"], expected[precision], atol=1e-6)


class TestOutputs:
    """What `--probabilities` and others write beside the label map and the overlay."""

    @pytest.fixture
    def photos(self, caffemodel, tmp_path):
        for name in ("street_a", "street_b"):
            Image.fromarray(caffemodel.photo).save(tmp_path / f"{name}.png")
        return tmp_path

    @pytest.mark.any_backend
    def test_probabilities_confidence_and_polygons_are_those_of_the_model(
        self, caffemodel, photos, capsys
    ):
        out = photos / "out"
        pattern = str(photos / "street_*.png")
        options = ["--probabilities", "npz", "--confidence", "--polygons", "--classes"]
        assert main(["predict", caffemodel.path, pattern, "--out", str(out), *options]) == 0
        assert {path.name for path in out.iterdir()} == {
            f"street_{letter}{suffix}"
            for letter in "ab"
            for suffix in (
                *(".png", "_overlay.png", "_confidence.png", "_probabilities.npz"),
                ".geojson",
            )
        }
        expected = inference.predict(caffemodel.source, caffemodel.photo)
        with np.load(out / "street_a_probabilities.npz") as file:
            np.testing.assert_allclose(file["probabilities"], expected.probabilities, atol=1e-5)
            assert file["class_names"][15] == "person"
        confidence = np.asarray(Image.open(out / "street_a_confidence.png"))
        assert abs(confidence - 255 * expected.confidence).max() <= 0.51
        features = json.loads((out / "street_a.geojson").read_text())["features"]
        pixels = np.zeros(21)
        for feature in features:
            pixels[feature["properties"]["class_id"]] += feature["properties"]["pixels"]
        np.testing.assert_array_equal(pixels / pixels.sum(), expected.class_shares)
        captured = capsys.readouterr()
        largest = expected.class_shares.argmax()
        name = open_model(caffemodel.path).label_space.class_names[largest]
        assert f"street_b: {name} {expected.class_shares[largest]:.1%}" in captured.out
        assert "2 images in" in captured.err
        assert "waited for reading" in captured.err

    @pytest.mark.any_backend
    def test_probabilities_as_pictures_and_outlines(self, caffemodel, photos):
        photo, out = str(photos / "street_a.png"), photos / "out"
        options = ["--out", str(out), "--probabilities", "png", "--outline"]
        assert main(["predict", caffemodel.path, photo, *options]) == 0
        folder = out / "street_a_probabilities"
        assert len(list(folder.iterdir())) == 21
        expected = inference.predict(caffemodel.source, caffemodel.photo)
        person = np.asarray(Image.open(folder / "15_person.png"))
        assert abs(person - 255 * expected.probabilities[..., 15]).max() <= 0.51
        height, width = caffemodel.photo.shape[:2]
        space = open_model(caffemodel.path).label_space
        np.testing.assert_array_equal(
            np.asarray(Image.open(out / "street_a_overlay.png"))[:height, :width],
            outline(caffemodel.photo, expected.label_map, space),
        )


class TestBareWeights:
    """Files that hold weights alone are scored and predicted with as they are."""

    def test_a_caffemodel_predicts_as_its_network(self, caffemodel, tmp_path):
        predicted = predict(caffemodel.path, caffemodel.photo, tmp_path)
        assert len(np.unique(predicted)) > 1
        np.testing.assert_array_equal(predicted, caffemodel.label_map)

    @pytest.mark.any_backend
    @pytest.mark.parametrize("network", [FCN32s, FCN16s])
    def test_coarser_networks_are_told_by_their_layers(self, network, tmp_path):
        source = network(5, **NARROW)
        randomize(source, seed=9)
        np.savez(tmp_path / "net.npz", **npz_arrays(source))
        model = open_model(tmp_path / "net.npz").model
        assert type(model) is network
        assert_equal_weights(model, source)

    @pytest.mark.any_backend
    def test_an_npz_of_fcn8s_at_once_wants_its_option(self, caffemodel, tmp_path, capsys):
        source, photo = FCN8s(21, **NARROW, skip_scales=AT_ONCE_SKIP_SCALES), caffemodel.photo
        source.set_weights(caffemodel.source.get_weights())
        np.savez(tmp_path / "net.npz", **npz_arrays(source))
        predicted = predict(tmp_path / "net.npz", photo, tmp_path, "--at-once")
        np.testing.assert_array_equal(predicted, predict_label_map(source, photo))
        assert (predicted != caffemodel.label_map).any()
        model = open_model(tmp_path / "net.npz").model
        assert model.get_config()["skip_scales"] == (1.0, 1.0)
        assert main(["predict", "pascal_voc", str(tmp_path / "photo.png"), "--at-once"]) == 1
        assert "--at-once must be used with a .pth or .npz file" in error_of(capsys)

    @pytest.mark.any_backend
    def test_evaluation_in_folders(self, caffemodel, tmp_path, capsys):
        data = tmp_path / "data"
        write_pairs(data, "abc", size=caffemodel.photo.shape[:2])
        folders = ["--images", str(data / "images"), "--labels", str(data / "labels")]
        assert main(["evaluate", caffemodel.path, *folders, "--json"]) == 0
        matrix = np.array(json.loads(capsys.readouterr().out)["confusion_matrix"])
        expected = np.zeros((21, 21), int)
        for name in "abc":
            image, label_map = (
                np.asarray(Image.open(data / kind / f"{name}.png")) for kind in ("images", "labels")
            )
            valid = label_map != 255
            predicted = predict_label_map(caffemodel.source, image)
            np.add.at(expected, (label_map[valid], predicted[valid]), 1)
        np.testing.assert_array_equal(matrix, expected)

    @pytest.mark.any_backend
    def test_what_tells_no_network_is_refused_in_one_line(self, tmp_path, capsys):
        Image.new("RGB", (8, 8)).save(tmp_path / "photo.png")
        source = FCN32s(3, **NARROW)
        source.save_weights(tmp_path / "net.weights.h5")
        arrays = npz_arrays(source)
        np.savez(tmp_path / "vgg.npz", **{k: v for k, v in arrays.items() if "score" not in k})
        for name, reason in {
            "net.weights.h5": "MODEL must be a .keras file or end in one of .caffemodel",
            "vgg.npz": "MODEL must contain an FCN, with layers fc6 and score_fr",
            "photo.png": "MODEL must be first",
        }.items():
            assert main(["predict", str(tmp_path / name), str(tmp_path / "photo.png")]) == 1
            assert reason in error_of(capsys)


@pytest.mark.any_backend
class TestFoldersOfImages:
    def test_all_images_in_a_folder_are_predicted(self, data, capsys):
        (data / "images" / "oslo").mkdir()
        (data / "images" / "b.png").rename(data / "images" / "oslo" / "a.png")
        model = FCN32s(3, **NARROW, padding="same", data_format="channels_last")
        model.save(data / "model.keras")
        command = ["predict", str(data / "model.keras"), str(data / "images")]
        assert main([*command, "--out", str(data / "out")]) == 0
        written = {path.relative_to(data / "out").as_posix() for path in data.rglob("out/**/*.png")}
        names = ("a", "c", "d", "oslo/a")
        assert written == {f"{name}{end}.png" for name in names for end in ("", "_overlay")}

    def test_images_of_equal_size_are_batches(self, caffemodel, tmp_path, capsys, monkeypatch):
        photo, folder = caffemodel.photo, tmp_path / "photos"
        folder.mkdir()
        images = {"a": photo, "b": photo[1:], "c": photo[:, ::-1], "d": photo[::-1], "e": photo[1:]}
        for name, image in images.items():
            Image.fromarray(image).save(folder / f"{name}.png")
        shapes, predict_on_batch = [], FCN8s.predict_on_batch

        def counted(model, batch):
            shapes.append(batch.shape[:2])
            return predict_on_batch(model, batch)

        monkeypatch.setattr(FCN8s, "predict_on_batch", counted)
        options = ["--batch-size", "2", "--classes", "--out", str(tmp_path / "out")]
        assert main(["predict", caffemodel.path, str(folder), *options]) == 0
        height = len(photo)
        assert sorted(shapes) == [(1, height), (2, height - 1), (2, height)]
        for name, image in images.items():
            label_map = np.asarray(Image.open(tmp_path / "out" / f"{name}.png"))
            np.testing.assert_array_equal(label_map, predict_label_map(caffemodel.source, image))
        lines = capsys.readouterr().out.splitlines()
        assert [line.partition(":")[0] for line in lines[:5]] == list(images)
        assert main(["predict", caffemodel.path, str(folder), "--batch-size", "0"]) == 1
        assert "--batch-size must be at least 1. Received: 0." in error_of(capsys)

    @pytest.mark.parametrize("scale", ["inf", "nan", "0"])
    def test_a_scale_without_a_size_is_one_sentence(self, caffemodel, data, scale, capsys):
        command = ["predict", caffemodel.path, str(data / "images"), "--test-scales", "1", scale]
        assert main(command) == 1
        reason = f"--test-scales must be finite numbers greater than 0. Received: {scale}."
        assert reason in error_of(capsys)

    @pytest.mark.parametrize(
        "places",
        [["a.png", "camvid"], ["a.png", "m.keras"], [".", "camvid"], ["A.JPG", "hf://o/r/m.npz"]],
        ids=str,
    )
    def test_a_model_after_the_images_is_one_sentence(self, places, tmp_path, capsys, monkeypatch):
        monkeypatch.chdir(tmp_path)
        Image.new("RGB", (8, 8)).save("a.png")
        assert main(["predict", *places]) == 1
        named = "camvid as IMAGE" if places[0] == "." else f"{places[0]} as MODEL"
        assert error_of(capsys).endswith(f"Received: {named}.")

    @pytest.mark.parametrize("place", ["b.png", "b*.png"])
    def test_an_absent_image_is_one_sentence(self, place, tmp_path, capsys, monkeypatch):
        monkeypatch.chdir(tmp_path)
        assert main(["predict", "camvid", place]) == 1
        assert f"Received: {place}, which does not exist." in error_of(capsys)

    def test_a_folder_without_images_is_named(self, data, capsys):
        (data / "empty").mkdir()
        assert main(["predict", str(data / "run"), str(data / "empty")]) == 1
        assert f"Received: {data / 'empty'}, a folder with none." in error_of(capsys)


@pytest.mark.any_backend
def test_predictions_overwrite_nothing(data, capsys):
    image, run, images = data / "images" / "a.png", str(data / "run"), str(data / "images")
    Image.open(image).save(data / "images" / "a.jpg")
    before = image.read_bytes()
    assert main(["predict", run, str(image), "--out", images]) == 1
    assert "would be overwritten" in error_of(capsys)
    assert main(["predict", run, f"{images}/a.png", f"{images}/a.jpg", "--out", run]) == 1
    assert "must differ in their names" in error_of(capsys)
    assert image.read_bytes() == before


@pytest.mark.any_backend
@pytest.mark.parametrize("ignores_case", [True, False])
@pytest.mark.parametrize(
    ("names", "clashing"),
    [
        (["a.png", "A.png"], None),
        (["a.png", "a.jpg"], ("a.jpg", "a.png")),
        (["a.png", "a_overlay.png"], ("a.png", "a_overlay.png")),
        (["a.png", "a_probabilities/0_sky.png"], ("a.png", "a_probabilities/0_sky.png")),
        (["a.png", "b/a.png"], ()),
    ],
    ids=str,
)
def test_images_of_one_output_are_found_before_the_model(
    names, clashing, ignores_case, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(output_files, "_ignores_case", lambda folder: ignores_case)
    for name in names:
        path = tmp_path / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(path)
    if clashing is None:  # Windows and macOS have one file for both.
        clashing = ("A.png", "a.png") if ignores_case else ()
    command = ["predict", str(tmp_path / "absent"), str(tmp_path / "images")]
    assert main([*command, "--out", str(tmp_path / "out"), "--probabilities", "png"]) == 1
    error = error_of(capsys)
    assert ("must differ in their names" in error) == bool(clashing)
    if clashing:
        first, second = (tmp_path / "images" / name for name in clashing)
        assert error.endswith(f"Received: {first} and {second}.")
        assert ("case is ignored" in error) == (names[1] == "A.png")


@pytest.mark.any_backend
def test_a_damaged_model_file_is_one_line(tmp_path, capsys):
    Image.new("RGB", (8, 8)).save(tmp_path / "photo.png")
    (tmp_path / "model.keras").write_bytes(b"not a model")
    command = ["predict", str(tmp_path / "model.keras"), str(tmp_path / "photo.png")]
    assert main([*command, "--out", str(tmp_path / "out")]) == 1
    assert "model.keras must be a whole .keras file" in error_of(capsys)
    FCN32s(3, **NARROW).save(tmp_path / "model.keras")
    whole = (tmp_path / "model.keras").read_bytes()
    (tmp_path / "model.keras").write_bytes(whole[:-100])
    assert main([*command, "--out", str(tmp_path / "out")]) == 1
    error = error_of(capsys)
    assert "model.keras must be a whole .keras file. Received: a file that is trunc" in error
    assert not (tmp_path / "out").exists()


@pytest.mark.any_backend
class TestFiles:
    """What is read, how often, and what is left when a file cannot be used."""

    @pytest.fixture(scope="class")
    @classmethod
    def model(cls, tmp_path_factory):
        path = tmp_path_factory.mktemp("model") / "model.keras"
        FCN32s(3, **NARROW, padding="same", data_format="channels_last").save(path)
        return str(path)

    def predict(self, data, model, *options):
        command = ["predict", model, str(data / "images"), "--out", str(data / "out")]
        return main([*command, *options])

    def written(self, data):
        return sorted(path.name for path in (data / "out").iterdir())

    def test_every_image_is_decoded_once(self, data, model, monkeypatch):
        decoded = []
        load_prepare = ImageFile.ImageFile.load_prepare

        def counted(image):
            decoded.append(Path(image.filename).name)
            load_prepare(image)

        photo = Image.open(data / "images" / "a.png").convert("RGB")
        photo.save(data / "images" / "photo.jpg", exif=orientation(6))
        with monkeypatch.context() as patch:
            patch.setattr(ImageFile.ImageFile, "load_prepare", counted)
            assert self.predict(data, model) == 0
        assert sorted(decoded) == ["a.png", "b.png", "c.png", "d.png", "photo.jpg"]

    def test_a_configuration_is_read_once(self, data, three_layers, monkeypatch):
        assert train(data, "--ignore-class", "255") == 0
        read = []
        loads = tomllib.loads
        with monkeypatch.context() as patch:
            patch.setattr(tomllib, "loads", lambda text: read.append(text) or loads(text))
            assert self.predict(data, str(data / "run")) == 0
        assert read == [(data / "run" / "config.toml").read_text()]

    def test_what_is_no_image_is_found_before_the_model_is_loaded(self, data, capsys):
        (data / "images" / "d.png").write_bytes(b"no image")
        assert self.predict(data, str(data / "absent")) == 1
        assert "d.png cannot be read as an image" in error_of(capsys)
        assert not (data / "out").exists()

    def test_a_link_that_leads_nowhere_is_found_before_the_model_is_loaded(self, data, capsys):
        link = data / "images" / "lost.png"
        link.symlink_to(data / "unmounted" / "lost.png")
        assert self.predict(data, str(data / "absent")) == 1
        assert f"{link} must be a link to what exists. Received: a link to" in error_of(capsys)
        assert not (data / "out").exists()

    def test_further_pages_of_a_tiff_are_a_warning(self, data, model, capsys):
        pages = [Image.new("RGB", (9, 8), shade) for shade in ("red", "blue")]
        photo, out = str(data / "pages.tif"), str(data / "out")
        pages[0].save(photo, save_all=True, append_images=pages[1:])
        with warnings.catch_warnings():
            warnings.simplefilter("default")
            assert main(["predict", model, photo, "--out", out]) == 0
        assert f"Only the first page of {photo} is predicted. Rec" in capsys.readouterr().err
        # An overview, which NewSubfileType (254) declares, is no page.
        pages[1].encoderinfo = {"tiffinfo": {254: 1}}
        pages[0].save(photo, save_all=True, append_images=pages[1:])
        with Image.open(photo) as image:
            image.seek(1)
            assert (image.n_frames, image.tag_v2[254]) == (2, 1)
        assert main(["predict", model, photo, "--out", out]) == 0  # A warning is an error here.

    def test_further_frames_of_an_animation_are_a_warning(self, data, model, capsys):
        shown = [Image.new("RGB", (9, 8), shade) for shade in ("red", "blue", "green")]
        photos = [str(data / name) for name in ("a.png", "b.webp", "c.gif", "phone.jpg")]
        for photo in photos:
            # A phone's JPEG holds further pictures, such as a depth map, which are no frames.
            format = "MPO" if photo.endswith("phone.jpg") else None
            shown[0].save(photo, format, save_all=True, append_images=shown[1:])
        with warnings.catch_warnings():
            warnings.simplefilter("default")
            assert main(["predict", model, *photos, "--out", str(data / "out")]) == 0
        printed = capsys.readouterr().err
        for photo in photos:
            warning = f"Only the first frame of {photo} is predicted. Received: 3 frames."
            assert (warning in printed) == (not photo.endswith("phone.jpg"))

    def test_other_channels_are_found_before_the_first_prediction(self, data, capsys):
        model = FCN32s(
            3,
            **NARROW,
            padding="same",
            data_format="channels_last",
            input_shape=(None, None, 1),
            include_preprocessing=False,
        )
        model.save(data / "grey.keras")
        for name in "abc":
            grey = Image.open(data / "images" / f"{name}.png").convert("L")
            grey.save(data / "images" / f"{name}.png")
        assert self.predict(data, str(data / "grey.keras")) == 1
        assert "d.png must hold the 1 channel that the model takes" in error_of(capsys)
        assert not (data / "out").exists()

    @pytest.mark.parametrize("batch_size", ["1", "4"])
    def test_truncated_images_are_left_out_and_named(self, data, model, batch_size, capsys):
        for name in "ac":
            path = data / "images" / f"{name}.png"
            path.write_bytes(path.read_bytes()[:-40])
        assert self.predict(data, model, "--batch-size", batch_size, "--classes") == 1
        printed = capsys.readouterr()
        *_, first, second = printed.err.splitlines()
        for name, error in zip("ac", (first, second), strict=True):
            path = data / "images" / f"{name}.png"
            assert error.startswith(f"keras-fcn: error: {path} cannot be read as an image")
        names = ["b.png", "b_overlay.png", "d.png", "d_overlay.png"]
        assert self.written(data) == names
        for name in names:
            Image.open(data / "out" / name).load()
        assert [line[:2] for line in printed.out.splitlines()] == ["b:", "d:", "La"]

    def test_one_truncated_image_writes_nothing(self, data, model, capsys):
        path = data / "images" / "a.png"
        path.write_bytes(path.read_bytes()[:-40])
        assert main(["predict", model, str(path), "--out", str(data / "out")]) == 1
        assert "a.png cannot be read as an image" in error_of(capsys)
        assert not (data / "out").exists()

    def test_a_picture_that_cannot_be_written_leaves_no_part_of_it(
        self, data, model, capsys, monkeypatch
    ):
        def fails(image, file, *args):
            Path(file).write_bytes(b"a part")
            raise OSError("No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(Image.Image, "save", fails)
            assert self.predict(data, model) == 1
        assert "No space left on device" in error_of(capsys)
        assert self.written(data) == []


def orientation(value):
    """EXIF data that hold an orientation."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = value
    return exif
