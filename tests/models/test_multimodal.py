"""NYUDv2's networks against the oracle in `reference` and OpenCV's reader of a `.caffemodel`."""

import keras
import numpy as np
import pytest
import reference
from caffe import early_fusion_prototxt, late_fusion_prototxt, paper_layers
from helpers import NARROW_FILTERS, assert_equal_weights, randomize, variables_as_numpy
from models.release import IMAGE, SIZE, assert_close, opencv

from keras_fcn import FCN32s, MultimodalFCN32s
from keras_fcn.inference import predict_label_map
from keras_fcn.losses import SparseCategoricalCrossentropy
from keras_fcn.spec import HHA_MEAN, LOG_DEPTH_MEAN, NYUDV2_MEAN
from keras_fcn.weights import diagnose

SMALL = {"filters": NARROW_FILTERS, "fc_units": 8}
generator = np.random.default_rng(1)
SCENE = {
    "image": IMAGE,
    "depth": generator.integers(500, 9000, (1, *SIZE, 1)).astype("float32"),
    "hha": generator.integers(0, 256, (1, *SIZE, 3)).astype("float32"),
}
# What the release's layers make of the files, in the words of its data layer.
PREPROCESSED = {
    "image": IMAGE[..., ::-1] - np.array(NYUDV2_MEAN),
    "depth": np.log(SCENE["depth"]) - LOG_DEPTH_MEAN,
    "hha": SCENE["hha"] - np.array(HHA_MEAN),
}


def of(scene, modalities):
    return {modality: scene[modality] for modality in modalities}


class TestModalities:
    """NYUDv2's networks."""

    @pytest.mark.any_backend
    @pytest.mark.parametrize("modality", ["image", "depth", "hha"])
    def test_one_modality(self, modality):
        model = MultimodalFCN32s(5, modalities=(modality,), **SMALL)
        randomize(model, seed=3)
        values = variables_as_numpy(model)
        expected = reference.fused_logits(values, {"": PREPROCESSED[modality]})
        assert_close(model(of(SCENE, [modality])), expected)

    @pytest.mark.any_backend
    def test_early_fusion(self, tmp_path):
        model = MultimodalFCN32s(5, modalities=("image", "depth"), fusion="early", **SMALL)
        randomize(model, seed=3)
        values = variables_as_numpy(model)
        scene, images = of(SCENE, ("image", "depth")), of(PREPROCESSED, ("image", "depth"))
        joined = np.concatenate(list(images.values()), axis=-1)
        assert_close(model(scene), reference.fused_logits(values, {"": joined}))

        layers = paper_layers(values)
        layers = {"conv1_1_bgrd" if k == "conv1_1" else k: v for k, v in layers.items()}
        text = early_fusion_prototxt(num_classes=5, **SMALL, size=SIZE)
        inputs = {"color": images["image"], "depth": images["depth"]}
        assert_close(model(scene), opencv(tmp_path, text, layers, inputs))

        again = MultimodalFCN32s(
            5,
            modalities=("image", "depth"),
            fusion="early",
            **SMALL,
            weights=tmp_path / "net.caffemodel",
        )
        assert_equal_weights(again, model)

    @pytest.fixture(scope="class")
    @classmethod
    def late(cls):
        model = MultimodalFCN32s(5, **SMALL)
        randomize(model, seed=4)
        return model

    def test_late_fusion(self, late, tmp_path):
        values = variables_as_numpy(late)
        scene, images = of(SCENE, late.modalities), of(PREPROCESSED, late.modalities)
        streams = {f"_{name}": image for name, image in images.items()}
        assert_close(late(scene), reference.fused_logits(values, streams))

        layers = paper_layers(values, {"_image": "color", "_hha": "hha"})
        text = late_fusion_prototxt(num_classes=5, **SMALL, size=SIZE)
        inputs = {"color": images["image"], "hha": images["hha"]}
        assert_close(late(scene), opencv(tmp_path, text, layers, inputs))

        again = MultimodalFCN32s(5, **SMALL, weights=tmp_path / "net.caffemodel")
        assert_equal_weights(again, late)

    @pytest.mark.any_backend
    def test_late_fusion_starts_from_the_networks_of_its_streams(self):
        streams = {name: FCN32s(5, **SMALL, mean=NYUDV2_MEAN) for name in ("image", "hha")}
        for seed, stream in enumerate(streams.values()):
            randomize(stream, seed=seed)
        values = variables_as_numpy(MultimodalFCN32s(5, **SMALL, weights=streams))
        for name, stream in streams.items():
            expected = variables_as_numpy(stream)
            for layer in ("block1_conv1", "fc6", "score_fr"):
                found = values[f"{layer}_{name}/kernel"]
                np.testing.assert_array_equal(found, expected[f"{layer}/kernel"])

    @pytest.mark.any_backend
    def test_kernels_of_colour_are_extended_to_depth_by_their_mean(self):
        colour = FCN32s(5, **SMALL, mean=NYUDV2_MEAN)
        randomize(colour, seed=5)
        expected = variables_as_numpy(colour)["block1_conv1/kernel"]
        model = MultimodalFCN32s(
            5, modalities=("image", "depth"), fusion="early", **SMALL, weights=colour
        )
        kernel = variables_as_numpy(model)["block1_conv1/kernel"]
        np.testing.assert_array_equal(kernel[:, :, :3], expected)
        np.testing.assert_allclose(kernel[:, :, 3], expected.mean(axis=2), atol=1e-6)
        alone = MultimodalFCN32s(5, modalities=("depth",), **SMALL, weights=colour)
        kernel = variables_as_numpy(alone)["block1_conv1/kernel"]
        np.testing.assert_allclose(kernel[:, :, 0], expected.sum(axis=2), atol=1e-5)

    @pytest.mark.gate
    def test_a_trained_network_of_one_modality_is_taken_as_it_is(self):
        source = MultimodalFCN32s(5, modalities=("depth",), **SMALL)
        randomize(source, seed=5)
        late = MultimodalFCN32s(
            5, modalities=("image", "depth"), **SMALL, weights={"image": None, "depth": source}
        )
        found, expected = variables_as_numpy(late), variables_as_numpy(source)
        np.testing.assert_array_equal(
            found["block1_conv1_depth/kernel"], expected["block1_conv1/kernel"]
        )
        colour = MultimodalFCN32s(5, modalities=("image",), **SMALL)
        randomize(colour, seed=6)
        early = MultimodalFCN32s(
            5, modalities=("image", "depth"), fusion="early", **SMALL, weights=colour
        )
        kernel = variables_as_numpy(colour)["block1_conv1/kernel"]
        found = variables_as_numpy(early)["block1_conv1/kernel"]
        np.testing.assert_array_equal(found[:, :, :3], kernel)
        np.testing.assert_allclose(found[:, :, 3], kernel.mean(axis=2), atol=1e-6)

    def test_it_is_diagnosed_and_not_predicted_from_one_image(self, late):
        assert [finding.problem for finding in diagnose(late)] != []
        with pytest.raises(ValueError, match=r"`model` must take one image.*image and hha"):
            predict_label_map(late, np.zeros((8, 9, 3)))

    @pytest.mark.gate
    def test_it_fits_dictionaries_and_is_saved(self, tmp_path):
        source = MultimodalFCN32s(5, **SMALL, dropout_rate=0.0)
        randomize(source, seed=4)
        source.save(tmp_path / "model.keras")
        model = keras.saving.load_model(tmp_path / "model.keras")
        scene = of(SCENE, source.modalities)
        assert_close(model(scene), keras.ops.convert_to_numpy(source(scene)))
        loss = SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.AdamW(1e-5), loss)
        history = model.fit(scene, np.zeros((1, *SIZE), "int32"), epochs=2, verbose=0)
        assert history.history["loss"][1] < history.history["loss"][0]

    @pytest.mark.gate
    @pytest.mark.any_backend
    def test_depth_without_a_measurement_is_finite(self):
        model = MultimodalFCN32s(5, modalities=("depth",), **SMALL)
        randomize(model, seed=6)
        logits = model({"depth": np.zeros((1, 9, 9, 1))})
        assert np.isfinite(keras.ops.convert_to_numpy(logits)).all()

    @pytest.mark.any_backend
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"modalities": ("image", "image")}, "`modalities` must be different ones of image"),
            ({"modalities": "image"}, "`modalities` must be different ones of image"),
            ({"fusion": "middle"}, "`fusion` must be 'early' or 'late'"),
            ({"means": {"hha": (1, 2)}}, "`means` must have 3 numbers for 'hha'"),
            ({"means": [1, 2, 3]}, r"`means` must be a dictionary .* Received: means=\[1, 2, 3\]"),
            ({"stacked": 1}, "`stacked` must be True or False"),
            ({"weights": {"image": "imagenet"}}, "`weights` must be a dictionary of all"),
            ({"weights": 2.5}, "`weights` must be a name, a path or a model"),
            ({"weights": "nyudv2_hha"}, r"into MultimodalFCN32s\(modalities=\('hha',\)\)"),
        ],
    )
    def test_bad_arguments_are_named(self, options, message):
        with pytest.raises(ValueError, match=message):
            MultimodalFCN32s(5, **SMALL, **options)
