"""Networks of several inputs or tasks on small copies of NYUDv2 and SIFT Flow."""

import keras
import numpy as np
import pytest
from data.builders.fakes import make_sift_flow, save_small_nyudv2
from helpers import NARROW_FILTERS, variables_as_numpy

from keras_fcn import MultimodalFCN32s, MultitaskFCN32s
from keras_fcn.data import load
from keras_fcn.data.builders.nyudv2 import nyudv2_dataset_builder
from keras_fcn.data.builders.sift_flow import sift_flow_dataset_builder
from keras_fcn.data.named import load_named
from keras_fcn.losses import SparseCategoricalCrossentropy
from keras_fcn.metrics import MeanIoU
from keras_fcn.training import trainer
from keras_fcn.training.optimizer import CoupledSGD
from keras_fcn.training.recipe import replace
from keras_fcn.training.recipes import find_recipe

pytestmark = pytest.mark.any_backend
NARROW = {"filters": NARROW_FILTERS, "fc_units": 4, "padding": "same", "weights": None}


@pytest.fixture
def place(tmp_path, monkeypatch):
    """The folders of the data set, as settings of a recipe."""
    save_small_nyudv2(tmp_path / "manual")
    names = {"train": ["1"], "val": ["2"], "test": ["3"]}
    monkeypatch.setattr(nyudv2_dataset_builder, "read_names", lambda path: names[path.stem])
    return {"data_dir": str(tmp_path / "built"), "manual_dir": str(tmp_path / "manual")}


def small(name, **changes):
    return replace(find_recipe(name), **{**NARROW, "steps": 2, **changes})


def test_an_image_has_the_channels_of_its_modalities(place):
    def only(*modalities):
        return next(iter(load("nyudv2", "train", modalities=modalities, **place)))["image"].numpy()

    image, hha = only("image"), only("hha")
    both = only("image", "hha")
    assert both.dtype == np.uint8
    np.testing.assert_array_equal(both, np.concatenate([image, hha], axis=-1))
    with_depth = only("image", "depth")
    assert with_depth.dtype == np.float32
    np.testing.assert_array_equal(with_depth[..., :3], image)
    assert with_depth[..., 3].tolist() == [[1, 2, 3], [4, 5, 60000]]


@pytest.mark.gate
def test_early_fusion_trains_on_colour_and_depth(place, tmp_path):
    recipe = small("paper_nyudv2_color_depth", **place)
    run = trainer.train(recipe, tmp_path / "run")
    model = run.load_model()
    assert (model.modalities, model.num_channels) == (("image", "depth"), 4)
    assert run.history()[-1]["val_pixel_accuracy"] >= 0
    assert (run.path / "report.html").is_file()

    # One image of all channels, and a dictionary of images.
    other = MultimodalFCN32s.from_config({**model.get_config(), "stacked": False})
    other.set_weights(model.get_weights())
    stacked = next(iter(load("nyudv2", "test", modalities=model.modalities, **place)))["image"]
    stacked = stacked.numpy()[None]
    scene = {"image": stacked[..., :3], "depth": stacked[..., 3:]}
    expected = keras.ops.convert_to_numpy(model(stacked))
    np.testing.assert_allclose(keras.ops.convert_to_numpy(other(scene)), expected, atol=1e-6)


@pytest.mark.gate
def test_late_fusion_starts_from_the_runs_of_its_modalities(place, tmp_path):
    streams = {}
    for name in ("color", "hha"):
        recipe = small(f"paper_nyudv2_{name}", **place)
        streams[name] = trainer.train(recipe, tmp_path / name).best_model_path
    recipe = find_recipe("paper_nyudv2_color_hha")
    with pytest.raises(ValueError, match=r"`weights` must be trained networks.*stream_weights"):
        trainer.train(replace(recipe, **place), tmp_path / "without")
    recipe = small(
        "paper_nyudv2_color_hha", **place, stream_weights=tuple(map(str, streams.values()))
    )
    # The paper's rate moves nothing within two steps.
    run = trainer.train(recipe, tmp_path / "late")
    found = variables_as_numpy(run.load_model())
    for suffix, stream in (("image", streams["color"]), ("hha", streams["hha"])):
        expected = variables_as_numpy(keras.saving.load_model(stream))
        for layer in ("block1_conv1", "fc6", "score_fr"):
            np.testing.assert_allclose(
                found[f"{layer}_{suffix}/kernel"], expected[f"{layer}/kernel"], atol=1e-5
            )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "fcn8s"}, "`model` must be fcn32s for the modalities"),
        ({"modalities": ("image", "sound")}, "`modalities` must be one of image, depth, hha"),
        ({"modalities": ("image", "image")}, "`modalities` must be different ones"),
        ({"data": "camvid"}, "`data` must be nyudv2 for the modalities"),
        ({"stream_weights": ("a", "b")}, "`stream_weights` must be one file per modality"),
        ({"fusion": "late", "stream_weights": ("a",)}, "`stream_weights` must be one file per"),
        ({"random_scale": (0.5, 2.0)}, "`random_scale` must be None for several modalities"),
    ],
)
def test_what_does_not_go_with_modalities_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        small("paper_nyudv2_color_depth", **changes)


@pytest.mark.gate
@pytest.mark.filterwarnings("ignore:.*MD5 checksum")
def test_two_heads_fit_sift_flow_as_the_guide_says(tmp_path, monkeypatch):
    names = {"trainval": ["coast_a", "coast_b"], "test": ["street_c"]}
    monkeypatch.setattr(sift_flow_dataset_builder, "read_names", lambda path: names[path.stem])
    make_sift_flow(tmp_path / "manual")

    def image_and_label_maps(scene):
        label_maps = {"semantic": scene["label_map"], "geometric": scene["geometric_label_map"]}
        return scene["image"], label_maps

    classes = {"semantic": 33, "geometric": 3}
    scenes = load_named(
        "sift_flow",
        "train",
        features=("geometric_label_map",),
        data_dir=tmp_path / "built",
        manual_dir=tmp_path / "manual",
    )
    batches = scenes.shuffle(2, seed=0).map(image_and_label_maps).batch(1).repeat()
    model = MultitaskFCN32s(classes, filters=NARROW_FILTERS, fc_units=4, dropout_rate=0.0)
    options = {"from_logits": True, "ignore_class": 255, "reduction": "sum"}
    model.compile(
        CoupledSGD(1e-3),
        loss={task: SparseCategoricalCrossentropy(**options) for task in classes},
        metrics={task: [MeanIoU(number, ignore_class=255)] for task, number in classes.items()},
    )
    history = model.fit(batches, steps_per_epoch=2, epochs=2, verbose=0, shuffle=False).history
    for task in classes:
        assert history[f"{task}_loss"][1] < history[f"{task}_loss"][0]
        assert 0 <= history[f"{task}_mean_iou"][-1] <= 1
