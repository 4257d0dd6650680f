import functools

import keras
import numpy as np
import pytest
from cli.command_line import NARROW, error_of, predict
from helpers import NARROW_FILTERS, assert_equal_weights

from keras_fcn import FCN8s, FCN16s
from keras_fcn.cli import main
from keras_fcn.label_spaces import PASCAL_VOC
from keras_fcn.training.objective import MODELS


@pytest.mark.any_backend
class TestConvert:
    @pytest.fixture(autouse=True)
    def narrow(self, monkeypatch):
        """The command makes models of VGG-16's own width."""
        for name, network in {"fcn8s": FCN8s, "fcn16s": FCN16s}.items():
            narrow = functools.partial(network, filters=NARROW_FILTERS)
            monkeypatch.setitem(MODELS, name, narrow)

    OPTIONS = ("--model", "fcn8s", "--label-space", "pascal_voc", "--fc-units", "4")

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
        command = ["convert", caffemodel.path, str(tmp_path / target), "--fc-units", "4"]
        assert main([*command, *options]) == 1
        assert reason in error_of(capsys)
        assert sorted(path.name for path in tmp_path.iterdir()) == before
        assert (tmp_path / "old.keras").read_bytes() == b"old"
