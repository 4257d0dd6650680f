"""The demonstration with a few images and steps; the gate runs it whole and looks at its scores."""

import numpy as np
import pytest
from PIL import Image

from keras_fcn.data.street_scenes import street_scenes
from keras_fcn.training import demo


@pytest.mark.any_backend
def test_it_segments_a_street_and_trains_a_small_network(tmp_path, monkeypatch, capsys):
    name, (image, label_map) = next(iter(street_scenes().items()))
    window = np.s_[150:278, 100:260]
    monkeypatch.setattr(demo, "street_scenes", lambda: {name: (image[window], label_map[window])})
    monkeypatch.setattr(demo, "_NUM_TRAIN", 4)
    monkeypatch.setattr(demo, "_NUM_VAL", 4)
    scores = demo.demo(tmp_path / "demo.png")
    assert list(scores) == ["FCN-8s", "FCN-16s", "FCN-32s", "shapes"]
    counted = (label_map[window] != 11).sum()
    assert all(scores[head].matrix.sum() == counted for head in ("FCN-8s", "FCN-16s", "FCN-32s"))
    assert scores["FCN-8s"].as_dict()["mean_iou"] > scores["FCN-32s"].as_dict()["mean_iou"] > 0.3
    assert scores["shapes"].matrix.sum() == 4 * 96 * 96
    with Image.open(tmp_path / "demo.png") as picture:
        assert picture.width > 5 * 240
    printed = capsys.readouterr().out
    road = (label_map[window] == 3).mean()
    assert f"{road:.1%}" in next(line for line in printed.splitlines() if line.startswith("road"))
    assert f"{scores['FCN-8s'].as_dict()['mean_iou']:.4f}" in printed
    assert "filters=(8, 16, 32, 64, 128)" in printed


@pytest.mark.any_backend
def test_it_looks_for_its_folder_before_it_trains(tmp_path):
    with pytest.raises(FileNotFoundError, match="`out` must lie in an existing folder"):
        demo.demo(tmp_path / "absent" / "demo.png")
