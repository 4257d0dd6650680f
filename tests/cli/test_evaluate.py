import json

import numpy as np
import pytest
from cli.command_line import NARROW, error_of
from PIL import Image

from keras_fcn import FCN32s
from keras_fcn.cli import main


@pytest.mark.any_backend
class TestEvaluate:
    """Scores of a model that predicts class 0 everywhere, known by counting."""

    @pytest.fixture(scope="class")
    @classmethod
    def model(cls, tmp_path_factory):
        """Its score layer is zero but for the bias of class 0."""
        model = FCN32s(11, **NARROW, padding="same", data_format="channels_last")
        model.get_layer("score_fr").bias.assign([1.0] + [0.0] * 10)
        path = tmp_path_factory.mktemp("model") / "model.keras"
        model.save(path)
        return str(path)

    @pytest.fixture
    def camvid(self, tmp_path):
        """CamVid's layout with one image; by hand: 20 x 30 pixels, a quarter class 3, rest 0."""
        for folder in ("train", "trainannot", "val", "valannot"):
            (tmp_path / "camvid" / folder).mkdir(parents=True)
        label_map = np.zeros((20, 30), "uint8")
        label_map[:10, :15] = 3
        label_map[19] = 11
        for split in ("train", "val"):
            name = f"{split}_1.png"
            Image.new("RGB", (30, 20)).save(tmp_path / "camvid" / split / name)
            Image.fromarray(label_map).save(tmp_path / "camvid" / f"{split}annot" / name)
        return tmp_path / "camvid"

    def test_everything_about_a_data_set_by_name(self, model, camvid, tmp_path, capsys):
        predictions, confusion = tmp_path / "predictions", tmp_path / "confusion.png"
        places = ["--manual-dir", str(camvid), "--data-dir", str(tmp_path / "tfds")]
        outputs = ["--save-predictions", str(predictions), "--confusion", str(confusion)]
        command = ["evaluate", model, "camvid", *places, *outputs, "--trimap", "1", "--json"]
        assert main(command) == 0
        report = json.loads(capsys.readouterr().out)
        assert report["images"] == 1
        # 150 of 570 valid pixels are class 3.
        assert report["scores"]["pixel_accuracy"] == pytest.approx(420 / 570)
        assert report["scores"]["mean_iou"] == pytest.approx(420 / 570 / 2)
        assert report["class_iou"]["sky"] == pytest.approx(420 / 570)
        assert report["class_iou"]["road"] == 0
        assert report["class_iou"]["car"] is None
        assert report["confusion_matrix"][3][0] == 150
        # 10 + 15 pixels of class 3 lie at the boundary, of which the corner counts once; 10 + 15
        # of class 0 beside them, and 30 above the ignored row.
        assert report["trimap"]["pixel_accuracy"] == pytest.approx((25 + 30) / (24 + 25 + 30))
        label_map = np.asarray(Image.open(predictions / "val_1.png"))
        assert (label_map.shape, label_map.max()) == ((20, 30), 0)
        with Image.open(confusion) as picture:
            assert picture.size[0] > 300

    def without_ignored_pixels(self, data):
        """Options of the two folders, in which 255 is replaced with 0."""
        for path in (data / "labels").iterdir():
            label_map = np.asarray(Image.open(path))
            Image.fromarray(np.where(label_map == 255, 0, label_map)).save(path)
        return ["--images", str(data / "images"), "--labels", str(data / "labels")]

    def test_folders_and_a_table(self, model, data, capsys):
        command = ["evaluate", model, *self.without_ignored_pixels(data), "--trimap", "2"]
        assert main(command) == 0
        printed = capsys.readouterr().out
        assert "4 images:" in printed
        assert "Within 2 pixels of a boundary:" in printed

    @pytest.mark.parametrize("folder", ["labels", "images", "link"])
    def test_images_and_labels_are_not_overwritten(self, data, folder, capsys):
        (data / "link").symlink_to(data / "labels", target_is_directory=True)
        before = {path: path.read_bytes() for path in data.rglob("*.png")}
        folders = ["--images", str(data / "images"), "--labels", str(data / "labels")]
        # Found before the model is loaded, which is not there.
        command = ["evaluate", str(data / "absent"), *folders, "--save-predictions"]
        assert main([*command, str(data / folder)]) == 1
        assert f"--save-predictions must be elsewhere: {data}" in error_of(capsys)
        assert {path: path.read_bytes() for path in data.rglob("*.png")} == before

    def test_label_maps_of_a_data_set_by_name_are_not_overwritten(
        self, model, camvid, tmp_path, capsys
    ):
        label_map = camvid / "valannot" / "val_1.png"
        before = label_map.read_bytes()
        places = ["--manual-dir", str(camvid), "--data-dir", str(tmp_path / "tfds")]
        command = ["evaluate", model, "camvid", *places]
        assert main([*command, "--save-predictions", str(label_map.parent)]) == 1
        assert f"{label_map} of --manual-dir would be overwritten" in capsys.readouterr().err
        assert label_map.read_bytes() == before

    def test_a_plot_that_fails_leaves_the_scores(self, model, data, capsys, monkeypatch):
        def fails(*arguments, **options):
            raise OSError("No space left on device")

        monkeypatch.setattr("matplotlib.figure.Figure.savefig", fails)
        folders = self.without_ignored_pixels(data)
        command = ["evaluate", model, *folders, "--confusion", str(data / "m.png")]
        assert main(command) == 1
        printed = capsys.readouterr()
        assert "4 images:" in printed.out
        assert "No space left on device" in printed.err

    @pytest.mark.parametrize(
        ("arguments", "reason"),
        [
            ([], "Either DATA or --images and --labels must be given"),
            (["--images", "images"], "must be given together"),
            (["imagenet"], "`name` must be one of"),
            (["pascal_context"], "must have the 60 classes of pascal_context. Received: 11"),
            (["camvid", "--split", "trainval"], "`split` must combine the splits of camvid"),
        ],
    )
    def test_bad_input_is_one_line(self, model, arguments, reason, capsys):
        assert main(["evaluate", model, *arguments]) == 1
        assert reason in error_of(capsys)
