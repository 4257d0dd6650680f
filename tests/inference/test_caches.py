import pytest

from keras_fcn.backends import backend
from keras_fcn.inference.caches import BoundedCaches


@pytest.mark.any_backend
def test_caches_are_cleared_after_so_many_sizes(monkeypatch):
    cleared = []
    monkeypatch.setattr(backend, "clear_caches", lambda: cleared.append(1))
    caches = BoundedCaches(max_sizes=2)
    for size, count in (((1, 1), 0), ((1, 2), 0), ((1, 1), 0), ((2, 1), 1), ((1, 1), 1)):
        caches.add(size)
        assert len(cleared) == count


def test_a_model_predicts_after_its_caches_were_cleared():
    import keras
    import numpy as np

    from keras_fcn import FCN32s, inference

    model = FCN32s(2, filters=(2, 2, 2, 2, 2), fc_units=2, padding="same")
    image = np.zeros((9, 8, 3), "uint8")
    before = inference.predict(model, image).scores
    backend.clear_caches()
    np.testing.assert_array_equal(inference.predict(model, image).scores, before)
    assert keras.ops.convert_to_numpy(model(image[None])).shape == (1, 9, 8, 2)
