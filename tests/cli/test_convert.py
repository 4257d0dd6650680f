import keras
import numpy as np
import pytest
from cli.command_line import NARROW, error_of, predict
from helpers import NARROW_FILTERS, assert_equal_weights, randomize

from keras_fcn import FCN8s, FCN32s, FCNAlexNet, MultimodalFCN32s
from keras_fcn.cli import main
from keras_fcn.label_spaces import PASCAL_VOC


@pytest.mark.any_backend
class TestConvert:
    OPTIONS = ("--model", "fcn8s", "--label-space", "pascal_voc")

    def test_converted_weights_are_those_of_the_file(self, caffemodel, tmp_path, capsys):
        path = tmp_path / "net.weights.h5"
        assert main(["convert", caffemodel.path, str(path), *self.OPTIONS]) == 0
        assert "FCN8s, " in capsys.readouterr().out
        model = FCN8s(21, **NARROW)
        model.load_weights(path)
        assert_equal_weights(model, caffemodel.source)

    def test_a_converted_model_predicts_as_its_source(self, caffemodel, tmp_path):
        path = tmp_path / "net.keras"
        assert main(["convert", caffemodel.path, str(path), *self.OPTIONS]) == 0
        assert keras.saving.load_model(path).label_space == PASCAL_VOC
        predicted = predict(path, caffemodel.photo, tmp_path)
        np.testing.assert_array_equal(predicted, caffemodel.label_map)

    @pytest.mark.parametrize(
        ("target", "options", "reason"),
        [
            ("x.weights.h5", ["--num-classes", "3"], "score_fr/bias (3,): has shape (21,)"),
            ("x.weights.h5", ["--num-classes", "21", "--model", "fcn16s"], "not in the model"),
            ("x.weights.h5", ["--num-classes", "21", "--at-once"], "scales pool4 by 1."),
            ("x.h5", ["--num-classes", "21"], "must end in .weights.h5 or .keras"),
            ("net.caffemodel", ["--num-classes", "21"], "must end in .weights.h5 or .keras"),
            ("old.keras", ["--num-classes", "21"], "must not exist yet"),
            ("absent/x.keras", ["--num-classes", "21"], "must lie in an existing folder"),
        ],
    )
    def test_what_does_not_fit_is_one_line_and_leaves_nothing(
        self, caffemodel, target, options, reason, tmp_path, capsys
    ):
        (tmp_path / "old.keras").write_bytes(b"old")
        before = sorted(path.name for path in tmp_path.iterdir())
        command = ["convert", caffemodel.path, str(tmp_path / target)]
        assert main([*command, *options]) == 1
        assert reason in error_of(capsys)
        assert sorted(path.name for path in tmp_path.iterdir()) == before
        assert (tmp_path / "old.keras").read_bytes() == b"old"

    @pytest.mark.parametrize("name", ["pascal_voc", "imagenet"])
    def test_a_name_is_no_file(self, name, tmp_path, capsys):
        assert main(["convert", name, str(tmp_path / "x.keras"), *self.OPTIONS]) == 1
        assert f"SRC must be a file. Received: {name}, a name" in error_of(capsys)

    def test_the_kernel_of_fc6_is_that_of_the_file(self, tmp_path):
        source = FCN32s(3, fc6_kernel_size=3, padding="same", **NARROW)
        randomize(source, seed=3)
        source.save_weights(tmp_path / "source.weights.h5")
        options = ["--model", "fcn32s", "--num-classes", "3", "--padding", "same"]
        path = tmp_path / "net.keras"
        assert main(["convert", str(tmp_path / "source.weights.h5"), str(path), *options]) == 0
        converted = keras.saving.load_model(path)
        assert_equal_weights(converted, source)
        image = np.random.default_rng(0).uniform(0, 255, (1, 20, 24, 3))
        np.testing.assert_array_equal(converted.predict(image), source.predict(image))

    def test_a_vgg16_without_score_layers_is_named_in_one_line(self, tmp_path, capsys):
        path = tmp_path / "vgg16_notop.weights.h5"
        keras.applications.VGG16(include_top=False, weights=None).save_weights(path)
        command = ["convert", str(path), str(tmp_path / "new.keras"), "--num-classes", "3"]
        assert main(command) == 1
        assert error_of(capsys) == (
            f"keras-fcn: error: SRC must hold an FCN, with the layer score_fr. Received: {path}, a "
            "VGG-16 without it. It needs no conversion: pass it as `weights` to a model or a "
            "recipe."
        )
        assert [file.name for file in tmp_path.iterdir()] == [path.name]

    @pytest.mark.parametrize(
        ("network", "layers"),
        [
            (FCNAlexNet, "with conv1, conv2, conv3, ..."),
            (MultimodalFCN32s, "with block1_conv1_depth, "),
        ],
    )
    def test_a_file_of_another_network_is_named_in_one_line(
        self, network, layers, tmp_path, capsys
    ):
        options = {} if network is FCNAlexNet else {"modalities": ("image", "depth")}
        filters = (4, 4, 4, 4, 4) if network is FCNAlexNet else NARROW_FILTERS
        network(2, fc_units=4, filters=filters, **options).save(tmp_path / "net.keras")
        command = ["convert", str(tmp_path / "net.keras"), str(tmp_path / "new.keras")]
        assert main([*command, "--num-classes", "2"]) == 1
        error = error_of(capsys)
        assert "SRC must hold an FCN on VGG-16" in error
        assert layers in error
        assert "pass them as `weights` to their model" in error
