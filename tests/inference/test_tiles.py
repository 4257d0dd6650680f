"""A prediction in tiles equals that of the whole image."""

import keras
import numpy as np
import pytest
import scipy.ndimage
from helpers import NARROW_FILTERS, randomize
from keras import layers

from keras_fcn import FCN8s, FCN16s, FCN32s, MultimodalFCN32s
from keras_fcn.inference import predict, predict_tiles
from keras_fcn.inference.windows import windows
from keras_fcn.label_spaces import generic
from keras_fcn.layers import CropToReference
from keras_fcn.models import prediction_memory
from keras_fcn.models.fcn import FCN4s
from keras_fcn.models.split import split

# A kernel of fc6 of 1 pixel leaves a halo of 149 pixels instead of 245.
NARROW = {"filters": NARROW_FILTERS, "fc_units": 8, "fc6_kernel_size": 1}


def image_of(height, width, channels=3):
    """Random patches of 4x4 pixels."""
    rng = np.random.default_rng([height, width])
    coarse = rng.integers(0, 256, (height // 4 + 1, width // 4 + 1, channels), "uint8")
    return coarse.repeat(4, axis=0).repeat(4, axis=1)[:height, :width]


def random_model(network, **options):
    model = network(4, **options)
    randomize(model, seed=0)
    return model


def in_tiles(model, image, tile, **options):
    label_map = np.full(image.shape[:2], 255, "uint8")
    predict_tiles(model, image, label_map, tile=tile, **options)
    return label_map


def assert_equal_where_not_tied(label_map, whole):
    """Equal class ids where the two largest scores differ by more than rounding."""
    second, first = np.sort(whole.scores, axis=-1)[..., -2:].transpose(2, 0, 1)
    is_clear = first - second > 1e-4 * abs(whole.scores).max()
    assert is_clear.mean() > 0.9
    assert len(np.unique(whole.label_map)) > 1
    np.testing.assert_array_equal(label_map[is_clear], whole.label_map[is_clear])


def on_a_backbone():
    """Options of a small backbone whose padding is "same" with strides of 2, as in MobileNet."""
    image = keras.Input((None, None, 3))
    x = image
    for filters in (8, 8, 16, 16, 16):
        x = layers.Conv2D(filters, 3, strides=2, padding="same", activation="relu")(x)
    backbone = keras.Model(image, x, name="strides")
    return {"backbone": backbone, "fc_units": 4, "preprocessing": lambda x: x / 255}


@pytest.fixture(scope="module", params=["paper", "same"])
def model(request):
    return random_model(FCN8s, **NARROW, padding=request.param)


@pytest.fixture(scope="module")
def models():
    return [random_model(FCN8s, **NARROW, padding=padding) for padding in ("paper", "same")]


class TestEqualToTheWholeImage:
    def test_along_both_axes(self, model):
        image = image_of(393, 371)
        assert len(windows(model, (393, 371), 361)) == 4
        assert_equal_where_not_tied(in_tiles(model, image, np.int64(361)), predict(model, image))

    @pytest.mark.parametrize("size", [(1, 1), (33, 1)])
    def test_of_an_image_smaller_than_a_tile(self, model, size):
        image = image_of(*size)
        np.testing.assert_array_equal(in_tiles(model, image, 64), predict(model, image).label_map)

    def test_of_an_enlarged_image(self):
        model = random_model(FCN8s, **NARROW, input_upsampling=2)
        image = image_of(260, 21)
        assert len(windows(model, (260, 21), 190)) > 2
        found, expected = np.full((260, 21, 4), -1, "float32"), predict(model, image)
        label_map = in_tiles(model, image, 190, probabilities=found)
        np.testing.assert_allclose(found, expected.probabilities, atol=1e-5)
        assert_equal_where_not_tied(label_map, expected)

    def test_of_a_backbone(self):
        image = image_of(490, 41)
        model = random_model(FCN8s, **on_a_backbone())
        assert len(windows(model, (490, 41), 330)) > 2
        assert_equal_where_not_tied(in_tiles(model, image, 330), predict(model, image))

    @pytest.mark.parametrize("height", [53, 54])
    def test_of_a_network_whose_padding_depends_on_the_size(self, height):
        image = keras.Input((None, None, 3))
        x = image
        for _ in range(2):
            x = layers.Conv2D(8, 3, strides=2, padding="same", activation="relu")(x)
        x = layers.Conv2D(4, 1)(layers.UpSampling2D(4)(x))
        model = keras.Model(image, CropToReference(0, data_format="channels_last")([x, image]))
        image = image_of(height, 9)
        assert len(windows(model, (height, 9), 30)) > 1
        assert_equal_where_not_tied(in_tiles(model, image, 30), predict(model, image))

    @pytest.mark.parametrize("tile", [6, 11])
    def test_of_a_single_convolution(self, tile):
        # The label is 1 where the mean of 5x5 pixels, zeros around the image, is above 100.
        image = keras.Input((None, None, 1))
        convolution = layers.Conv2D(2, 5, padding="same")
        model = keras.Model(image, convolution(image))
        kernel = np.zeros((5, 5, 1, 2))
        kernel[..., 1] = 1
        convolution.set_weights([kernel, np.array([2500.5, 0])])
        pixels = np.random.default_rng(0).integers(0, 256, (17, 14, 1), "uint8")
        sums = scipy.ndimage.convolve(
            pixels[..., 0].astype("int64"), np.ones((5, 5), "int64"), mode="constant"
        )
        np.testing.assert_array_equal(in_tiles(model, pixels, tile), sums > 2500)


@pytest.mark.gate
@pytest.mark.any_backend
class TestMoreThatEqualTheWholeImage:
    @pytest.mark.parametrize("remainder", range(32))
    def test_at_sizes_of_every_remainder(self, models, remainder):
        """Modulo the stride, of a border and of a cut; for each padding as the height or width."""
        model = models[remainder % 2]
        height, width = 384 + remainder, 32 + (7 * remainder + 5) % 32
        image = image_of(height, width)
        assert len(windows(model, (height, width), 375)) > 1
        assert_equal_where_not_tied(in_tiles(model, image, 375), predict(model, image))

    def test_of_windows_in_any_order(self, model):
        image = image_of(450, 440)
        scores = np.zeros((450, 440, 4), "float32")
        parts = windows(model, (450, 440), 370)
        np.random.default_rng(0).shuffle(parts)
        for window in parts:
            found = predict(model, image[window.rows, window.columns])
            (kept,) = window.kept
            scores[kept.rows, kept.columns] = found.scores[kept.within]
        assert_equal_where_not_tied(scores.argmax(-1), predict(model, image))

    @pytest.mark.parametrize("network", [FCN32s, FCN16s])
    @pytest.mark.parametrize("options", [{}, {"padding": "same", "data_format": "channels_first"}])
    def test_of_coarser_networks(self, network, options):
        model = random_model(network, **NARROW, **options)
        image = image_of(421, 19)
        assert len(windows(model, (421, 19), 380)) > 1
        assert_equal_where_not_tied(in_tiles(model, image, 380), predict(model, image))

    @pytest.mark.parametrize("factor", [2, 3])
    def test_of_an_enlarged_image_without_padding(self, factor):
        model = random_model(FCN8s, **NARROW, padding="same", input_upsampling=factor)
        image = image_of(219, 21)
        assert len(windows(model, (219, 21), 190)) > 1
        assert_equal_where_not_tied(in_tiles(model, image, 190), predict(model, image))

    def test_of_depth_of_which_the_network_takes_the_logarithm(self):
        options = {"filters": NARROW_FILTERS, "fc_units": 8, "padding": "same", "stacked": True}
        model = random_model(MultimodalFCN32s, modalities=("depth",), **options)
        depth = 40.0 * image_of(300, 24, channels=1)
        assert_equal_where_not_tied(in_tiles(model, depth, 256), predict(model, depth))

    def test_of_one_more_skip_connection(self):
        model = random_model(FCN4s, **on_a_backbone())
        image = image_of(379, 41)
        assert len(windows(model, (379, 41), 340)) > 1
        assert_equal_where_not_tied(in_tiles(model, image, 340), predict(model, image))

    def test_with_the_papers_kernel_of_fc6(self):
        model = random_model(FCN8s, filters=NARROW_FILTERS, fc_units=8)
        # More than 32 pixels of pool5, a window of the classifier.
        image = image_of(1301, 17)
        assert_equal_where_not_tied(in_tiles(model, image, 560), predict(model, image))


class TestPrograms:
    def test_all_windows_of_a_stage_have_one_size(self, model, monkeypatch):
        parts, sizes = split(model), {}
        for name in ("trunk", "classifier", "decoder"):
            monkeypatch.setattr(
                getattr(parts, name), "predict_on_batch", self.spy(parts, name, sizes)
            )
        in_tiles(model, image_of(1230, 40), 362)
        for of_stage in sizes.values():
            assert len(of_stage) > 1
            assert len(set(of_stage)) == 1
        assert len(sizes) == 3

    def spy(self, parts, name, sizes):
        predict_on_batch = getattr(parts, name).predict_on_batch

        def spied(inputs):
            shapes = [values.shape for values in inputs] if name == "decoder" else inputs.shape
            sizes.setdefault(name, []).append(tuple(shapes))
            return predict_on_batch(inputs)

        return spied

    @pytest.mark.skipif(keras.backend.backend() != "jax", reason="JAX alone has programs")
    def test_jax_compiles_one_for_each_stage(self, monkeypatch):
        from keras_fcn.backends import jax_trainer

        made = []

        class Counted(jax_trainer._ProgramOfEachSize):
            def __init__(self, compiled):
                super().__init__(lambda: made.append(1) or compiled())

        monkeypatch.setattr(jax_trainer, "_ProgramOfEachSize", Counted)
        model = random_model(FCN8s, **NARROW, padding="same")
        for _ in range(2):
            in_tiles(model, image_of(430, 40), 362)
        assert len(made) == 3


class TestProgress:
    def test_counts_windows(self, model):
        calls = []
        in_tiles(model, image_of(430, 40), 362, progress=lambda *numbers: calls.append(numbers))
        assert calls == [(done, len(calls) - 1) for done in range(len(calls))]
        assert len(calls) > 2


@pytest.fixture(scope="module")
def many_classes():
    image = keras.Input((None, None, 3))
    return keras.Model(image, layers.Conv2D(300, 1)(image))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.nan, "`source` must hold finite values"),
        (np.inf, "`source` must hold finite values"),
        (np.array("1", object), "`source` must hold real numbers"),
    ],
    ids=str,
)
def test_values_that_are_no_finite_numbers_are_refused(models, value, message):
    # Larger than a window: JAX's pooling would drop NaN, and PyTorch's would not.
    image = np.full((600, 40, 3), value)
    with pytest.raises(ValueError, match=message):
        predict_tiles(models[1], image, np.empty((600, 40), "uint8"), tile=361)


@pytest.mark.any_backend
class TestRefused:
    IMAGE = np.zeros((9, 8, 3), "uint8")

    @pytest.mark.parametrize(
        ("sink", "words"),
        [
            (np.zeros((8, 9), "uint16"), r"array of shape \(9, 8\). Received: a ndarray of shape"),
            (np.zeros((9, 8), "uint8"), "holds the ids of 300 classes. Received: uint8"),
            (np.zeros((9, 8), "float32"), "Received: float32"),
            ([1, 2], "Received: a list of shape None"),
            ("labels.jpg", "`sink` must end in .tif, .tiff, .png, .npy"),
        ],
    )
    def test_a_sink_that_does_not_fit(self, many_classes, sink, words):
        with pytest.raises(ValueError, match=words):
            predict_tiles(many_classes, self.IMAGE, sink)

    def test_a_sink_of_integers_for_probabilities(self, many_classes):
        array = np.zeros((9, 8, 300), "int32")
        with pytest.raises(ValueError, match=r"holds probabilities. Received: int32"):
            predict_tiles(many_classes, self.IMAGE, probabilities=array)
        with pytest.raises(ValueError, match=r"`probabilities` must end in .tif, .tiff, .npy for"):
            predict_tiles(many_classes, self.IMAGE, probabilities="p.png")

    @pytest.mark.parametrize(
        "source", [np.zeros((9, 8)), np.zeros((0, 8, 3)), np.zeros((9, 8, 4)), [[1]]]
    )
    def test_a_source_that_is_no_image(self, many_classes, source):
        with pytest.raises(ValueError, match="`source` must be a path, or an image of shape"):
            predict_tiles(many_classes, source, np.zeros((9, 8), "uint16"))

    def test_a_model_without_layers(self):
        with pytest.raises(ValueError, match=r"`model` must be a keras.Model.*Received: function"):
            predict_tiles(lambda image: image, self.IMAGE, np.zeros((9, 8), "uint8"))

    @pytest.mark.parametrize("label_space", ["camvid", {}, generic(299)])
    def test_a_label_space_that_does_not_fit(self, many_classes, label_space):
        array = np.zeros((9, 8), "uint16")
        with pytest.raises(ValueError, match=r"^`label_space` must be a"):
            predict_tiles(many_classes, self.IMAGE, array, label_space=label_space)

    def test_a_sink_that_is_the_source(self, many_classes, tmp_path):
        (tmp_path / "scene.tif").write_text("image")
        with pytest.raises(ValueError, match="another file than `source`"):
            predict_tiles(many_classes, tmp_path / "scene.tif", str(tmp_path / "scene.tif"))

    def test_windows_that_do_not_fit_in_the_memory_leave_nothing(self, tmp_path, monkeypatch):
        model = random_model(FCN8s, **NARROW, padding="same")
        monkeypatch.setattr(prediction_memory, "free_memory", lambda: 1000)
        monkeypatch.setattr(prediction_memory.backend, "computes_on_cpu", lambda: True)
        with pytest.raises(ValueError, match=r"Predict in tiles or in smaller ones"):
            predict_tiles(model, self.IMAGE, tmp_path / "labels.npy")
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize("name", ["scene.tif", "./scene.tif"])
    def test_one_file_for_both_outputs(self, many_classes, name, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        with pytest.raises(ValueError, match="`probabilities` must be another file than `sink`"):
            predict_tiles(many_classes, self.IMAGE, "scene.tif", probabilities=name)
        assert not list(tmp_path.iterdir())

    def test_a_sink_without_a_folder(self, many_classes, tmp_path):
        with pytest.raises(FileNotFoundError, match="`sink` must lie in an existing folder"):
            predict_tiles(many_classes, self.IMAGE, tmp_path / "absent" / "labels.npy")

    def test_no_sink(self, many_classes):
        with pytest.raises(ValueError, match="`sink` or `probabilities` must be given"):
            predict_tiles(many_classes, self.IMAGE)

    @pytest.mark.parametrize("options", [{"tile": 0}, {"tile": 32.5}, {"tile": True}])
    def test_wrong_options(self, many_classes, options):
        (name,) = options
        with pytest.raises(ValueError, match=rf"`{name}` \(--{name}\) must be"):
            predict_tiles(many_classes, self.IMAGE, np.zeros((9, 8), "uint16"), **options)
