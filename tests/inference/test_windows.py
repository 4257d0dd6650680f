"""Where the windows of an image lie, and what is kept of them."""

import math

import keras
import numpy as np
import pytest
from helpers import NARROW_FILTERS
from keras import layers

from keras_fcn import FCN8s, FCN16s, FCN32s
from keras_fcn.inference.windows import windows
from keras_fcn.models.alexnet import FCNAlexNet

NARROW = {"filters": NARROW_FILTERS, "fc_units": 4}
pytestmark = pytest.mark.any_backend


def around(pixels, size=(None, None, 3)):
    """A network whose pixels see `pixels` neighbours on each side."""
    image = keras.Input(size)
    kernel_size = 2 * pixels + 1
    return keras.Model(image, layers.Conv2D(2, kernel_size, padding="same")(image))


@pytest.fixture(scope="module")
def model():
    return FCN8s(2, **NARROW)


class TestHalo:
    """Pixels on each side, from the receptive fields of the layers.

    fc6 sees 404 pixels at stride 32. A pixel of FCN-32s lies within 31.5 pixels of the centres of
    the scores that the bilinear kernel of 64 joins: 201.5 + 31.5 = 233.
    """

    @pytest.mark.parametrize("padding", ["paper", "same"])
    @pytest.mark.parametrize(("network", "pixels"), [(FCN32s, 233), (FCN16s, 241), (FCN8s, 245)])
    def test_of_the_papers_networks(self, network, pixels, padding):
        model = network(2, **NARROW, padding=padding)
        first, second = windows(model, (1000, 32), 992)[:2]
        assert second.rows.start + pixels == second.kept[0].rows.start
        assert first.rows.stop - pixels >= first.kept[0].rows.stop
        # One more pixel needs one more stride.
        least = 2 * pixels + 32
        least += (1000 - least) % 32
        assert len(windows(model, (1000, 32), least)) > 1
        with pytest.raises(
            ValueError, match=rf"`tile` \(--tile\) must be at least {least} .* tile={least - 1}"
        ):
            windows(model, (1000, 32), least - 1)

    def test_enlarged_images_halve_the_stride_and_the_halo(self):
        model = FCN8s(2, **NARROW, input_upsampling=2)
        found = windows(model, (1000, 32), 400)
        assert {window.rows.start % 16 for window in found} == {0}
        assert {window.rows.start % 32 for window in found} == {0, 16}
        # 245 enlarged pixels, and one for the interpolation.
        assert found[1].kept[0].rows.start - found[1].rows.start == 123

    def test_of_a_single_convolution(self):
        found = windows(around(3), (100, 40), 50)
        # Three windows of 50 would keep 50 + 2 * 44 rows; two of 50 only 94.
        assert [(window.rows.start, window.rows.stop) for window in found] == [
            (0, 38),
            (32, 70),
            (62, 100),
        ]
        assert [(window.kept[0].rows.start, window.kept[0].rows.stop) for window in found] == [
            (0, 35),
            (35, 65),
            (65, 100),
        ]


class TestPlan:
    @pytest.mark.parametrize("size", [(1, 1), (5000, 1), (701, 2000), (1999, 2003), (600, 632)])
    @pytest.mark.parametrize("tile", [600, 1024])
    def test_kept_parts_cover_the_image_once_and_windows_have_one_size(self, size, tile, model):
        covered = np.zeros(size, "uint8")
        shapes = set()
        for window in windows(model, size, tile):
            (kept,) = window.kept
            covered[kept.rows, kept.columns] += 1
            for seen, part in ((window.rows, kept.rows), (window.columns, kept.columns)):
                assert seen.start % 32 == 0
                assert 0 <= seen.start <= part.start < part.stop <= seen.stop
            shapes.add(covered[window.rows, window.columns].shape)
        assert (covered == 1).all()
        (shape,) = shapes
        assert max(shape) <= tile

    def test_windows_are_no_larger_than_their_number_needs(self, model):
        found = windows(model, (10000, 40), 2048)
        height = found[0].rows.stop
        # 32 pixels less: 7 windows of 1840 keep 6 steps of 1344 and end at 9904.
        assert (len(found), height) == (7, 1872)
        assert height % 32 == 10000 % 32


class TestRefused:
    def test_an_unbounded_receptive_field(self):
        image = keras.Input((None, None, 3))
        x = layers.Conv2D(2, 3, padding="same")(image)
        scale = layers.GlobalAveragePooling2D(keepdims=True)(x)
        model = keras.Model(image, layers.Multiply(name="excite")([x, scale]), name="squeeze")
        with pytest.raises(ValueError, match=r"bounded receptive field.*'squeeze'.*'excite'"):
            windows(model, (9, 9), 32)

    def test_a_network_that_cannot_be_read(self):
        image = keras.Input((None, None, 3))
        model = keras.Model(image, layers.Lambda(lambda x: x, name="any")(image))
        with pytest.raises(ValueError, match=r"receptive field can be read.*Layer 'any'"):
            windows(model, (9, 9), 32)

    def test_a_network_of_one_image_size(self):
        with pytest.raises(ValueError, match=r"images of any size.*\(8, 8, 3\)"):
            windows(around(1, (8, 8, 3)), (8, 8), 32)


def test_every_network_of_the_package_has_a_plan():
    model = FCNAlexNet(2, fc_units=4)
    found = windows(model, (1000, 1000), 900)
    assert len(found) == math.isqrt(len(found)) ** 2 > 1
