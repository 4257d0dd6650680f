import helpers
import keras
import pytest
from helpers import NARROW_FILTERS
from keras import layers

from keras_fcn.weights import networks


def narrow_vgg16(*, include_top):
    """As `keras.applications.VGG16`, but for its widths; fc1 and fc2 have 8 units."""
    model = keras.Sequential([keras.Input((32, 32, 3))], name="vgg16")
    convolutions = zip(NARROW_FILTERS, (2, 2, 3, 3, 3), strict=True)
    for block, (filters, count) in enumerate(convolutions, start=1):
        for number in range(1, count + 1):
            name = f"block{block}_conv{number}"
            model.add(layers.Conv2D(filters, 3, padding="same", name=name))
    if include_top:
        # In front of it VGG-16 has pooled 224x224 pixels to 7x7.
        model.add(layers.Resizing(7, 7))
        model.add(layers.Flatten())
        for name, units in (("fc1", 8), ("fc2", 8), ("predictions", 10)):
            model.add(layers.Dense(units, name=name))
    helpers.randomize(model, seed=5)
    return model


@pytest.fixture(scope="session")
def vgg16():
    """A narrow VGG-16 without the classifier."""
    return narrow_vgg16(include_top=False)


@pytest.fixture
def narrow_classifier(monkeypatch):
    """A narrow VGG-16 with the classifier, which models of its width take as they do VGG-16's."""
    monkeypatch.setattr(networks, "fits_classifier", lambda model: True)
    return narrow_vgg16(include_top=True)
