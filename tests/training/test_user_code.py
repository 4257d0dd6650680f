"""Augmentation that a user passes to a run."""

import functools
from pathlib import Path

import albumentations
import keras
import numpy as np
import pytest
from PIL import Image
from training.small_runs import Stop, arrays, assert_equal, small_recipe

from keras_fcn.cli import main
from keras_fcn.data.transforms import class_mix
from keras_fcn.training import trainer
from keras_fcn.training.recipe import replace

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*random initial values:UserWarning"),
    pytest.mark.usefixtures("three_layers", "blank_plots"),
]
train = functools.partial(trainer.train, keep_state=True)


@pytest.fixture
def recipe(tmp_path):
    return replace(small_recipe(tmp_path), flip=False, epochs=1, learning_rate=1e-2)


def mirrored(image, label_map):
    return image[:, ::-1], label_map[:, ::-1]


def mirror_files(folder):
    for path in Path(folder).iterdir():
        pixels = np.asarray(Image.open(path))
        Image.fromarray(pixels[:, ::-1]).save(path)


@pytest.mark.any_backend
@pytest.mark.parametrize(
    "transform", [mirrored, albumentations.HorizontalFlip(p=1)], ids=["function", "Albumentations"]
)
def test_a_run_with_a_transform_is_that_of_transformed_files(recipe, tmp_path, transform):
    run = train(recipe, tmp_path / "transformed", transforms=[transform])
    for folder in (recipe.images, recipe.labels):
        mirror_files(folder)
    assert_equal(arrays(run), arrays(train(recipe, tmp_path / "files")))


def test_layers_of_keras_and_transforms_of_this_package_follow_those_of_the_recipe(
    recipe, tmp_path
):
    seen = []

    def sees(image, label_map):
        seen.append(label_map.shape)
        return image, label_map

    layer = keras.layers.RandomFlip("horizontal", seed=1)
    train(replace(recipe, crop=(4, 6)), tmp_path / "run", transforms=[class_mix([1]), layer, sees])
    # Some of the next epoch are read ahead.
    assert len(seen) >= 3
    assert set(seen) == {(4, 6)}


@pytest.mark.any_backend
def test_a_run_resumes_with_the_transforms_it_was_begun_with(recipe, tmp_path, capsys):
    def interrupts(epoch, logs):
        if epoch == 1:
            raise Stop

    interrupting = keras.callbacks.LambdaCallback(on_epoch_begin=interrupts)
    with pytest.raises(Stop):
        train(
            replace(recipe, epochs=2),
            tmp_path / "run",
            callbacks=[interrupting],
            transforms=[mirrored],
        )
    assert main(["train", "--resume", str(tmp_path / "run")]) == 1
    assert "was begun in Python with callbacks: LambdaCallback. R" in capsys.readouterr().err
    with pytest.raises(ValueError, match=r"with transforms: mirrored\. Received: none\."):
        trainer.resume(tmp_path / "run", callbacks=[keras.callbacks.LambdaCallback()])
    run = trainer.resume(
        tmp_path / "run", callbacks=[keras.callbacks.LambdaCallback()], transforms=[mirrored]
    )
    assert [row["epoch"] for row in run.history()] == [1, 2]
