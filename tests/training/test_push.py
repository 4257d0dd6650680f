"""`keras-fcn push`: a tiny run goes to a stand-in for the Hub, by real requests, and comes back."""

import json
import os

import hub_server
import numpy as np
import pytest
from helpers import NARROW_FILTERS, write_pairs
from huggingface_hub import ModelCard
from huggingface_hub.repocard_data import model_index_to_eval_results

from keras_fcn import FCN32s
from keras_fcn.cli import main
from keras_fcn.data import label_space_of
from keras_fcn.label_spaces import from_file
from keras_fcn.training import Recipe, train
from keras_fcn.training.model_card import model_card
from keras_fcn.training.push import push, write_published
from keras_fcn.training.run import Run, load_fcn
from keras_fcn.training.run_config import read_config
from keras_fcn.training.run_writer import RunWriter

pytestmark = [
    pytest.mark.any_backend,
    pytest.mark.filterwarnings("ignore:.*random initial values, not VGG-16's:UserWarning"),
    # huggingface_hub 2.4 uploads through Git LFS with an argument that its HTTP client deprecates.
    pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning"),
]

NETWORK = {"padding": "same", "fc_units": 4, "filters": NARROW_FILTERS}
FILES = ["README.md", "best.keras", "classes.toml", "metrics.csv", "recipe.toml", "scores.json"]
REPO = "owner/tiny"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    images, labels = write_pairs(folder / "train", "ab")
    val_images, val_labels = write_pairs(folder / "val", "c", seed=1)
    recipe = Recipe(
        images=str(images),
        labels=str(labels),
        val_images=str(val_images),
        val_labels=str(val_labels),
        num_classes=3,
        ignore_class=255,
        model="fcn32s",
        epochs=1,
        **NETWORK,
    )
    return train(recipe, folder / "tiny", name="pairs")


@pytest.fixture(scope="module")
def folder(run, tmp_path_factory):
    """What a dry run writes."""
    folder = tmp_path_factory.mktemp("dry") / "run"
    command = ["push", str(run.path), f"hf://{REPO}", "--dry-run", str(folder)]
    assert main(command) == 0
    assert sorted(path.name for path in folder.iterdir()) == FILES
    return folder


@pytest.fixture
def server(tmp_path):
    with hub_server.hub_of_this_process(tmp_path / "cache") as server:
        yield server


class TestPush:
    def test_round_trip(self, run, server, capsys):
        assert main(["push", str(run.path), f"hf://{REPO}", "--license", "cc-by-4.0"]) == 0
        address = capsys.readouterr().out.strip()
        repository = server.repositories[REPO]
        assert address == f"hf://{REPO}/best.keras@{repository.branches['main']}"
        assert sorted(repository.commits[repository.branches["main"]]) == [".gitattributes", *FILES]
        assert (len(repository.messages), repository.lfs) == (1, {"best.keras"})
        assert not repository.private
        image = np.random.default_rng(0).integers(0, 256, (1, 33, 40, 3), "uint8")
        model = FCN32s(3, weights=address, **NETWORK)
        expected = load_fcn(run.best_model_path).predict(image, verbose=0)
        assert np.ptp(expected) > 0
        np.testing.assert_array_equal(model.predict(image, verbose=0), expected)

    def test_a_private_repository_on_a_branch(self, run, server):
        address = push(run.path, f"hf://{REPO}", revision="new", private=True)
        repository = server.repositories[REPO]
        assert repository.private
        assert address.endswith(repository.branches["new"])
        assert list(repository.commits[repository.branches["main"]]) == [".gitattributes"]

    def test_a_public_repository_is_not_taken_for_a_private_one(self, run, server):
        push(run.path, f"hf://{REPO}")
        with pytest.raises(ValueError, match="but owner/tiny exists and is public"):
            push(run.path, f"hf://{REPO}", private=True)
        assert len(server.repositories[REPO].messages) == 1

    @pytest.mark.parametrize(
        ("part", "status", "sentence"),
        [
            ("/api/repos/create", 403, "must be a repository that your token may write to"),
            ("/objects/", 403, "Received: status 403"),
            ("/commit/", 401, "Set HF_TOKEN to a token with write access; nothing was uploaded"),
            ("/commit/", 418, "its commit was not made: status 418"),
        ],
    )
    def test_a_refusal_leaves_no_commit(self, run, server, capsys, part, status, sentence):
        server.fails[part] = status
        assert main(["push", str(run.path), f"hf://{REPO}"]) == 1
        captured = capsys.readouterr()
        assert sentence in captured.err.strip().splitlines()[-1]
        assert captured.out == ""
        assert not getattr(server.repositories.get(REPO), "messages", [])

    def test_without_a_token_nothing_is_asked(self, run, server, monkeypatch):
        monkeypatch.delenv("HF_TOKEN")
        monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", os.devnull)
        with pytest.raises(PermissionError, match="HF_TOKEN must be a token that may write"):
            push(run.path, f"hf://{REPO}")
        assert not server.asked

    def test_what_cannot_be_pushed(self, run, server, tmp_path):
        for address in ("owner/tiny", "hf://tiny", "hf://owner/tiny/best.keras", "hf://-a/b"):
            with pytest.raises(ValueError, match=r"REPO must be hf://OWNER/REPO\. Received: "):
                push(run.path, address)
        unfinished = tmp_path / "unfinished"
        unfinished.mkdir()
        for name in ("config.toml", "best.keras"):
            (unfinished / name).write_bytes((run.path / name).read_bytes())
        with pytest.raises(ValueError, match="Finish it with `keras-fcn train --resume"):
            push(unfinished, f"hf://{REPO}")
        with pytest.raises(FileNotFoundError, match="a folder written by"):
            push(tmp_path, f"hf://{REPO}")
        assert not server.asked


class TestFiles:
    def test_the_card_is_read_by_the_hub(self, run, folder):
        card = ModelCard.load(folder / "README.md")
        assert (card.data.license, card.data.library_name) == ("unknown", "keras")
        assert card.data.pipeline_tag == "image-segmentation"
        assert "semantic-segmentation" in card.data.tags
        name, results = model_index_to_eval_results(card.data.to_dict()["model-index"])
        assert name == "pairs"
        scores = run.image_scores()
        expected = {"mean_iou": scores.mean_iou, "pixel_accuracy": scores.pixel_accuracy}
        found = {result.metric_type: result.metric_value for result in results}
        assert len(found) == 4
        for metric, value in expected.items():
            assert found[metric] == pytest.approx(value, abs=1e-6)
        assert {result.dataset_name for result in results} == {"own images"}
        assert f"keras-fcn predict hf://{REPO}/best.keras@REVISION" in card.text
        command = "keras-fcn train recipe.toml --images IMAGES --labels LABELS --val-images"
        assert command in card.text
        assert "The model takes RGB images of every size" in card.text
        assert "| CPU cores |" in card.text

    def test_the_settings_train_again_and_tell_no_path(self, run, folder):
        name, recipe = read_config(folder / "recipe.toml")
        assert (name, recipe.images, recipe.filters) == ("pairs", None, NARROW_FILTERS)
        for path in folder.iterdir():
            assert str(run.path.parent).encode() not in path.read_bytes()

    def test_classes_and_scores(self, run, folder):
        assert from_file(folder / "classes.toml") == run.label_space()
        scores = json.loads((folder / "scores.json").read_text())
        assert scores["mean_iou"] == pytest.approx(run.image_scores().mean_iou, abs=1e-6)
        iou = run.image_scores().class_iou
        for value, expected in zip(scores["class_iou"].values(), iou, strict=True):
            assert np.isnan(expected) if value is None else abs(value - expected) < 1e-6

    def test_a_folder_that_exists_is_not_replaced(self, run, folder):
        with pytest.raises(FileExistsError, match="`folder` must be a new folder"):
            write_published(run.path, f"hf://{REPO}", folder)

    @pytest.mark.parametrize(
        ("license", "fields"),
        [
            ("apache-2.0", {"license": "apache-2.0"}),
            ("As CamVid", {"license": "other", "license_name": "As CamVid"}),
        ],
    )
    def test_licences(self, run, tmp_path, license, fields):
        write_published(run.path, f"hf://{REPO}", tmp_path / "out", license=license)
        data = ModelCard.load(tmp_path / "out" / "README.md").data.to_dict()
        assert {name: data[name] for name in data if "license" in name} == fields


def test_a_run_without_an_environment_states_its_versions(tmp_path):
    (tmp_path / "config.toml").write_text('keras_fcn = "0"\nkeras = "3"\nbackend = "jax"\n')
    versions = {"keras_fcn": "0", "keras": "3", "backend": "jax"}
    assert Run(tmp_path).environment() == versions


@pytest.mark.parametrize(
    ("modalities", "command", "images"),
    [
        (("hha",), "predict hf://a/b/best.keras@REVISION photo.jpg", "size:\nHHA in [0, 255]."),
        (
            ("image", "depth"),
            "evaluate hf://a/b/best.keras@REVISION nyudv2",
            "size:\nRGB in [0, 255] and depth in millimetres.",
        ),
    ],
)
def test_the_card_says_which_images_a_model_of_modalities_takes(
    tmp_path, modalities, command, images
):
    recipe = Recipe(data="nyudv2", modalities=modalities, model="fcn32s")
    run = RunWriter(tmp_path / "run")
    run.create("nyud", recipe, label_space_of("nyudv2"))
    card = model_card(run, "a/b")
    assert f"keras-fcn {command}\n" in card
    assert f"The model takes images of every {images}\n" in card
