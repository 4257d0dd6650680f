"""SIFT Flow's networks against the oracle in `reference` and OpenCV's reader of a `.caffemodel`."""

import keras
import numpy as np
import pytest
import reference
from caffe import paper_layers, two_heads_prototxt
from helpers import NARROW_FILTERS, assert_equal_weights, randomize, variables_as_numpy
from models.release import IMAGE, SIZE, assert_close, opencv

from keras_fcn import FCN8s, FCN32s, MultitaskFCN8s, MultitaskFCN16s, MultitaskFCN32s
from keras_fcn.inference import predict_label_map
from keras_fcn.label_spaces import PASCAL_VOC, SIFT_FLOW, SIFT_FLOW_GEOMETRIC
from keras_fcn.losses import SparseCategoricalCrossentropy
from keras_fcn.models.from_file import model_from_file

OTHERS = (pytest.mark.gate, pytest.mark.any_backend)
SMALL = {"filters": NARROW_FILTERS, "fc_units": 8}
TASKS = {"semantic": 5, "geometric": 3}
HEADS = {32: MultitaskFCN32s, 16: MultitaskFCN16s, 8: MultitaskFCN8s}


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
            ({"a": 2, "b/c": 3}, {}, "must have names of tasks as keys, without '/'.*'b/c'"),
            ({0: 2}, {}, "must have names of tasks as keys.*Received: 0"),
            ({"semantic": 1}, {}, "`num_classes` must be an integer of at least 2"),
            ({"semantic": 21}, {"label_spaces": {"voc": PASCAL_VOC}}, "must have keys among"),
            ({"semantic": 5}, {"label_spaces": "voc"}, "`label_spaces` must be a dictionary"),
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
