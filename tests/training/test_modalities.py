"""Networks of several inputs or tasks on small copies of NYUDv2 and SIFT Flow."""

import json
import re

import keras
import numpy as np
import pytest
from data.builders.fakes import make_sift_flow, save_small_nyudv2
from helpers import NARROW_FILTERS, variables_as_numpy
from PIL import Image

from keras_fcn import MultimodalFCN32s, MultitaskFCN8s, MultitaskFCN32s
from keras_fcn.cli import main
from keras_fcn.cli.train import print_best_epoch
from keras_fcn.data import load
from keras_fcn.data.builders.nyudv2 import nyudv2_dataset_builder
from keras_fcn.data.builders.sift_flow import sift_flow_dataset_builder
from keras_fcn.inference import predict_label_map
from keras_fcn.label_spaces import SIFT_FLOW, SIFT_FLOW_GEOMETRIC
from keras_fcn.losses import SparseCategoricalCrossentropy
from keras_fcn.metrics import MeanIoU
from keras_fcn.training import trainer
from keras_fcn.training.optimizer import CoupledSGD
from keras_fcn.training.recipe import StagedRecipe, replace
from keras_fcn.training.recipes import find_recipe
from keras_fcn.training.splits import open_splits
from keras_fcn.training.trained import open_model

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


@pytest.mark.parametrize("modalities", [("hha",), ("image", "depth")])
@pytest.mark.filterwarnings("ignore:.*MD5 checksum")
def test_evaluate_reads_the_modalities_of_the_model(modalities, place, tmp_path, capsys):
    options = {"filters": NARROW_FILTERS, "fc_units": 4, "padding": "same"}
    channels = {name: 1 if name == "depth" else 3 for name in modalities}
    means = {name: (0.0,) * count for name, count in channels.items()}
    model = MultimodalFCN32s(40, modalities=modalities, stacked=True, means=means, **options)
    # Each layer passes the mean of its channels on, and pooling the largest one of the image. Of
    # the scores c * mean / 6.5 - c * c / 2, that of the class c nearest to mean / 6.5 is largest.
    classes = np.arange(40.0)
    for layer in model.layers:
        if layer.name.startswith(("block", "fc")) and layer.weights:
            kernel, bias = layer.get_weights()
            size, _, inputs, _ = kernel.shape
            kernel = np.zeros_like(kernel)
            kernel[size // 2, size // 2] = 1 / inputs
            layer.set_weights([kernel, bias])
        elif layer.name.startswith("score_fr"):
            kernel = np.tile(classes / 6.5 / 4, (1, 1, 4, 1))
            layer.set_weights([kernel, -classes * classes / 2])
    model.save(tmp_path / "model.keras")

    def class_of(*names):
        files = [tmp_path / "manual" / "data" / name / "img_2.png" for name in names]
        scene = [np.atleast_3d(np.asarray(Image.open(file), "float64")) for file in files]
        scene = [np.log(image) if image.shape[2] == 1 else image for image in scene]
        # Streams of equal weights; the scores of their mean are those of the mean.
        return round(np.mean([image.mean(axis=-1).max() for image in scene]) / 6.5)

    predicted = class_of(*("images" if name == "image" else name for name in modalities))
    assert predicted != class_of("images")
    # `save_small_nyudv2` writes [[255, 0, 1], [39, 38, 255]], 255 ignored.
    expected = np.zeros((40, 40), int)
    expected[[0, 1, 38, 39], predicted] = 1
    flags = ("--data-dir", place["data_dir"], "--manual-dir", place["manual_dir"])
    main(["evaluate", str(tmp_path / "model.keras"), "nyudv2", *flags, "--json"])
    found = json.loads(capsys.readouterr().out)["confusion_matrix"]
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("modalities", [("depth",), ("image", "depth"), ("image", "hha")])
def test_files_of_8_bits_are_no_images_of_depth_or_of_several_modalities(
    modalities, tmp_path, capsys
):
    options = {"filters": NARROW_FILTERS, "fc_units": 4}
    MultimodalFCN32s(40, modalities=modalities, stacked=True, **options).save(tmp_path / "a.keras")
    model = str(tmp_path / "a.keras")
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
        Image.fromarray(np.zeros((4, 5), "uint16")).save(tmp_path / folder / "a.png")
    images, labels = str(tmp_path / "images"), str(tmp_path / "labels")
    for command in (
        ["predict", model, images, "--out", str(tmp_path / "out")],
        ["predict", model, images, "--out", str(tmp_path / "out"), "--tile", "64"],
        ["serve", model],
        ["evaluate", model, "--images", images, "--labels", labels],
        ["export", model, "--format", "onnx", "--out", "a.onnx", "--evaluate", images, labels],
    ):
        assert main(command) == 1
        error = capsys.readouterr().err
        assert f"which takes {' and '.join(modalities)}. Evaluate it on a data set by" in error


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


@pytest.fixture
def sift_flow(tmp_path, monkeypatch):
    """The folders of SIFT Flow, as settings of a recipe."""
    names = {"trainval": ["coast_a", "coast_b"], "test": ["street_c"]}
    monkeypatch.setattr(sift_flow_dataset_builder, "read_names", lambda path: names[path.stem])
    make_sift_flow(tmp_path / "manual")
    return {"data_dir": str(tmp_path / "built"), "manual_dir": str(tmp_path / "manual")}


@pytest.mark.gate
@pytest.mark.filterwarnings("ignore:.*MD5 checksum", "ignore:.*random initial values:UserWarning")
class TestTasks:
    """What `make_sift_flow` writes: S=[[0, 1, 33], [2, 0, 32]] and S=[[-1, 1, 2], [3, -1, 1]]."""

    SEMANTIC = [[255, 0, 32], [1, 255, 31]]  # noqa: RUF012
    GEOMETRIC = [[255, 0, 1], [2, 255, 0]]  # noqa: RUF012

    def test_label_maps_stay_in_register_through_augmentation(self, sift_flow):
        recipe = small("paper_sift_flow", crop=(4, 4), **sift_flow).stages["fcn32s"]
        train_split, val_split = open_splits(replace(recipe, flip=True))
        pairs = set(zip(np.ravel(self.SEMANTIC), np.ravel(self.GEOMETRIC), strict=True))
        seen = []
        for epoch in range(4):
            for _, label_maps in train_split.training_batches(replace(recipe, flip=True), epoch, 0):
                maps = [label_maps[task].numpy()[0] for task in ("semantic", "geometric")]
                assert set(zip(*map(np.ravel, maps), strict=True)) == pairs
                (top, left), *_ = np.argwhere(maps[0] != 255)
                seen.append((maps[0][top, left], (maps[0] != 255).sum()))
        assert {count for _, count in seen} == {4}
        assert len({first for first, _ in seen}) == 2  # Mirrored and not.
        for task, expected in (("semantic", self.SEMANTIC), ("geometric", self.GEOMETRIC)):
            ((_, label_map),) = val_split.of_task(task).batches()
            assert label_map.numpy().tolist() == [expected]

    def test_every_stage_trains_both_heads(self, sift_flow, tmp_path, capsys):
        stages = small("paper_sift_flow", learning_rate=1e-4, **sift_flow).stages
        del stages["fcn16s"]
        stages = trainer.train(StagedRecipe(stages=stages), tmp_path / "run")
        *_, last = stages.runs()
        row = last.history()[-1]
        assert {"val_mean_iou", "val_geometric_mean_iou", "val_geometric_iou/vertical"} <= set(row)
        assert "epoch 1: geometric validation loss" in capsys.readouterr().err
        print_best_epoch(last)
        printed = capsys.readouterr().out
        assert re.search(rf"^  mean IoU +{row['val_mean_iou']:.4f}$", printed, re.MULTILINE)
        geometric = printed.partition("fcn8s: best epoch, 1 of 1, geometric:")[2]
        assert f"{row['val_geometric_mean_iou']:.4f}" in geometric
        assert "IoU of vertical" in geometric
        assert "plant" not in geometric
        report = (last.path / "report.html").read_text()
        assert "geometric" in report
        assert "plant" in report
        model = last.load_model()
        assert isinstance(model, MultitaskFCN8s)
        assert model.label_space == {"semantic": SIFT_FLOW, "geometric": SIFT_FLOW_GEOMETRIC}

        # The second stage starts from both heads of the first.
        first, second = (variables_as_numpy(run.load_model()) for run in stages.runs()[:2])
        for name in ("fc6/kernel", "score_fr_semantic/bias", "score_fr_geometric/bias"):
            assert first[name].any()
            np.testing.assert_allclose(second[name], first[name], atol=0.05)

        image = np.random.default_rng(0).integers(0, 256, (2, 3, 3), "uint8")
        logits = model(image[None].astype("float32"))
        for task, space in model.label_space.items():
            opened = open_model(tmp_path / "run", task=task)
            assert opened.label_space == space
            expected = keras.ops.convert_to_numpy(logits[task])[0].argmax(-1)
            assert (predict_label_map(opened.model, image) == expected).all()
        with pytest.raises(ValueError, match=r"--task.*semantic, geometric. Received: depth"):
            open_model(last.best_model_path, task="depth")

        Image.fromarray(image).save(tmp_path / "photo.png")
        run, geometric = str(tmp_path / "run"), ("--task", "geometric")
        out = ("--out", str(tmp_path / "out"))
        main(["predict", run, str(tmp_path / "photo.png"), *geometric, *out])
        with Image.open(tmp_path / "out" / "photo.png") as label_map:
            assert (np.asarray(label_map) == expected).all()
        capsys.readouterr()
        folders = ("--data-dir", sift_flow["data_dir"], "--manual-dir", sift_flow["manual_dir"])
        main(["evaluate", run, "sift_flow", "--split", "test", *geometric, *folders, "--json"])
        scores = json.loads(capsys.readouterr().out)
        assert scores["scores"]["mean_iou"] == pytest.approx(row["val_geometric_mean_iou"])

    @pytest.mark.parametrize("tasks", [(), ("geometric",)])
    def test_a_folder_has_one_task(self, tasks, tmp_path):
        with pytest.raises(ValueError, match="`tasks` must be one or more tasks of a data set by"):
            load(tmp_path, tasks=tasks)

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"data": "camvid"}, "`data` must be sift_flow for the tasks"),
            ({"tasks": ("geometric",)}, r"`tasks` must be \['semantic'\] or"),
            ({"class_mix": ("sky",)}, "`class_mix` must be None for several tasks"),
            ({"fc6_kernel_size": 5}, "`fc6_kernel_size` must be 7 for several tasks"),
            (
                {"model": "fcn4s", "backbone": "ResNet50", "head": "fc"},
                "`model` must be fcn32s, fcn16s or",
            ),
        ],
    )
    def test_what_does_not_go_with_tasks_is_refused(self, changes, message):
        with pytest.raises(ValueError, match=message):
            small("paper_sift_flow", **changes)


@pytest.mark.gate
@pytest.mark.filterwarnings("ignore:.*MD5 checksum")
def test_two_heads_fit_sift_flow_as_the_guide_says(sift_flow):
    classes = {"semantic": 33, "geometric": 3}
    scenes = load("sift_flow", "train", tasks=tuple(classes), **sift_flow)
    scenes = scenes.map(lambda scene: (scene["image"], scene["label_map"]))
    batches = scenes.shuffle(2, seed=0).batch(1).repeat()
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
