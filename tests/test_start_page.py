import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from keras_fcn.data.street_scenes import street_scenes
from keras_fcn.label_spaces import CAMVID

pytestmark = pytest.mark.any_backend

ROOT = Path(__file__).parents[1]
PICTURES = ROOT / "docs" / "pictures"


@pytest.fixture(scope="module")
def scene():
    """The image and the label map of the scene that docs/programs/street.py names."""
    program = (ROOT / "docs" / "programs" / "street.py").read_text("utf-8")
    return street_scenes()[re.search(r'^SCENE = "(\w+)"', program, re.MULTILINE)[1]]


class TestPicturesOfTheStreet:
    def test_the_photo_is_that_of_the_package(self, scene):
        with Image.open(PICTURES / "street.jpg") as picture:
            difference = np.array(picture).astype(int) - scene[0]
        assert abs(difference).mean() < 3  # JPEG

    def test_the_classes_are_a_good_prediction_and_not_the_ground_truth(self, scene):
        with Image.open(PICTURES / "street-classes.png") as picture:
            predicted = np.array(picture)
            palette = np.reshape(picture.getpalette(), (-1, 3))
        valid = scene[1] != CAMVID.ignore_class
        assert 0.95 < (predicted == scene[1])[valid].mean() < 1
        assert np.array_equal(palette[: CAMVID.num_classes], CAMVID.palette)


@pytest.mark.parametrize("page", ["index.md", "index.ko.md"])
def test_its_scores_are_those_of_the_readme(page):
    def scores(text):
        return re.findall(r"\b0\.\d{3}\b", text)

    readme = (ROOT / "README.md").read_text("utf-8").split("## Results")[1].split("\n\n")[1]
    results = (ROOT / "docs" / page).read_text("utf-8").split("\n## ")[1]
    assert len(scores(readme)) == 10
    assert scores(results) == scores(readme)
