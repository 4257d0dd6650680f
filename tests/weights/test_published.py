"""`weights="pascal_voc"` and the other names, with small models served on the loopback."""

import dataclasses
import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pytest
from caffe import npz_arrays, paper_layers, write_caffemodel
from file_server import serve
from helpers import assert_equal_weights, randomize, variables_as_numpy
from PIL import Image

from keras_fcn import AT_ONCE_SKIP_SCALES, FCN8s, FCN32s, MultitaskFCN8s, weights
from keras_fcn.cli import main
from keras_fcn.inference import predict_label_map
from keras_fcn.io.download import PublishedFile
from keras_fcn.label_spaces import PASCAL_VOC, SIFT_FLOW
from keras_fcn.training.trained import open_model
from keras_fcn.weights import PUBLISHED_WEIGHTS, published

pytestmark = pytest.mark.any_backend

FC_UNITS = 8


@pytest.fixture(scope="module")
def released(tmp_path_factory):
    """A small FCN-8s of 21 classes as its authors might have released it."""
    model = FCN8s(21, fc_units=FC_UNITS)
    randomize(model, seed=6)
    folder = tmp_path_factory.mktemp("released")
    layers = paper_layers(variables_as_numpy(model))
    write_caffemodel(folder / "fcn8s.caffemodel", layers)
    np.savez(folder / "fcn8s.npz", **npz_arrays(layers))
    return model, folder


@pytest.fixture
def registry(released, tmp_path, monkeypatch):
    """Function that replaces the registry by one entry with the given files; and a server."""
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "home"))
    original = next(entry for entry in PUBLISHED_WEIGHTS if entry.stride == 8)
    with serve(released[1]) as server:

        def set_files(*files, **changes):
            files = tuple(
                dataclasses.replace(file, url=f"{server.address}/{file.url}") for file in files
            )
            entry = dataclasses.replace(original, files=files, fc_units=FC_UNITS, **changes)
            monkeypatch.setattr(published, "PUBLISHED_WEIGHTS", (entry,))
            return server

        yield set_files


def md5(path):
    return hashlib.md5(path.read_bytes()).hexdigest()


def cache(tmp_path):
    folder = tmp_path / "home" / "keras_fcn"
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


CAFFEMODEL = PublishedFile("fcn8s.caffemodel", "whole/fcn8s.caffemodel")


class TestWeightsByName:
    def test_the_model_carries_the_weights_the_label_space_and_the_mean(
        self, released, registry, tmp_path
    ):
        server = registry(CAFFEMODEL, mean=(1.0, 2.0, 3.0))
        model = FCN8s(21, fc_units=FC_UNITS, weights="pascal_voc")
        assert_equal_weights(model, released[0])
        assert model.label_space == PASCAL_VOC
        assert model.get_config()["mean"] == (1.0, 2.0, 3.0)
        assert cache(tmp_path) == ["pascal_voc-fcn8s.weights.h5"]

        model.save(tmp_path / "model.keras")
        saved = keras.saving.load_model(tmp_path / "model.keras")
        assert saved.label_space == PASCAL_VOC
        assert tuple(saved.get_config()["mean"]) == (1.0, 2.0, 3.0)

        FCN8s(21, fc_units=FC_UNITS, weights="pascal_voc")
        assert server.requests == ["/whole/fcn8s.caffemodel"]

    @pytest.mark.gate
    def test_predict_takes_the_name(self, released, registry, tmp_path):
        registry(CAFFEMODEL)
        image = np.random.default_rng(2).integers(0, 256, (33, 40, 3), "uint8")
        Image.fromarray(image).save(tmp_path / "photo.png")
        command = ["predict", "pascal_voc", str(tmp_path / "photo.png")]
        assert main([*command, "--out", str(tmp_path / "out")]) == 0
        label_map = np.asarray(Image.open(tmp_path / "out" / "photo.png"))
        np.testing.assert_array_equal(label_map, predict_label_map(released[0], image))

    def test_other_classes_take_the_trunk_and_no_label_space(self, registry):
        registry(CAFFEMODEL)
        with pytest.warns(UserWarning, match="has 21 classes, the model 4"):
            model = FCN8s(4, fc_units=FC_UNITS, weights="pascal_voc")
        assert model.label_space is None

    def test_files_are_tried_in_order_until_one_is_whole(self, released, registry, tmp_path):
        server = registry(
            PublishedFile("fcn8s.npz", "whole/fcn8s.npz", md5="0" * 32),
            PublishedFile("fcn8s.npz", "cut/fcn8s.npz"),
            PublishedFile("fcn8s.npz", "garbage/fcn8s.npz"),
            PublishedFile("fcn8s.caffemodel", "whole/fcn8s.caffemodel", size=1),
            PublishedFile("fcn8s.npz", "whole/fcn8s.npz", md5=md5(released[1] / "fcn8s.npz")),
        )
        model = FCN8s(21, fc_units=FC_UNITS, weights="pascal_voc")
        assert len(server.requests) == 5
        np.testing.assert_array_equal(
            variables_as_numpy(model)["fc7/kernel"], variables_as_numpy(released[0])["fc7/kernel"]
        )
        assert cache(tmp_path) == ["pascal_voc-fcn8s.weights.h5"]

    def test_a_file_that_ends_early_and_unannounced_is_seen_by_its_structure(
        self, released, registry, tmp_path
    ):
        content = (released[1] / "fcn8s.caffemodel").read_bytes()
        (released[1] / "half.caffemodel").write_bytes(content[: len(content) // 2])
        registry(PublishedFile("fcn8s.caffemodel", "unannounced/half.caffemodel"))
        with pytest.raises(OSError, match=r"must be a whole \.caffemodel.*Put one of fcn8s\.caff"):
            FCN8s(21, fc_units=FC_UNITS, weights="pascal_voc")
        assert cache(tmp_path) == []

    @pytest.mark.parametrize("name", ["fcn8s.caffemodel", "fcn8s.npz", "fcn8s.pth"])
    def test_a_web_page_in_place_of_the_file_is_named(self, released, registry, tmp_path, name):
        page = b"\n<!DOCTYPE html>\n<html><title>Sign in to the network</title></html>"
        (released[1] / "page.html").write_bytes(page)
        registry(PublishedFile(name, "whole/page.html"))
        with pytest.raises(OSError, match=r"/page\.html sent a web page instead of the file"):
            FCN8s(21, fc_units=FC_UNITS, weights="pascal_voc")
        assert cache(tmp_path) == []

    def test_a_cache_that_cannot_be_made_names_the_variable(self, registry, tmp_path, monkeypatch):
        server = registry(CAFFEMODEL)
        (tmp_path / "file").write_bytes(b"")
        monkeypatch.setenv("KERAS_HOME", str(tmp_path / "file"))
        with pytest.raises(OSError, match=r"^KERAS_HOME must be .*/file.*Set KERAS_HOME to ano"):
            FCN8s(21, fc_units=FC_UNITS, weights="pascal_voc")
        assert server.requests == []

    def test_a_cache_that_cannot_be_written_names_the_variable(
        self, released, registry, tmp_path, monkeypatch
    ):
        """Also for a file that was put there: its conversion cannot be stored."""
        server = registry(CAFFEMODEL)
        folder = tmp_path / "home" / "keras_fcn"
        folder.mkdir(parents=True)
        (folder / "fcn8s.caffemodel").write_bytes(b"")
        access = os.access  # Root may write everywhere but to a file system that is mounted so.
        monkeypatch.setattr(os, "access", lambda path, mode: path != folder and access(path, mode))
        with pytest.raises(
            OSError, match=r"^KERAS_HOME must be .* cannot be written\. Set KERAS_H"
        ):
            FCN8s(21, fc_units=FC_UNITS, weights="pascal_voc")
        assert server.requests == []

    def test_without_network_the_error_says_what_where_and_how_to_go_on(self, registry, tmp_path):
        registry(CAFFEMODEL)
        entry = published.PUBLISHED_WEIGHTS[0]
        closed = dataclasses.replace(CAFFEMODEL, url="http://127.0.0.1:9/fcn8s.caffemodel")
        published.PUBLISHED_WEIGHTS = (dataclasses.replace(entry, files=(closed,)),)
        with pytest.raises(OSError, match="must be downloaded") as error:
            FCN8s(21, fc_units=FC_UNITS, weights="pascal_voc")
        message = str(error.value)
        assert "http://127.0.0.1:9/fcn8s.caffemodel (" in message
        assert f"into {tmp_path / 'home' / 'keras_fcn'}," in message
        assert "weights=None" in message

    def test_a_file_put_by_hand_is_taken_and_left_there(self, released, registry, tmp_path):
        server = registry(CAFFEMODEL)
        folder = tmp_path / "home" / "keras_fcn"
        folder.mkdir(parents=True)
        content = (released[1] / "fcn8s.caffemodel").read_bytes()
        (folder / "fcn8s.caffemodel").write_bytes(content)
        FCN8s(21, fc_units=FC_UNITS, weights="pascal_voc")
        assert server.requests == []
        assert cache(tmp_path) == ["fcn8s.caffemodel", "pascal_voc-fcn8s.weights.h5"]

    @pytest.mark.gate
    def test_the_cache_is_in_float32_whatever_the_global_policy(self, released, registry, tmp_path):
        registry(CAFFEMODEL)
        keras.config.set_dtype_policy("bfloat16")
        try:
            FCN8s(21, fc_units=FC_UNITS, weights="pascal_voc")
        finally:
            keras.config.set_dtype_policy("float32")
        model = FCN8s(21, fc_units=FC_UNITS, weights="pascal_voc")
        np.testing.assert_array_equal(
            variables_as_numpy(model)["fc7/kernel"], variables_as_numpy(released[0])["fc7/kernel"]
        )

    def test_a_damaged_cache_names_the_file_and_the_way_out(self, registry, tmp_path):
        registry(CAFFEMODEL)
        FCN8s(21, fc_units=FC_UNITS, weights="pascal_voc")
        path = tmp_path / "home" / "keras_fcn" / "pascal_voc-fcn8s.weights.h5"
        os.truncate(path, 1000)
        with pytest.raises(ValueError, match=rf"{path}.*Delete {path} to download it again"):
            FCN8s(21, fc_units=FC_UNITS, weights="pascal_voc")

    def test_loading_by_name_into_a_model_of_another_mean_says_so(self, registry):
        registry(CAFFEMODEL)
        model = FCN8s(21, fc_units=FC_UNITS, mean=(0, 0, 0))
        with pytest.warns(UserWarning, match=r"was trained with the mean \[104\.0"):
            weights.load(model, "pascal_voc")

    def test_a_model_that_cannot_take_them_is_refused_before_any_download(self, registry):
        server = registry(CAFFEMODEL)
        with pytest.raises(
            ValueError, match=r"must have a kernel of shape \(7, 7, 512, 8\).*512, 16\)"
        ):
            FCN8s(21, fc_units=16, weights="pascal_voc")
        with pytest.raises(ValueError, match=r"must be loaded into FCN8s\. Received: FCN32s"):
            FCN32s(21, fc_units=FC_UNITS, weights="pascal_voc")
        with pytest.raises(
            ValueError, match=r"`skip_scales` must be those of weights='pascal_voc'"
        ):
            FCN8s(21, fc_units=FC_UNITS, weights="pascal_voc", skip_scales=AT_ONCE_SKIP_SCALES)
        assert server.requests == []


class TestRegistry:
    def test_pascal_vocs_models_are_there_with_what_belongs_to_them(self):
        of_voc = [
            entry
            for entry in PUBLISHED_WEIGHTS
            if entry.name in ("pascal_voc", "pascal_voc_atonce")
        ]
        assert [(entry.name, entry.stride) for entry in of_voc] == [
            *(("pascal_voc", 32), ("pascal_voc", 16), ("pascal_voc", 8)),
            ("pascal_voc_atonce", 8),
        ]
        for entry in of_voc:
            assert entry.label_space == PASCAL_VOC
            assert entry.mean == (104.00699, 116.66877, 122.67892)
            assert [Path(file.name).suffix for file in entry.files] == [
                *(".npz", ".pth", ".caffemodel")
            ]
            assert all(len(file.md5) == 32 for file in entry.files[:2])
        assert [round(entry.scores["mean_iou"], 3) for entry in of_voc] == [
            *(0.636, 0.650, 0.655, 0.654)
        ]
        assert of_voc[-1].skip_scales == AT_ONCE_SKIP_SCALES

    @pytest.mark.parametrize(
        ("name", "files", "classes", "model"),
        [
            ("pascal_voc_alexnet", ["fcn-alexnet-pascal"], 21, "FCNAlexNet"),
            (
                "pascal_context",
                [f"pascalcontext-fcn{stride}s-heavy" for stride in (32, 16, 8)],
                60,
                "FCN8s",
            ),
            (
                "sift_flow",
                [f"siftflow-fcn{stride}s-heavy" for stride in (32, 16, 8)],
                33,
                "FCN8s",
            ),
            ("nyudv2", ["nyud-fcn32s-color-heavy"], 40, "FCN32s"),
            ("nyudv2_hha", ["nyud-fcn32s-hha-heavy"], 40, "MultimodalFCN32s(modalities=('hha',))"),
            (
                "nyudv2_image_hha",
                ["nyud-fcn32s-color-hha-heavy"],
                40,
                "MultimodalFCN32s(modalities=('image', 'hha'))",
            ),
        ],
    )
    def test_the_other_models_are_there_with_what_belongs_to_them(
        self, name, files, classes, model
    ):
        of_name = [entry for entry in PUBLISHED_WEIGHTS if entry.name == name]
        address = "http://dl.caffe.berkeleyvision.org/"
        assert [[file.url for file in entry.files] for entry in of_name] == [
            [f"{address}{file}.caffemodel"] for file in files
        ]
        assert {entry.label_space.num_classes for entry in of_name} == {classes}
        assert of_name[-1].model_name == model
        assert {entry.license for entry in of_name} == {"unrestricted use"}

    def test_every_file_goes_into_its_network(self, tmp_path, monkeypatch):
        """By name, from a file that was put into the cache: of two heads, into one and into two."""
        monkeypatch.setenv("KERAS_HOME", str(tmp_path))
        tasks = {"semantic": 33, "geometric": 3}
        ends = {"_semantic": "_sem", "_geometric": "_geo"}
        original = next(e for e in PUBLISHED_WEIGHTS if (e.name, e.stride) == ("sift_flow", 8))
        entry = dataclasses.replace(original, fc_units=FC_UNITS)
        monkeypatch.setattr(published, "PUBLISHED_WEIGHTS", (entry,))
        source = MultitaskFCN8s(tasks, fc_units=FC_UNITS)
        randomize(source, seed=3)
        folder = tmp_path / "keras_fcn"
        folder.mkdir()
        layers = paper_layers(variables_as_numpy(source), ends)
        write_caffemodel(folder / entry.files[0].name, layers)

        both = MultitaskFCN8s(tasks, fc_units=FC_UNITS, weights="sift_flow")
        assert_equal_weights(both, source)
        assert both.get_config()["mean"] == (114.578, 115.294, 108.353)
        one = variables_as_numpy(FCN8s(33, fc_units=FC_UNITS, weights="sift_flow"))
        expected = variables_as_numpy(source)["score_pool3_semantic/kernel"]
        np.testing.assert_array_equal(one["score_pool3/kernel"], expected)
        opened = open_model("sift_flow")
        assert (type(opened.model), opened.label_space) == (FCN8s, SIFT_FLOW)


@pytest.mark.gate
def test_a_killed_conversion_leaves_nothing_that_is_taken_for_whole(tmp_path):
    script = (
        "import sys, time; from pathlib import Path\n"
        "from keras_fcn.weights.published import PUBLISHED_WEIGHTS\n"
        "from keras_fcn.weights.published_files import cached_file\n"
        "def convert(file, target):\n"
        "    target.write_bytes(b'half of it'); time.sleep(60)\n"
        "cached_file(PUBLISHED_WEIGHTS[0], convert)\n"
    )
    folder = tmp_path / "keras_fcn"
    folder.mkdir()
    (folder / "fcn32s-heavy-pascal.caffemodel").write_bytes(b"put here by hand")
    environment = {**os.environ, "KERAS_HOME": str(tmp_path)}
    killed = subprocess.Popen([sys.executable, "-c", script], env=environment)
    while not any(path.stat().st_size for path in folder.glob(".unfinished-*/*")):
        assert killed.poll() is None
        time.sleep(0.05)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert not (folder / "pascal_voc-fcn32s.weights.h5").exists()
