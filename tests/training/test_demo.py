"""The demonstration with a few images and steps; the gate runs it whole and looks at its score."""

import pytest
from PIL import Image

from keras_fcn.models.fcn import FCN8s, FCN16s, FCN32s
from keras_fcn.training import demo

pytestmark = pytest.mark.any_backend


def test_it_trains_the_models_in_turn_and_draws_what_they_predict(tmp_path, monkeypatch, capsys):
    stages = (("FCN-32s", FCN32s, 1), ("FCN-16s", FCN16s, 1), ("FCN-8s", FCN8s, 1))
    monkeypatch.setattr(demo, "_STAGES", stages)
    monkeypatch.setattr(demo, "_NUM_TRAIN", 4)
    monkeypatch.setattr(demo, "_NUM_VAL", 4)
    scores = demo.demo(tmp_path / "demo.png")
    assert list(scores) == ["FCN-32s", "FCN-16s", "FCN-8s"]
    assert all(each.matrix.sum() == 4 * 96 * 96 for each in scores.values())
    with Image.open(tmp_path / "demo.png") as picture:
        assert picture.width > 5 * 192
        assert picture.height > 4 * 192
    printed = capsys.readouterr().out
    assert "filters=(8, 16, 32, 64, 128)" in printed
    assert f"{scores['FCN-8s'].as_dict()['mean_iou']:.4f}" in printed
