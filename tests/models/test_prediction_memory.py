"""A prediction that does not fit in the memory is refused before it runs."""

import keras
import numpy as np
import pytest
from helpers import NARROW_FILTERS

from keras_fcn import FCN8s
from keras_fcn.backends import host_memory as memory
from keras_fcn.inference import predict_label_map
from keras_fcn.models import prediction_memory
from keras_fcn.models.prediction_memory import prediction_bytes

GIB = 2**30


@pytest.fixture(scope="module")
def model():
    return FCN8s(3, filters=NARROW_FILTERS, fc_units=4, padding="same")


def test_an_image_that_does_not_fit_is_refused_in_one_sentence(model, monkeypatch):
    monkeypatch.setattr(prediction_memory, "free_memory", lambda: 1000)
    monkeypatch.setattr(prediction_memory.backend, "computes_on_cpu", lambda: True)
    with pytest.raises(
        ValueError, match=r"1 image of 30x40 pixels .* about .* is needed; .* are free"
    ):
        predict_label_map(model, np.zeros((30, 40, 3), "uint8"))
    monkeypatch.setattr(prediction_memory.backend, "computes_on_cpu", lambda: False)
    assert predict_label_map(model, np.zeros((30, 40, 3), "uint8")).shape == (30, 40)


def test_a_scale_above_1_counts(model, monkeypatch):
    monkeypatch.setattr(prediction_memory.backend, "computes_on_cpu", lambda: True)
    needed = prediction_bytes(model, 1, 30, 40)
    monkeypatch.setattr(prediction_memory, "free_memory", lambda: needed)
    image = np.zeros((30, 40, 3), "uint8")
    predict_label_map(model, image)
    with pytest.raises(ValueError, match="at scale 2"):
        predict_label_map(model, image, scales=(0.5, 2.0))


@pytest.mark.parametrize("is_cpu", [True, False])
@pytest.mark.parametrize("scale", [1e9, 1e300, 1e308])
def test_a_scale_whose_size_no_backend_holds_is_refused(model, scale, is_cpu, monkeypatch):
    monkeypatch.setattr(prediction_memory.backend, "computes_on_cpu", lambda: is_cpu)
    with pytest.raises(ValueError, match=r"less than 2,147,483,648 pixels a side.* at scale 1e\+"):
        predict_label_map(model, np.zeros((30, 40, 3), "uint8"), scales=(1.0, scale))


def test_the_estimate_is_near_what_was_measured():
    # Bytes a pixel of FCN-8s with VGG-16's filters, as measured with the process's peak.
    measured = {"tensorflow": 890, "torch": 890, "jax": 660}[keras.backend.backend()]
    model = FCN8s(3, fc_units=4, padding="same")
    assert prediction_bytes(model, 2, 100, 50) / 10_000 == pytest.approx(measured, rel=0.1)
    around = keras.Model(model.input, keras.layers.Softmax()(model.output))
    assert prediction_bytes(around, 2, 100, 50) == prediction_bytes(model, 2, 100, 50)
    sequential = keras.Sequential([keras.Input((None, None, 3)), model])
    assert prediction_bytes(sequential, 2, 100, 50) == prediction_bytes(model, 2, 100, 50)


@pytest.mark.parametrize("data_format", ["channels_first", "channels_last"])
def test_all_classes_count_also_if_a_fixed_size_is_smaller(data_format):
    size = (3, 8, 12) if data_format == "channels_first" else (8, 12, 3)
    options = {"filters": NARROW_FILTERS, "fc_units": 4, "padding": "same"}
    model = FCN8s(151, **options, input_shape=size, data_format=data_format)
    around = keras.Model(model.input, keras.layers.Activation("linear")(model.output))
    of_any_size = FCN8s(151, **options, data_format=data_format)
    expected = prediction_bytes(of_any_size, 2, 8, 12)
    assert expected > 2 * 8 * 12 * 151 * 4
    assert prediction_bytes(model, 2, 8, 12) == prediction_bytes(around, 2, 8, 12) == expected


@pytest.mark.any_backend
@pytest.mark.parametrize(("limit", "free"), [("3221225472", 2 * GIB), ("max", 8 * GIB)])
def test_the_limit_of_the_container_counts(limit, free, tmp_path, monkeypatch):
    psutil = pytest.importorskip("psutil")
    (tmp_path / "memory.max").write_text(f"{limit}\n")
    (tmp_path / "memory.current").write_text(f"{GIB}\n")
    monkeypatch.setattr(memory, "_CGROUP", tmp_path)
    available = type("Memory", (), {"available": 8 * GIB})
    monkeypatch.setattr(psutil, "virtual_memory", lambda: available)
    assert memory.free_memory() == free
