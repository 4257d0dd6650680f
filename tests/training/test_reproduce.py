"""`keras-fcn reproduce`: small released models and a small VOC, all fetched from the loopback."""

import contextlib
import dataclasses
import gc
import hashlib
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from caffe import npz_arrays, paper_layers
from data.builders.fakes import pack, save_image, save_palette_png, served, write_names
from helpers import randomize, variables_as_numpy
from reference import fcn_logits

from keras_fcn import FCN8s, FCN16s, FCN32s
from keras_fcn.cli import main
from keras_fcn.cli.parser import build_parser
from keras_fcn.data.builders.voc_segmentation import voc_segmentation_dataset_builder as builder
from keras_fcn.models.fcn import FCN
from keras_fcn.training import reproduce as reproduction
from keras_fcn.training.evaluate import Scores
from keras_fcn.training.reproduce import EXPERIMENTS, Reproduction, reproduce
from keras_fcn.weights import PUBLISHED_WEIGHTS, published

pytestmark = pytest.mark.any_backend

FC_UNITS = 8
# Released weights have 512 channels before fc6.
FILTERS = (8, 8, 8, 8, 512)
MODELS = {
    "fcn32s": (FCN32s, (1.0, 1.0)),
    "fcn16s": (FCN16s, (1.0, 1.0)),
    "fcn8s": (FCN8s, (1.0, 1.0)),
    "fcn8s_atonce": (FCN8s, (0.01, 0.0001)),
}
# REFERENCE's table of published scores, in percent and in this order.
SCORES = ("pixel_accuracy", "mean_accuracy", "mean_iou", "frequency_weighted_iou")
TITLES = ("pixel accuracy", "mean accuracy", "mean IoU", "frequency weighted IoU")
PUBLISHED = {
    "fcn32s": (90.4810, 76.4824, 63.6261, 83.4580),
    "fcn16s": (90.9971, 78.0710, 65.0050, 84.2614),
    "fcn8s": (91.2212, 77.6146, 65.5126, 84.5445),
    "fcn8s_atonce": (91.1288, 78.4979, 65.3998, 84.4326),
}
SIZES = {"2007_000033": (20, 31), "2007_000042": (33, 24)}
VOC_TAR = "/VOCtrainval_25-May-2011.tar"
CLOSED = "http://127.0.0.1:9"


def narrow(network):
    """A class of networks of few channels: released files hold VGG-16's own."""

    class Narrow(network):
        def _logits(self, image, config, *options):
            return super()._logits(image, config | {"filters": FILTERS}, *options)

    return Narrow


@dataclasses.dataclass
class World:
    """What lies on the server, and what a right program measures.

    Args:
        answers: Content of the server by path.
        label_maps: True label map of each image.
        predictions: By model its prediction for each image, by the reference.
    """

    answers: dict
    label_maps: list
    predictions: dict

    def scores(self, model):
        """The four scores in percent, counted over the pixels of all images."""
        truth = np.concatenate([label_map.ravel() for label_map in self.label_maps])
        predicted = np.concatenate([values.ravel() for values in self.predictions[model]])
        truth, predicted = truth[truth != 255], predicted[truth != 255]
        accuracy, iou, weights = {}, {}, {}
        for label in range(21):
            true, found = truth == label, predicted == label
            if np.any(true):
                accuracy[label] = np.sum(true & found) / np.sum(true)
                weights[label] = np.sum(true) / truth.size
            if np.any(true | found):
                iou[label] = np.sum(true & found) / np.sum(true | found)
        means = np.mean(list(accuracy.values())), np.mean(list(iou.values()))
        weighted = sum(weights[label] * iou[label] for label in weights)
        return [100 * score for score in (np.mean(truth == predicted), *means, weighted)]


def md5(content):
    return hashlib.md5(content).hexdigest()


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Two images; the truth is mostly what FCN-8s predicts, void where rounding could decide."""
    root = tmp_path_factory.mktemp("voc")
    voc = root / "TrainVal" / "VOCdevkit" / "VOC2011"
    images = []
    for seed, (name, size) in enumerate(SIZES.items()):
        path = voc / "JPEGImages" / f"{name}.jpg"
        save_image(path, *size, seed=seed)
        images.append(tf.io.decode_jpeg(path.read_bytes(), channels=3).numpy())

    answers, predictions, unclear = {}, {}, [np.zeros(size, bool) for size in SIZES.values()]
    for seed, (name, (network, skip_scales)) in enumerate(MODELS.items()):
        model = network(21, filters=FILTERS, fc_units=FC_UNITS, skip_scales=skip_scales)
        randomize(model, seed)
        variables = variables_as_numpy(model)
        answers[f"/{name}.npz"] = npz(variables)
        predictions[name] = []
        for image, mask in zip(images, unclear, strict=True):
            logits = fcn_logits(
                *(variables, image[None], network.__name__, "paper"),
                skip_scales=skip_scales,
                dtype="float32",
            )
            ranked = np.sort(logits[0], axis=-1)
            mask |= ranked[..., -1] - ranked[..., -2] < 1e-3 * np.ptp(logits)
            predictions[name].append(np.argmax(logits[0], axis=-1))

    label_maps = [np.array(label_map, "uint8") for label_map in predictions["fcn8s"]]
    for name, label_map, mask in zip(SIZES, label_maps, unclear, strict=True):
        label_map[:5] = predictions["fcn32s"][0][0, 0]
        label_map[5:8] = 17
        label_map[mask] = 255
        label_map[:, :2] = 255
        save_palette_png(voc / "SegmentationClass" / f"{name}.png", label_map)
    for split in ("train", "val"):
        write_names(voc / "ImageSets" / "Segmentation" / f"{split}.txt", SIZES)
    answers[VOC_TAR] = pack(root, root.with_suffix(".tar")).read_bytes()
    return World(answers, label_maps, predictions)


def npz(variables):
    """The bytes of a file as wkentaro/fcn's."""
    file = io.BytesIO()
    np.savez(file, **npz_arrays(paper_layers(variables)))
    return file.getvalue()


@contextlib.contextmanager
def released_at(addresses, world, home):
    """Points the registry's entries and the data set at other addresses; yields the MonkeyPatch.

    Args:
        addresses: Of each file's server, by the path of `World.answers`.
        world: `World`.
        home: Folder of Keras's cache.
    """
    entries = []
    for name, entry in zip(MODELS, PUBLISHED_WEIGHTS[: len(MODELS)], strict=True):
        path = f"/{name}.npz"
        url = addresses[path] + path
        file = dataclasses.replace(entry.files[0], url=url, md5=md5(world.answers[path]))
        entries.append(dataclasses.replace(entry, files=(file,), fc_units=FC_UNITS))
    archive = dataclasses.replace(
        builder.VOC_2011, urls=(addresses[VOC_TAR] + VOC_TAR,), md5=md5(world.answers[VOC_TAR])
    )

    def read_names(path):
        return list(SIZES) if path.stem == "seg11valid" else path.read_text().split()

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KERAS_HOME", str(home))
        patch.setattr(published, "PUBLISHED_WEIGHTS", tuple(entries))
        patch.setattr(builder, "VOC_2011", archive)
        patch.setattr(builder, "read_names", read_names)
        patch.setitem(EXPERIMENTS, "pascal_voc", narrow_experiment())
        yield patch


def narrow_experiment():
    experiment = EXPERIMENTS["pascal_voc"]
    models = {name: (narrow(kind), file) for name, (kind, file) in experiment.models.items()}
    return dataclasses.replace(experiment, models=models)


@dataclasses.dataclass
class Run:
    """One run of the command.

    Args:
        folder: Where it left its files.
        asked: Paths that it fetched, in order.
        printed: What it printed.
        num_models: Models in memory whenever it scored one.
    """

    folder: Path
    asked: list
    printed: str
    progress: str
    num_models: list


@pytest.fixture(scope="module")
def run(world, tmp_path_factory):
    """Everything is fetched, built, scored and printed, once for the tests below."""
    folder = tmp_path_factory.mktemp("run")
    gc.collect()
    before, alive = count_models(), []

    def spy(*args, **kwargs):
        alive.append(count_models() - before)
        return evaluate(*args, **kwargs)

    evaluate, output, progress = reproduction.evaluate, io.StringIO(), io.StringIO()
    with (
        served(world.answers) as (address, asked),
        released_at(dict.fromkeys(world.answers, address), world, folder / "home") as patch,
        contextlib.redirect_stdout(output),
        contextlib.redirect_stderr(progress),
    ):
        patch.setattr(reproduction, "evaluate", spy)
        assert main(["reproduce", "pascal_voc", "--data-dir", str(folder / "data")]) == 0
    return Run(folder, asked, output.getvalue(), progress.getvalue(), alive)


def count_models():
    return sum(issubclass(type(thing), FCN) for thing in gc.get_objects())


@pytest.mark.gate
class TestReproducePascalVoc:
    def test_the_table_holds_measured_and_published_scores_and_their_difference(self, world, run):
        lines = run.printed[run.printed.index("percent ") :].splitlines()
        assert lines[0].split() == ["percent", "measured", "published", "difference"]
        for index, model in enumerate(MODELS):
            rows = lines[1 + 5 * index : 6 + 5 * index]
            assert rows[0] == model
            scores = zip(rows[1:], TITLES, world.scores(model), PUBLISHED[model], strict=True)
            for row, title, score, expected in scores:
                numbers = f"{score:.4f}", f"{expected:.4f}", f"{score - expected:+.4f}"
                assert [part.strip() for part in re.split(r"  +", row.strip())] == [title, *numbers]

    def test_the_models_of_this_test_differ_and_are_partly_right(self, world):
        accuracies = [world.scores(model)[0] for model in MODELS]
        assert len(set(accuracies)) == 4
        assert 50 < accuracies[2] < 95
        truth = np.concatenate([label_map.ravel() for label_map in world.label_maps])
        assert 0.05 < np.mean(truth == 255) < 0.5
        assert len(set(truth)) > 4

    def test_it_says_what_was_measured_and_that_two_images_are_not_736(self, run):
        assert run.printed.splitlines()[-4:] == [
            "Measured: voc_segmentation/2011, seg11valid, 2 images at their own size;",
            "each score is computed from one confusion matrix without void pixels.",
            "Published: https://github.com/wkentaro/fcn; difference: measured minus published.",
            "The published scores are of 736 images, these of 2: they cannot be compared.",
        ]

    def test_all_weights_are_fetched_before_the_data_and_the_data_before_any_scoring(self, run):
        assert run.asked == [*(f"/{name}.npz" for name in MODELS), VOC_TAR]
        assert run.progress.index("weights: 4/4") < run.progress.index("fcn32s: 1/2")

    def test_one_model_at_a_time_is_in_memory(self, run):
        assert run.num_models == [1, 1, 1, 1]

    def test_a_second_time_nothing_is_fetched_and_json_alone_goes_to_standard_output(
        self, world, run, capsys
    ):
        command = ["reproduce", "pascal_voc", "--data-dir", str(run.folder / "data"), "--json"]
        with released_at(dict.fromkeys(world.answers, CLOSED), world, run.folder / "home"):
            assert main([*command, "--models", "fcn8s_atonce"]) == 0
        captured = capsys.readouterr()
        report = json.loads(captured.out)
        assert "fcn8s_atonce: 2/2" in captured.err
        assert (report["data"], report["split"]) == ("voc_segmentation/2011", "seg11valid")
        assert (report["images"], report["published_images"]) == (2, 736)
        assert report["source"] == "https://github.com/wkentaro/fcn"
        assert list(report["models"]) == ["fcn8s_atonce"]
        entry = report["models"]["fcn8s_atonce"]
        scores, expected = world.scores("fcn8s_atonce"), PUBLISHED["fcn8s_atonce"]
        for name, score, value in zip(SCORES, scores, expected, strict=True):
            assert entry["scores"][name] == pytest.approx(score / 100, abs=1e-9)
            assert entry["published"][name] == pytest.approx(value / 100, abs=1e-9)
            assert entry["difference"][name] == pytest.approx((score - value) / 100, abs=1e-9)
        truth = np.concatenate([label_map.ravel() for label_map in world.label_maps])
        assert np.sum(entry["confusion_matrix"]) == np.sum(truth != 255)


class TestWhatIsMissing:
    """One clear line, exit code 1, and no hour of scoring before."""

    def error_of(self, capsys):
        captured = capsys.readouterr()
        assert "fcn32s: " not in captured.out
        lines = captured.err.strip().splitlines()
        errors = [line for line in lines if "error" in line]
        assert errors == lines[-1:]
        assert errors[0].startswith("keras-fcn: error: ")
        return errors[0]

    @pytest.mark.gate
    def test_weights_of_one_model(self, world, run, tmp_path, capsys):
        addresses = dict.fromkeys(world.answers, CLOSED)
        (run.folder / "home/keras_fcn/pascal_voc-fcn16s.weights.h5").rename(tmp_path / "away")
        with released_at(addresses, world, run.folder / "home"):
            assert main(["reproduce", "pascal_voc", "--data-dir", str(tmp_path / "data")]) == 1
        (tmp_path / "away").rename(run.folder / "home/keras_fcn/pascal_voc-fcn16s.weights.h5")
        error = self.error_of(capsys)
        assert "weights='pascal_voc' must be downloaded" in error
        assert f"{CLOSED}/fcn16s.npz" in error
        assert not (tmp_path / "data").exists()

    @pytest.mark.gate
    def test_data(self, world, run, tmp_path, capsys):
        addresses = dict.fromkeys(world.answers, CLOSED)
        command = ["reproduce", "pascal_voc", "--models", "fcn32s"]
        with released_at(addresses, world, run.folder / "home"):
            assert main([*command, "--data-dir", str(tmp_path / "data")]) == 1
            assert "VOCtrainval_25-May-2011.tar could not be downloaded" in self.error_of(capsys)
            assert main([*command, "--manual-dir", str(tmp_path / "absent")]) == 1
            assert "`manual_dir` must be a folder" in self.error_of(capsys)

    def test_names(self, tmp_path):
        with pytest.raises(ValueError, match="`name` must be one of pascal_voc"):
            reproduce("camvid", data_dir=tmp_path)
        for models in ("fcn8s", [], ["fcn8s", "fcn4s"]):
            with pytest.raises(
                ValueError, match="`models` must be a sequence of fcn32s, fcn16s, fcn8s,"
            ):
                reproduce("pascal_voc", models=models, data_dir=tmp_path)
        with pytest.raises(SystemExit) as exit_:
            main(["reproduce", "pascal_voc", "--models", "fcn4s"])
        assert exit_.value.code == 2


class TestTheTable:
    def test_of_736_images_it_says_nothing_more_and_a_difference_of_zero_has_a_plus(self):
        # Of 1,000,000 pixels 904,810 right: FCN-32s's published accuracy.
        matrix = np.array([[904_810, 95_190], [0, 0]])
        scores = dict(zip(SCORES, np.array(PUBLISHED["fcn32s"]) / 100, strict=True))
        report = Reproduction(
            EXPERIMENTS["pascal_voc"], 736, {"fcn32s": Scores(matrix)}, {"fcn32s": scores}
        )
        lines = report.as_text().splitlines()
        assert lines[2].split() == ["pixel", "accuracy", "90.4810", "90.4810", "+0.0000"]
        assert len(lines) == 2 + 4 + 3
        assert "736 images" in lines[-3]

    def test_seg11valid_has_736_names(self):
        names = (builder.Path(builder.__file__).with_name("seg11valid.txt")).read_text().split()
        assert len(set(names)) == EXPERIMENTS["pascal_voc"].num_images

    def test_the_command_takes_every_table_and_every_model(self):
        for name, experiment in EXPERIMENTS.items():
            arguments = ["reproduce", name, "--models", *experiment.models]
            assert build_parser().parse_args(arguments).models == list(experiment.models)
