import os
import subprocess
import sys
import zipfile

import h5py
import keras
import numpy as np
import pytest
from caffe import npz_arrays, paper_layers, write_caffemodel
from helpers import (
    NARROW_FILTERS,
    assert_equal_weights,
    randomize,
    variables_as_numpy,
    write_legacy_h5,
)

from keras_fcn import AT_ONCE_SKIP_SCALES, FCN4s, FCN8s, FCN16s, FCN32s, weights
from keras_fcn.backends import backend

pytestmark = pytest.mark.any_backend

SMALL = {"num_classes": 3, "filters": NARROW_FILTERS, "fc_units": 4, "padding": "same"}
OF_VGG16 = {"num_classes": 3, "fc_units": 4, "padding": "same"}
IMAGE = np.random.default_rng(0).integers(0, 256, (1, 70, 45, 3)).astype("float32")


@pytest.fixture(scope="module")
def fcn8s():
    """A model that no test changes."""
    return FCN8s(**SMALL)


@pytest.mark.parametrize("file", ["vgg16.weights.h5", "vgg16.h5", "vgg16.keras"])
def test_vgg16_without_top_sets_the_convolutions_and_warns(vgg16, file, tmp_path):
    path = tmp_path / file
    if file.endswith(".weights.h5"):
        vgg16.save_weights(path)
    elif file.endswith(".keras"):
        vgg16.save(path)
    else:
        write_legacy_h5(path, vgg16)
    with pytest.warns(UserWarning, match="fc6 and fc7 start random"):
        model = FCN8s(**SMALL, weights=path)
    assert_equal_weights(model, vgg16)


def test_keras_reads_the_legacy_layout_that_the_test_writes(vgg16, tmp_path):
    write_legacy_h5(tmp_path / "vgg16.h5", vgg16)
    copy = keras.models.clone_model(vgg16)
    copy.load_weights(tmp_path / "vgg16.h5")
    for ours, theirs in zip(copy.get_weights(), vgg16.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
def test_names_that_keras_divides_among_attributes_are_read(vgg16, tmp_path, monkeypatch):
    """Those of a large network exceed what HDF5 stores in one attribute."""
    limit = "keras.src.legacy.saving.legacy_h5_format.HDF5_OBJECT_HEADER_LIMIT"
    monkeypatch.setattr(limit, 100)
    vgg16.save(tmp_path / "vgg16.h5")
    with h5py.File(tmp_path / "vgg16.h5") as file:
        assert "layer_names1" in file["model_weights"].attrs
        assert "layer_names" not in file["model_weights"].attrs
    with pytest.warns(UserWarning, match="fc6 and fc7 start random"):
        assert_equal_weights(FCN8s(**SMALL, weights=tmp_path / "vgg16.h5"), vgg16)


@pytest.mark.parametrize("file", ["fcn.weights.h5", "fcn.keras"])
def test_a_model_of_the_same_size_sets_everything(file, tmp_path):
    source = FCN8s(**SMALL)
    randomize(source, seed=1)
    source.compile("adam", "sparse_categorical_crossentropy")
    path = tmp_path / file
    source.save(path) if file.endswith(".keras") else source.save_weights(path)
    model = FCN8s(**SMALL, weights=path)
    assert_equal_weights(model, source)


def test_other_classes_keep_the_trunk_and_start_with_zero_scores_and_say_so(tmp_path):
    source = FCN8s(**SMALL)
    randomize(source, seed=4)
    source.save_weights(tmp_path / "fcn.weights.h5")
    for origin in (source, tmp_path / "fcn.weights.h5"):
        with pytest.warns(UserWarning, match="has 3 classes, the model 7"):
            model = FCN8s(**{**SMALL, "num_classes": 7}, weights=origin)
        ours, theirs = variables_as_numpy(model), variables_as_numpy(source)
        for name in ("block5_conv3/kernel", "fc6/kernel", "fc7/bias"):
            np.testing.assert_array_equal(ours[name], theirs[name])
        for name in ("score_fr", "score_pool4", "score_pool3"):
            assert not ours[f"{name}/kernel"].any()
            assert not ours[f"{name}/bias"].any()
        assert np.count_nonzero(ours["upscore8/kernel"]) == 7 * 16 * 16


def test_a_whole_load_names_a_wrong_number_of_classes_with_both_shapes_and_sets_nothing(
    fcn8s, tmp_path
):
    fcn8s.save_weights(tmp_path / "fcn.weights.h5")
    model = FCN8s(**{**SMALL, "num_classes": 7})
    before = model.get_weights()
    with pytest.raises(ValueError, match=r"score_fr/bias \(7,\): has shape \(3,\)") as error:
        weights.load(model, tmp_path / "fcn.weights.h5", partial=False)
    assert "score_pool3/kernel (1, 1, 8, 7): has shape (1, 1, 8, 3)" in str(error.value)
    for new, old in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(new, old)


def test_a_whole_load_takes_neither_a_coarser_model_nor_vgg16(fcn8s, vgg16):
    with pytest.raises(ValueError, match=r"score_pool3/kernel .*: missing in the file"):
        weights.load(fcn8s, FCN16s(**SMALL), partial=False)
    with pytest.raises(ValueError, match=r"fc6/kernel .*: missing in the file"):
        weights.load(fcn8s, vgg16, partial=False)


def test_missing_and_unused_layers_are_all_named(fcn8s, tmp_path):
    model = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            keras.layers.Conv2D(8, 3, name="block1_conv1", padding="same"),
            keras.layers.Conv2D(2, 1, name="mine"),
        ]
    )
    model.save_weights(tmp_path / "other.weights.h5")
    with pytest.raises(ValueError, match="mine/kernel") as error:
        weights.load(fcn8s, tmp_path / "other.weights.h5")
    assert "block5_conv3/kernel (3, 3, 16, 16): missing in the file" in str(error.value)


def test_files_that_are_none_are_refused(fcn8s, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"must be an existing file.*absent\.h5"):
        weights.load(fcn8s, tmp_path / "absent.h5")
    for name in ("text.h5", "text.keras"):
        (tmp_path / name).write_text("not weights")
        with pytest.raises(ValueError, match=f"must be a whole Keras file.*{name}"):
            weights.load(fcn8s, tmp_path / name)


def test_a_failed_download_says_how_to_go_on(monkeypatch):
    def without_network(*args, weights=None, **kwargs):
        if weights == "imagenet":
            raise Exception("URL fetch failure on https://...")
        return vgg16_of_keras(*args, weights=weights, **kwargs)

    vgg16_of_keras = keras.applications.VGG16
    monkeypatch.setattr(keras.applications, "VGG16", without_network)
    monkeypatch.setenv("KERAS_HOME", "/cache")
    notop = "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5"
    reason = rf"must be downloaded from https://.*/{notop}, which failed: URL fetch.*"
    with pytest.raises(
        OSError, match=reason + rf"Save the file as /cache/models/{notop}.*weights=None"
    ):
        FCN8s(**OF_VGG16, weights="imagenet")


@pytest.mark.gate
def test_a_file_put_by_hand_into_kerass_cache_is_imagenet(tmp_path, monkeypatch):
    # Keras reads its folder on import and checks the file's checksum, so this is another process.
    path = tmp_path / "models" / "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5"
    path.parent.mkdir()
    vgg16 = keras.applications.VGG16(include_top=False, weights=None)
    randomize(vgg16, seed=5)
    write_legacy_h5(path, vgg16)
    script = (
        "import keras, keras_fcn, keras.src.utils.file_utils as files\n"
        "files.validate_file = lambda *args, **kwargs: True\n"
        "model = keras_fcn.FCN8s(num_classes=3, fc_units=4, padding='same', weights='imagenet')\n"
        "print(float(keras.ops.sum(model.get_layer('block5_conv3').kernel)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        env={**os.environ, "KERAS_HOME": str(tmp_path)},
        check=False,
    )
    assert "fc6 and fc7 start random" in done.stderr, done.stderr
    expected = keras.ops.sum(vgg16.get_layer("block5_conv3").kernel)
    np.testing.assert_allclose(float(done.stdout), float(expected), rtol=1e-4)


def test_an_unknown_name_or_suffix_is_answered_with_the_known_ones(fcn8s, tmp_path):
    with pytest.raises(FileNotFoundError, match="one of imagenet, pascal_voc, pascal_voc_atonce"):
        weights.load(fcn8s, "pascal-voc")
    (tmp_path / "weights.bin").write_bytes(b"1")
    with pytest.raises(ValueError, match=r"ends in one of \.weights\.h5, .*\.caffemodel"):
        weights.load(fcn8s, tmp_path / "weights.bin")


def test_an_index_of_several_files_is_refused_with_what_to_do(vgg16, fcn8s, tmp_path):
    path = tmp_path / "vgg16.weights.json"
    vgg16.save_weights(path, max_shard_size=1e-5)  # 10 kB.
    assert len(list(tmp_path.glob("vgg16_*.weights.h5"))) > 1
    with pytest.raises(ValueError, match=r"must be one file.*vgg16\.weights\.json.*\.weights\.h5"):
        weights.load(fcn8s, path)


class TestValuesThatAreNotFinite:
    """Every format is read by a function of its own, and checked at one place."""

    def damaged(self, value):
        source = FCN8s(**SMALL)
        randomize(source, seed=1)
        kernel = keras.ops.convert_to_numpy(source.get_layer("fc7").kernel).copy()
        kernel[0, 0, 1, 2] = kernel[0, 0, 3, 0] = value
        source.get_layer("fc7").kernel.assign(kernel)
        return source

    def written(self, source, path):
        layers = paper_layers(variables_as_numpy(source))
        if path.name == "fcn.weights.h5":
            source.save_weights(path)
        elif path.suffix in (".keras", ".h5"):
            source.save(path)
        elif path.suffix == ".npz":
            np.savez(path, **npz_arrays(layers))
        elif path.suffix == ".caffemodel":
            write_caffemodel(path, layers)
        else:
            torch = pytest.importorskip("torch")
            names = ("weight", "bias")
            state = {
                f"{layer}.{name}": torch.from_numpy(array)
                for layer, values in layers.items()
                for name, array in zip(names, values, strict=False)
            }
            torch.save(state, path)

    @pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    @pytest.mark.parametrize(
        "file",
        ["fcn.weights.h5", "fcn.h5", "fcn.keras", "fcn.npz", "fcn.pth", "fcn.caffemodel"],
    )
    def test_file_array_and_number_are_named_and_the_model_is_unchanged(
        self, fcn8s, file, value, tmp_path
    ):
        path = tmp_path / file
        self.written(self.damaged(value), path)
        before = fcn8s.get_weights()
        with pytest.raises(ValueError, match=rf"{path} must .*: fc7/kernel, in which 2 of 16 "):
            weights.load(fcn8s, path)
        for new, old in zip(fcn8s.get_weights(), before, strict=True):
            np.testing.assert_array_equal(new, old)

    def test_a_model_is_a_source_like_a_file(self, fcn8s):
        with pytest.raises(ValueError, match=r"fc7/kernel, in which 2 of 16 values are NaN"):
            weights.load(fcn8s, self.damaged(np.nan))

    def test_numbers_beyond_float32_are_infinite_and_its_largest_one_is_not(self, fcn8s, tmp_path):
        arrays = npz_arrays(paper_layers(variables_as_numpy(self.damaged(3.4e38))))
        np.savez(tmp_path / "large.npz", **arrays)
        FCN8s(**SMALL, weights=tmp_path / "large.npz")
        arrays["fc7/b"] = np.array([1.0, 1e39, 0.0, -1e39])
        np.savez(tmp_path / "larger.npz", **arrays)
        with pytest.raises(ValueError, match="fc7/bias, in which 2 of 4 values"):
            weights.load(fcn8s, tmp_path / "larger.npz")


@pytest.mark.parametrize("source", [3, b"fcn.keras", [np.zeros(1)]])
def test_what_is_no_source_of_weights_is_refused(source):
    with pytest.raises(ValueError, match="`weights` must be a name, a path or a model"):
        FCN8s(**SMALL, weights=source)


def test_a_keras_file_that_unpacks_to_far_more_than_its_size_is_refused(fcn8s, tmp_path):
    path = tmp_path / "bomb.keras"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model.weights.h5", bytes(10**8))
    with pytest.raises(ValueError, match="claims 100000000 bytes"):
        weights.load(fcn8s, path)


def test_a_truncated_file_is_refused(fcn8s, vgg16, tmp_path):
    whole = tmp_path / "whole.weights.h5"
    vgg16.save_weights(whole)
    cut = tmp_path / "cut.weights.h5"
    cut.write_bytes(whole.read_bytes()[:20_000])
    with pytest.raises(ValueError, match=r"must be a whole Keras file.*cut\.weights\.h5"):
        weights.load(fcn8s, cut)


@pytest.mark.parametrize(("coarse", "fine"), [(FCN32s, FCN16s), (FCN16s, FCN8s)])
def test_the_next_finer_model_starts_where_the_coarser_one_stopped(coarse, fine):
    source = coarse(**SMALL)
    frozen = {layer.name: layer.get_weights() for layer in source.layers if "upscore" in layer.name}
    randomize(source, seed=2)
    for name, values in frozen.items():
        source.get_layer(name).set_weights(values)
    model = fine(**SMALL, weights=source)
    coarse_logits = keras.ops.convert_to_numpy(source(IMAGE))
    fine_logits = keras.ops.convert_to_numpy(model(IMAGE))
    # Upsampling by 2 and then by the rest is not quite upsampling at once.
    difference = np.abs(fine_logits - coarse_logits)[:, 8:-8, 8:-8].max()
    assert difference < 0.1 * np.ptp(coarse_logits)
    new_score = "score_pool4" if fine is FCN16s else "score_pool3"
    assert not np.any(keras.ops.convert_to_numpy(model.get_layer(new_score).kernel))


@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
@pytest.mark.parametrize("of", ["model", "source.keras", "source.h5"])
class TestWhatGoesWithTheWeights:
    """Models and files of whole models know their `skip_scales` and `mean`."""

    def source(self, of, tmp_path, model):
        if of == "model":
            return model
        model.save(tmp_path / of)
        return tmp_path / of

    @pytest.mark.parametrize("make", [FCN16s, FCN8s])
    def test_other_skip_scales_are_refused(self, of, make, tmp_path):
        source = self.source(of, tmp_path, make(**SMALL, skip_scales=AT_ONCE_SKIP_SCALES))
        with pytest.raises(ValueError, match=r"scales pool4 by 0\.01\. Received: 1\."):
            FCN8s(**SMALL, weights=source)
        FCN8s(**SMALL, skip_scales=AT_ONCE_SKIP_SCALES, weights=source)

    def test_another_mean_is_warned_of(self, of, tmp_path):
        source = self.source(of, tmp_path, FCN8s(**SMALL, mean=(1, 2, 3)))
        with pytest.warns(UserWarning, match=r"trained with the mean \[1\.0, 2\.0, 3\.0\]"):
            FCN8s(**SMALL, weights=source)


class TestHostileHdf5:
    """The file ends in one sentence, and no other file is read."""

    def refuse(self, model, path, reason):
        with pytest.raises(ValueError, match=f"must be a whole Keras file.*{reason}"):
            weights.load(model, path)

    def write(self, path, name="layers/conv2d/vars/0", **options):
        with h5py.File(path, "w") as file:
            group, _, key = name.rpartition("/")
            file.create_group(group).attrs["name"] = "block1_conv1"
            file[group].create_dataset(key, dtype="f4", **options)

    def test_values_in_another_file(self, fcn8s, tmp_path):
        (tmp_path / "secret").write_bytes(bytes(4000))
        external = [(str(tmp_path / "secret"), 0, 4000)]
        self.write(tmp_path / "x.weights.h5", shape=(10,), external=external)
        self.refuse(fcn8s, tmp_path / "x.weights.h5", "keeps its values in another file")

    def test_a_link_into_another_file(self, fcn8s, tmp_path):
        self.write(tmp_path / "other.h5", shape=(10,))
        with h5py.File(tmp_path / "x.weights.h5", "w") as file:
            file["layers"] = h5py.ExternalLink("other.h5", "/layers")
        self.refuse(fcn8s, tmp_path / "x.weights.h5", "and no link")

    def test_a_chunk_that_unpacks_to_much_more(self, fcn8s, tmp_path):
        chunks = {"shape": (64,), "maxshape": (None,), "chunks": (10**7,), "compression": "gzip"}
        self.write(tmp_path / "x.weights.h5", **chunks)
        self.refuse(fcn8s, tmp_path / "x.weights.h5", "has chunks")

    def test_a_dataset_that_claims_far_more_than_the_file_has(self, fcn8s, tmp_path):
        self.write(tmp_path / "x.weights.h5", shape=(2**40,), chunks=(1000,))
        with pytest.raises(ValueError, match=str(2**40)):
            weights.load(fcn8s, tmp_path / "x.weights.h5")

    def test_things_in_the_wrong_place(self, fcn8s, tmp_path):
        self.write(tmp_path / "x.weights.h5", name="layers/conv2d/vars/0/kernel", shape=(1,))
        self.refuse(fcn8s, tmp_path / "x.weights.h5", "")


def test_shared_weights_are_read_with_their_half_precision(shared):
    path = shared / "weights" / "vgg16_imagenet_notop_fp16.weights.h5"
    with pytest.warns(UserWarning, match="start random"):
        model = FCN8s(**OF_VGG16, weights=path)
    expected = keras.applications.VGG16(include_top=False, weights=path)
    assert_equal_weights(model, expected)


class TestChannels:
    """VGG-16's first kernel for images that are not RGB."""

    def features(self, model, image):
        """Returns the outputs of the first convolution, in the layout of the computation."""
        inputs = image.transpose(0, 3, 1, 2) if backend.data_format == "channels_first" else image
        found = model.get_layer("block1_conv1")(model.get_layer("preprocessing")(inputs))
        return keras.ops.convert_to_numpy(found)

    def test_repeated_colours_have_the_features_of_the_colours(self):
        source = FCN32s(**SMALL)
        randomize(source, seed=1)
        with pytest.warns(UserWarning, match=r"block1_conv1 .* 3 channels was .* 6"):
            model = FCN32s(**SMALL, input_shape=(None, None, 6), weights=source)
        rgb = np.random.default_rng(0).integers(0, 256, (1, 8, 9, 3))
        expected = self.features(source, rgb)
        found = self.features(model, np.concatenate([rgb, rgb], axis=-1))
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-3)
        assert model.get_layer("preprocessing").mean == (122.67892, 116.66877, 104.00699) * 2

    def test_grey_has_the_features_of_grey_as_rgb(self):
        mean = (7.0, 7.0, 7.0)
        source = FCN32s(**SMALL, mean=mean)
        randomize(source, seed=1)
        with pytest.warns(UserWarning, match="was summed for 1"):
            model = FCN32s(**SMALL, input_shape=(None, None, 1), mean=mean[:1], weights=source)
        grey = np.random.default_rng(0).integers(0, 256, (1, 8, 9, 1))
        found = self.features(model, grey)
        expected = self.features(source, np.repeat(grey, 3, axis=-1))
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-3)

    def test_a_grey_model_is_read_from_its_file(self, tmp_path):
        grey = {**SMALL, "input_shape": (None, None, 1), "mean": (7.0,)}
        source = FCN32s(**grey)
        randomize(source, seed=1)
        source.save(tmp_path / "grey.keras")
        assert_equal_weights(FCN32s(**grey, weights=tmp_path / "grey.keras"), source)
        with pytest.warns(UserWarning, match=r"trained with the mean \[7.0\]"):
            FCN32s(**{**grey, "mean": (9.0,)}, weights=tmp_path / "grey.keras")


class TestBackbone:
    """The layers of a backbone are in a model inside."""

    def model(self, num_classes=3, make=FCN8s, head="conv"):
        x = inputs = keras.Input((None, None, 3))
        for number in range(5):
            x = keras.layers.SeparableConv2D(2, 3, 2, padding="same", name=f"conv{number}")(x)
            x = keras.layers.BatchNormalization(name=f"norm{number}")(x)
        model = make(num_classes, backbone=keras.Model(inputs, x), fc_units=2, head=head)
        randomize(model, seed=num_classes)
        return model

    @pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
    @pytest.mark.parametrize("file", [None, "fcn.weights.h5", "fcn.keras", "fcn.h5"])
    @pytest.mark.parametrize("num_classes", [3, 4])
    @pytest.mark.filterwarnings("ignore:The score layers keep their values")
    def test_every_variable_of_the_backbone_is_set(self, file, num_classes, tmp_path):
        source, model = self.model(), self.model(num_classes)
        if file is not None:
            path = tmp_path / file
            source.save_weights(path) if file.endswith(".weights.h5") else source.save(path)
        weights.load(model, source if file is None else path, partial=num_classes != 3)
        expected = source.get_layer("backbone").get_weights()
        assert len(expected) == 5 * (3 + 4)
        found = model.get_layer("backbone").get_weights()
        for ours, theirs in zip(found, expected, strict=True):
            np.testing.assert_array_equal(ours, theirs)
        for ours, theirs in zip(model.get_weights(), source.get_weights(), strict=True):
            assert num_classes != 3 or np.array_equal(ours, theirs)

    @pytest.mark.parametrize(
        ("coarse", "fine", "new"),
        [
            (FCN32s, FCN16s, {"score_stride16"}),
            (FCN16s, FCN8s, {"score_stride8"}),
            (FCN32s, FCN8s, {"score_stride16", "score_stride8"}),
            (FCN8s, FCN4s, {"score_stride4"}),
        ],
    )
    def test_the_next_finer_model_starts_where_the_coarser_one_stopped(self, coarse, fine, new):
        source, model = (self.model(make=make) for make in (coarse, fine))
        before = variables_as_numpy(model)
        weights.load(model, source)
        found, expected = variables_as_numpy(model), variables_as_numpy(source)
        for name in found:
            layer = name.split("/")[0]
            if layer in new or layer.startswith("upscore"):
                np.testing.assert_array_equal(found[name], before[name])
            else:
                np.testing.assert_array_equal(found[name], expected[name])

    @pytest.mark.parametrize("name", ["imagenet", "pascal_voc", "camvid"])
    @pytest.mark.parametrize("head", ["conv", "fc"])
    def test_weights_of_vgg16_by_name_are_refused_in_one_sentence(self, name, head):
        with pytest.raises(ValueError, match=f"'{name}' are VGG-16's.*FCN8s on a backbone"):
            weights.load(self.model(head=head), name)

    def test_a_model_without_the_backbones_layers_is_refused(self, fcn8s):
        with pytest.raises(ValueError, match=r"backbone/conv0/variable 0 .*: missing in"):
            weights.load(self.model(), fcn8s)

    def test_models_in_models_without_end_are_refused(self, tmp_path):
        with h5py.File(tmp_path / "deep.weights.h5", "w") as file:
            group = file
            for _ in range(100):
                group = group.create_group("layers/model")
                group.create_group("vars").attrs["name"] = "model"
            group.create_group("layers")
        with pytest.raises(ValueError, match="models inside models"):
            weights.load(self.model(), tmp_path / "deep.weights.h5")
