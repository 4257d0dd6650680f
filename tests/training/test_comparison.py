import json
import re

import pytest
from training.small_runs import small_recipe

from keras_fcn.cli import main
from keras_fcn.training import trainer
from keras_fcn.training.recipe import replace
from keras_fcn.training.run import Run

pytestmark = [
    pytest.mark.any_backend,
    pytest.mark.filterwarnings("ignore:.*random initial values:UserWarning"),
    pytest.mark.usefixtures("three_layers", "blank_plots"),
]


@pytest.fixture(scope="class")
def runs(three_layers, blank_plots, tmp_path_factory):
    """Two runs that differ in two settings, and one that was validated on other images."""
    folder = tmp_path_factory.mktemp("runs")
    recipe = small_recipe(folder)
    slow = replace(recipe, learning_rate=1e-6, jitter=True, epochs=1)
    trainer.train(replace(recipe, learning_rate=0.03), folder / "fast")
    trainer.train(slow, folder / "slow")
    others = {"val_images": recipe.images, "val_labels": recipe.labels}
    trainer.train(replace(slow, **others), folder / "other")
    return folder


class TestCompare:
    def test_two_runs_side_by_side(self, runs, tmp_path, monkeypatch, capsys):
        monkeypatch.chdir(runs)
        page = tmp_path / "page.html"
        assert main(["compare", "fast", "slow", "other", "--out", str(page)]) == 0
        printed = capsys.readouterr().out
        best = max(row["val_mean_iou"] for row in Run("fast").history())
        assert re.search(rf"^fast +\d +{best:.4f} +\S+ +– +– +–$", printed, re.MULTILINE)
        interval = r"[+-]0\.\d{4} to [+-]0\.\d{4}"
        assert re.search(rf"^slow .* [+-]0\.\d{{4}} +{interval} +\d+\.\d %$", printed, re.MULTILINE)
        assert re.search(r"^learning_rate +0\.03 +1e-06 +1e-06$", printed, re.MULTILINE)
        assert re.search(r"^jitter +False +True +True$", printed, re.MULTILINE)
        # Other images give no difference, but scores.
        assert re.search(r"^other .* 0\.\d{4} +– +– +–$", printed, re.MULTILINE)
        remark = "other was validated on other images or label maps than fast, "
        assert sum(line.startswith(remark) for line in printed.splitlines()) == 1
        assert "slow was" not in printed
        assert "\nweight_decay" not in printed
        text = page.read_text()
        assert "data:image/png" in text
        for each in ("fast", "slow", remark, "learning_rate", "class 2", "paired bootstrap"):
            assert each in text

    def test_json_with_the_scores_of_evaluate(self, runs, tmp_path, capsys):
        names = [str(runs / "slow"), str(runs / "fast")]
        page = str(tmp_path / "page.html")
        assert main(["compare", *names, "--json", "--out", page]) == 0
        found = json.loads(capsys.readouterr().out)
        recipe = Run(runs / "fast").recipe()[1]
        arguments = ["--images", recipe.val_images, "--labels", recipe.val_labels, "--json"]
        main(["evaluate", str(runs / "fast"), *arguments])
        expected = json.loads(capsys.readouterr().out)
        fast = found["runs"][1]
        assert fast["scores"]["mean_iou"] == pytest.approx(expected["scores"]["mean_iou"])
        assert fast["difference"]["value"] == pytest.approx(
            fast["scores"]["mean_iou"] - found["runs"][0]["scores"]["mean_iou"]
        )
        assert fast["difference"]["low"] <= fast["difference"]["high"]
        assert found["settings"]["epochs"] == [1, 2]

    def test_a_run_without_stored_scores_is_evaluated(self, runs, tmp_path, capsys):
        file, page = runs / "fast" / "image_scores.npz", str(tmp_path / "page.html")
        arguments = ["compare", str(runs / "fast"), str(runs / "slow"), "--json", "--out", page]
        main(arguments)
        expected = capsys.readouterr().out
        stored = file.read_bytes()
        file.unlink()
        main(arguments)
        assert capsys.readouterr().out == expected
        file.write_bytes(stored)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["fast"], "RUN must be given at least twice"),
            (["fast", "gone"], "Received: gone."),
        ],
    )
    def test_errors(self, runs, monkeypatch, capsys, arguments, message):
        monkeypatch.chdir(runs)
        assert main(["compare", *arguments]) == 1
        assert message in capsys.readouterr().err
        assert not list(runs.glob("*.html"))
