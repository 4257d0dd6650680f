"""The other networks of the paper's release: AlexNet, several inputs, several tasks.

Each is compared with the oracle in `reference` and with OpenCV, which reads a `.caffemodel` and a
network that the tests write.
"""

import cv2
import keras
import numpy as np
import pytest
import reference
from caffe import (
    alexnet_prototxt,
    early_fusion_prototxt,
    late_fusion_prototxt,
    paper_layers,
    two_heads_prototxt,
    write_caffemodel,
)
from helpers import NARROW_FILTERS, assert_equal_weights, randomize, variables_as_numpy

from keras_fcn import (
    FCN8s,
    FCN32s,
    FCNAlexNet,
    MultimodalFCN32s,
    MultitaskFCN8s,
    MultitaskFCN16s,
    MultitaskFCN32s,
)
from keras_fcn.alignment import coordinate_maps
from keras_fcn.inference import predict_label_map
from keras_fcn.label_spaces import PASCAL_VOC, SIFT_FLOW, SIFT_FLOW_GEOMETRIC
from keras_fcn.losses import SparseCategoricalCrossentropy
from keras_fcn.models.from_file import model_from_file
from keras_fcn.spec import HHA_MEAN, LOG_DEPTH_MEAN, NYUDV2_MEAN
from keras_fcn.weights import diagnose

OTHERS = (pytest.mark.gate, pytest.mark.any_backend)
SMALL = {"filters": NARROW_FILTERS, "fc_units": 8}
ALEXNET_FILTERS = (8, 12, 6, 10, 4)
SIZE = (61, 44)
TASKS = {"semantic": 5, "geometric": 3}
HEADS = {32: MultitaskFCN32s, 16: MultitaskFCN16s, 8: MultitaskFCN8s}
generator = np.random.default_rng(0)
IMAGE = generator.integers(0, 256, (1, *SIZE, 3)).astype("float32")
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


def opencv(folder, text, layers, images, output="logits"):
    """What OpenCV makes of preprocessed images by the names of the network's inputs."""
    write_caffemodel(folder / "net.caffemodel", layers)
    (folder / "net.prototxt").write_text(text)
    net = cv2.dnn.readNetFromCaffe(str(folder / "net.prototxt"), str(folder / "net.caffemodel"))
    for name, image in images.items():
        net.setInput(np.ascontiguousarray(image.transpose(0, 3, 1, 2), "float32"), name)
    return net.forward(output).transpose(0, 2, 3, 1)


def assert_close(logits, expected):
    expected = np.asarray(expected)
    assert np.ptp(expected) > 0.1
    logits = keras.ops.convert_to_numpy(logits)
    np.testing.assert_allclose(logits, expected, atol=1e-4 * np.abs(expected).max())


class TestAlexNet:
    @pytest.fixture(scope="class")
    @classmethod
    def model(cls):
        model = FCNAlexNet(5, filters=ALEXNET_FILTERS, fc_units=8)
        randomize(model, seed=2)
        return model

    def test_its_logits_are_those_of_the_release(self, model, tmp_path):
        values = variables_as_numpy(model)
        image = IMAGE[..., ::-1] - np.array(model.get_layer("preprocessing").mean)
        sizes = {"num_classes": 5, "filters": ALEXNET_FILTERS, "fc_units": 8, "size": SIZE}
        text = alexnet_prototxt(**sizes)
        assert_close(model(IMAGE), reference.alexnet_logits(values, image))
        assert_close(model(IMAGE), opencv(tmp_path, text, paper_layers(values), {"data": image}))

        again = model_from_file(tmp_path / "net.caffemodel")
        assert isinstance(again, FCNAlexNet)
        assert_close(again(IMAGE), keras.ops.convert_to_numpy(model(IMAGE)))

    @pytest.mark.any_backend
    def test_kernel_and_crop_follow_from_the_coordinate_maps(self, model):
        upscore, crop = model.get_layer("upscore"), model.get_layer("crop_logits")
        assert (upscore.kernel_size, crop.offset) == ((63, 63), 18)
        maps = coordinate_maps(model)
        assert (maps["head"].height.stride, maps["head"].height.offset) == (1, 0)

    @pytest.mark.gate
    @pytest.mark.any_backend
    @pytest.mark.parametrize("size", [(1, 1), (2, 31), (32, 33), (64, 97)])
    def test_every_size_has_logits_of_its_size(self, model, size):
        assert model(np.zeros((1, *size, 3))).shape == (1, *size, 5)

    @pytest.mark.any_backend
    def test_a_classifier_of_caffe_is_convolutionalized(self, model, tmp_path):
        layers = paper_layers(variables_as_numpy(model))
        del layers["score_fr"], layers["upscore"]
        fc6, fc7 = (layers[name][0] for name in ("fc6", "fc7"))
        layers["fc6"][0], layers["fc7"][0] = fc6.reshape(8, -1), fc7.reshape(8, 8)
        layers["fc8"] = [np.zeros((1000, 8)), np.zeros(1000)]
        write_caffemodel(tmp_path / "caffenet.caffemodel", layers)
        path = tmp_path / "caffenet.caffemodel"
        again = FCNAlexNet(5, filters=ALEXNET_FILTERS, fc_units=8, weights=path)
        expected, found = variables_as_numpy(model), variables_as_numpy(again)
        for name in ("conv1", "conv4", "fc6", "fc7"):
            np.testing.assert_array_equal(found[f"{name}/kernel"], expected[f"{name}/kernel"])
        assert not found["score_fr/kernel"].any()

    @pytest.mark.gate
    def test_it_is_saved_and_trains(self, model, tmp_path):
        model.save(tmp_path / "model.keras")
        again = keras.saving.load_model(tmp_path / "model.keras")
        assert_close(again(IMAGE), keras.ops.convert_to_numpy(model(IMAGE)))
        loss = SparseCategoricalCrossentropy(from_logits=True)
        again.compile(keras.optimizers.SGD(1e-3), loss)
        before = variables_as_numpy(again)["conv4/kernel"]
        assert np.isfinite(again.train_on_batch(IMAGE, np.zeros((1, *SIZE), "int32")))
        assert not np.array_equal(variables_as_numpy(again)["conv4/kernel"], before)

    @pytest.mark.any_backend
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"filters": (8, 8, 8, 8, 7)}, "`filters` must be five positive even integers"),
            ({"mean": (1, 2)}, "`mean` must be 3 numbers"),
            ({"weights": "pascal_voc"}, "must be loaded into FCN32s, FCN16s, FCN8s"),
            ({"weights": "imagenet"}, "must be loaded into one network on it"),
        ],
    )
    def test_bad_arguments_are_named(self, options, message):
        with pytest.raises(ValueError, match=message):
            FCNAlexNet(5, **{"filters": ALEXNET_FILTERS, "fc_units": 8, **options})


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
            ({"weights": {"image": "imagenet"}}, "`weights` must be a dictionary of all"),
            ({"weights": "nyudv2_hha"}, r"into MultimodalFCN32s\(modalities=\('hha',\)\)"),
        ],
    )
    def test_bad_arguments_are_named(self, options, message):
        with pytest.raises(ValueError, match=message):
            MultimodalFCN32s(5, **SMALL, **options)


class TestTasks:
    """SIFT Flow's networks of two heads."""

    @pytest.mark.parametrize("stride", [*(pytest.param(s, marks=OTHERS) for s in (32, 16)), 8])
    def test_both_heads_have_the_logits_of_the_release(self, stride, tmp_path):
        model = HEADS[stride](TASKS, **SMALL)
        randomize(model, seed=7)
        values, logits = variables_as_numpy(model), model(IMAGE)
        image = IMAGE[..., ::-1] - np.array(model.get_layer("preprocessing").mean)
        ends = {"_semantic": "_sem", "_geometric": "_geo"}
        layers = paper_layers(values, ends)
        sizes = {f"_{task[:3]}": classes for task, classes in TASKS.items()}
        text = two_heads_prototxt(stride, num_classes=sizes, **SMALL, size=SIZE)
        for task in TASKS:
            own = {name.replace(f"_{task}/", "/"): value for name, value in values.items()}
            expected = reference.fcn_logits(own, IMAGE, f"FCN{stride}s", "paper")
            assert_close(logits[task], expected)
            output = f"logits_{task[:3]}"
            assert_close(logits[task], opencv(tmp_path, text, layers, {"data": image}, output))

        again = HEADS[stride](TASKS, **SMALL, weights=tmp_path / "net.caffemodel")
        assert_equal_weights(again, model)
        # A network of one head takes the semantic one.
        single = model_from_file(tmp_path / "net.caffemodel")
        assert_close(single(IMAGE), keras.ops.convert_to_numpy(logits["semantic"]))
        shared = model.of_task("geometric")
        assert_close(shared(IMAGE), keras.ops.convert_to_numpy(logits["geometric"]))

    @pytest.mark.gate
    @pytest.mark.any_backend
    def test_a_finer_network_starts_from_a_coarser_one(self):
        coarse = MultitaskFCN32s(TASKS, **SMALL)
        randomize(coarse, seed=8)
        fine = MultitaskFCN16s(TASKS, **SMALL, weights=coarse)
        expected, found = variables_as_numpy(coarse), variables_as_numpy(fine)
        for layer in ("block5_conv3", "fc7", "score_fr_semantic", "score_fr_geometric"):
            np.testing.assert_array_equal(found[f"{layer}/kernel"], expected[f"{layer}/kernel"])
        assert not found["score_pool4_geometric/kernel"].any()

    @pytest.mark.gate
    def test_other_classes_keep_the_score_layers(self):
        source = FCN32s(5, **SMALL)
        randomize(source, seed=11)
        with pytest.warns(UserWarning, match="score layers keep their values"):
            model = MultitaskFCN32s(TASKS, **SMALL, weights=source)
        found, expected = variables_as_numpy(model), variables_as_numpy(source)
        np.testing.assert_array_equal(found["fc7/kernel"], expected["fc7/kernel"])
        assert not found["score_fr_semantic/kernel"].any()

    @pytest.mark.gate
    def test_one_label_map_is_predicted_by_the_model_of_a_task(self):
        model = MultitaskFCN32s(TASKS, **SMALL)
        with pytest.raises(ValueError, match="`model` must return one map of logits"):
            predict_label_map(model, np.zeros((8, 9, 3)))
        assert predict_label_map(model.of_task("geometric"), np.zeros((8, 9, 3))).shape == (8, 9)

    @pytest.mark.any_backend
    def test_published_weights_of_one_task_are_refused_before_any_download(self):
        with pytest.raises(ValueError, match="into a network of one task, or those of sift_flow"):
            MultitaskFCN8s(TASKS, fc_units=4, weights="pascal_voc")

    @pytest.mark.gate
    def test_it_fits_two_label_maps_and_is_saved(self, tmp_path):
        spaces = {"semantic": SIFT_FLOW, "geometric": SIFT_FLOW_GEOMETRIC}
        classes = {task: space.num_classes for task, space in spaces.items()}
        model = MultitaskFCN16s(classes, **SMALL, label_spaces=spaces, dropout_rate=0.0)
        randomize(model, seed=9)
        model.save(tmp_path / "model.keras")
        again = keras.saving.load_model(tmp_path / "model.keras")
        assert again.label_space == spaces
        found, expected = again(IMAGE), model(IMAGE)
        for task in classes:
            assert_close(found[task], keras.ops.convert_to_numpy(expected[task]))
        losses = {
            task: SparseCategoricalCrossentropy(from_logits=True, ignore_class=255)
            for task in classes
        }
        again.compile(keras.optimizers.AdamW(1e-5), losses)
        label_maps = {
            task: np.full((1, *SIZE), number, "int32") for number, task in enumerate(classes)
        }
        history = again.fit(IMAGE, label_maps, epochs=2, verbose=0).history
        for task in classes:
            assert history[f"{task}_loss"][1] < history[f"{task}_loss"][0]

    @pytest.mark.any_backend
    @pytest.mark.parametrize(
        ("num_classes", "options", "message"),
        [
            (5, {}, "`num_classes` must be a dictionary from tasks"),
            ({"semantic": 1}, {}, "`num_classes` must be an integer of at least 2"),
            ({"semantic": 21}, {"label_spaces": {"voc": PASCAL_VOC}}, "must have keys among"),
            ({"semantic": 5}, {"label_spaces": {"semantic": PASCAL_VOC}}, "`label_space` must be"),
        ],
    )
    def test_bad_arguments_are_named(self, num_classes, options, message):
        with pytest.raises(ValueError, match=message):
            MultitaskFCN8s(num_classes, **SMALL, **options)

    @pytest.mark.any_backend
    def test_there_is_no_other_task(self):
        with pytest.raises(ValueError, match="`task` must be one of semantic, geometric"):
            MultitaskFCN32s(TASKS, **SMALL).of_task("depth")


@pytest.mark.any_backend
def test_one_head_takes_the_semantic_classes_of_a_file_of_two(tmp_path):
    model = MultitaskFCN8s(TASKS, **SMALL)
    randomize(model, seed=10)
    model.save(tmp_path / "two.keras")
    single = FCN8s(5, **SMALL, weights=tmp_path / "two.keras")
    assert_close(single(IMAGE), keras.ops.convert_to_numpy(model(IMAGE)["semantic"]))
