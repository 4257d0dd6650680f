"""What an exported file stores, without a file."""

import keras
import pytest

from keras_fcn import FCN32s
from keras_fcn.export import Metadata
from keras_fcn.label_spaces import LabelSpace

pytestmark = pytest.mark.any_backend


def test_metadata_survive_the_way_through_strings():
    metadata = Metadata(
        "FCN8s",
        "labels",
        ("road", "a car"),
        ((128, 64, 128), (64, 0, 128)),
        ignore_class=255,
        ignore_colour=(0, 0, 0),
        modalities=("image", "depth"),
        mean=(1.5, 2.0, 3.0),
        size=(36, 48),
        quantization="int8",
        license="CC BY 4.0",
    )
    strings = metadata.as_strings()
    assert strings["license"] == "CC BY 4.0"  # Text for other readers, not JSON.
    assert "batch_size" not in strings
    assert Metadata.from_strings(strings | {"another": "1"}) == metadata


def test_files_of_others_are_told_by_what_is_missing():
    with pytest.raises(ValueError, match="lack class_names, output, palette"):
        Metadata.from_strings({"network": "FCN8s"})


def test_metadata_of_a_model_are_its_classes_mean_and_layout():
    space = LabelSpace(("road", "car"), ((128, 64, 128), (64, 0, 128)), 255, (0, 0, 0))
    options = {"filters": (2, 2, 2, 2, 2), "fc_units": 2, "mean": (1.0, 2.0, 3.0)}
    model = FCN32s(2, label_space=space, data_format="channels_first", **options)
    metadata = Metadata.of(model, "logits", size=(5, 7))
    assert metadata.label_space == space
    assert metadata.mean == (1.0, 2.0, 3.0)
    assert metadata.input_shape == (None, 3, 5, 7)
    without = FCN32s(2, include_preprocessing=False, **options)
    assert Metadata.of(without, "logits").class_names == ("class 0", "class 1")
    assert Metadata.of(without, "logits").mean is None
    keras.backend.clear_session()
