import keras
import numpy as np
import pytest
from helpers import NARROW_FILTERS
from PIL import Image

from keras_fcn import FCN8s
from keras_fcn.cli import main

pytestmark = pytest.mark.any_backend


def rows_of(capsys):
    lines = capsys.readouterr().out.splitlines()
    return {line.split()[0]: line.split()[1:] for line in lines[1:]}


def test_vgg16_has_the_receptive_fields_of_the_literature(capsys):
    assert main(["receptive-field", "keras.applications:VGG16", "--size", "500", "375"]) == 0
    rows = rows_of(capsys)
    # 212 pixels at stride 32, as in Araujo et al., 2019 (Distill).
    assert rows["block5_pool"] == ["15x11", "32", "15.5", "212"]
    assert rows["block3_pool"] == ["62x46", "8", "3.5", "44"]


def test_the_fields_of_a_saved_model_are_drawn_on_a_photo(tmp_path, capsys):
    keras.config.disable_interactive_logging()
    FCN8s(3, filters=NARROW_FILTERS, fc_units=2).save(tmp_path / "model.keras")
    photo = tmp_path / "photo.png"
    Image.fromarray(np.full((120, 160, 3), 90, "uint8")).save(photo)
    chart = tmp_path / "chart.png"
    arguments = ["--image", str(photo), "--chart", str(chart)]
    assert main(["receptive-field", str(tmp_path / "model.keras"), *arguments]) == 0
    assert rows_of(capsys)["fc6"][1:] == ["32", "12.5", "404"]
    drawn = np.asarray(Image.open(chart).convert("RGB"))
    # The photo, and a colour of matplotlib's cycle on it.
    assert (drawn == 90).all(-1).sum() > 10_000
    assert (drawn == (31, 119, 180)).all(-1).sum() > 50


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["keras.applications:resnet51"], "Did you mean ResNet50?"),
        (["keras.applications:nasnet_mobile"], "Keras builds NASNetMobile for one size alone"),
        (["keras.applications:Xception"], "--misaligned first"),
        (["keras.applications:VGG16", "--image", "a.png"], "--chart PNG"),
        (["nothing.keras"], "nothing.keras"),
        (["camvid", "--size", "-5", "3"], "--size must be a height and a width of at least 1"),
        (["camvid", "--size", "0", "0"], "Received: 0 0."),
    ],
)
def test_bad_input_is_one_sentence(arguments, message, capsys):
    assert main(["receptive-field", *arguments]) == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("keras-fcn: error: ")
    assert message in error
