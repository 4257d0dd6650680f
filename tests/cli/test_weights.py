"""`keras-fcn weights` lists what the models take by name."""

import json

import keras
import pytest

import keras_fcn
from keras_fcn.cli import main
from keras_fcn.data import label_space_of
from keras_fcn.training import StagedRecipe
from keras_fcn.training.recipes import RECIPES
from keras_fcn.weights import PUBLISHED_WEIGHTS, registry

pytestmark = pytest.mark.any_backend


def test_it_lists_every_name_with_size_score_and_license(capsys):
    assert main(["weights"]) == 0
    printed = capsys.readouterr().out
    assert "camvid: FCN8s, 11 classes, 19.8 million parameters, 35 MB, part of the" in printed
    assert "mean IoU 0.806 on the 101 validation images of CamVid" in printed
    assert "training: python -m benchmarks.camvid, see docs/results/camvid-model.md" in printed
    assert "pascal_voc: FCN32s, 21 classes, 136.2 million parameters, 545 MB, downl" in printed
    assert "mean IoU 0.655 on the 736 images of seg11valid; source: https://github.com/" in printed
    assert "    training: keras-fcn train paper_voc_fcn8s_atonce\n" in printed
    assert printed.count("license: ") == len(PUBLISHED_WEIGHTS)


def test_json_has_the_same(capsys):
    assert main(["weights", "--json"]) == 0
    entries = json.loads(capsys.readouterr().out)
    assert [entry["name"] for entry in entries] == [p.name for p in PUBLISHED_WEIGHTS]
    assert entries[-1]["files"][0]["name"] == "camvid.weights.h5"
    assert entries[-1]["bytes"] == 35_070_994
    assert [entry["name"] for entry in entries if entry["packaged"]] == ["camvid"]


def test_the_registry_in_python_is_that_of_the_command(capsys):
    assert main(["weights", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == registry()


def test_every_recipe_of_the_registry_trains_its_classes():
    for entry in registry():
        if entry["recipe"] is None:
            continue
        recipe = RECIPES[entry["recipe"]]()
        recipes = recipe.stages.values() if isinstance(recipe, StagedRecipe) else [recipe]
        spaces = [label_space_of(each.data) for each in recipes]
        assert {space.class_names for space in spaces} == {tuple(entry["classes"])}
        models = {each.model.replace("_", "") for each in recipes}
        network = entry["model"].partition("(")[0].lower().removeprefix("multimodal")
        assert network in models


def test_every_score_has_a_source():
    for entry in registry():
        assert bool(entry["scores"]) == bool(entry["scores_source"]) == bool(entry["scored_on"])


@pytest.mark.gate
@pytest.mark.parametrize(
    "published",
    [PUBLISHED_WEIGHTS[index] for index in (0, 2, 4, -2, -1)],
    ids=lambda published: f"{published.name}-{published.model_name}",
)
def test_the_number_of_parameters_is_that_of_the_model(published):
    options = {}
    name, _, modalities = published.model_name.partition("(")
    if modalities:
        options["modalities"] = ("image", "hha")
    if published.is_packaged:
        options |= {"fc_units": 384, "fc6_kernel_size": 5}
    # Which gives the variables no values.
    with keras.StatelessScope():
        model = getattr(keras_fcn, name)(published.label_space.num_classes, **options)
    assert model.count_params() == published.parameters
