import csv

import numpy as np
import pytest
from PIL import Image
from training.test_run import files_of_at_most

from keras_fcn.cli import main
from keras_fcn.training import Recipe, trainer
from keras_fcn.training.recipe import replace
from keras_fcn.training.run_writer import RunWriter
from keras_fcn.training.splits import open_splits

pytestmark = [
    pytest.mark.any_backend,
    pytest.mark.filterwarnings("ignore:.*random initial values:UserWarning"),
    pytest.mark.usefixtures("three_layers", "blank_plots"),
]
VIDEOS = {"sun": 4, "rain": 3, "snow": 3, "fog": 2}


@pytest.fixture
def recipe(tmp_path):
    """Frames of four videos; those of sun and of fog show the class 2, half of each."""
    rng = np.random.default_rng(0)
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
    for video, count in VIDEOS.items():
        for frame in range(count):
            label_map = np.zeros((8, 10), "uint8")
            label_map[:4] = 2 if video in ("sun", "fog") else 1
            image = rng.integers(0, 256, (8, 10, 3), "uint8")
            Image.fromarray(label_map).save(tmp_path / "labels" / f"{video}_{frame}.png")
            Image.fromarray(image).save(tmp_path / "images" / f"{video}_{frame}.png")
    return Recipe(
        images=str(tmp_path / "images"),
        labels=str(tmp_path / "labels"),
        num_classes=3,
        model="fcn32s",
        epochs=1,
        group_by="^(.+)_",
        val_share=0.4,
    )


def videos(split):
    return {name.partition("_")[0] for name in split.names()}


def test_whole_videos_are_held_out_and_the_run_lists_them(recipe, tmp_path):
    train_split, val_split = open_splits(recipe)
    assert videos(train_split) | videos(val_split) == VIDEOS.keys()
    assert not videos(train_split) & videos(val_split)
    # Both splits hold class 2, of which one video each is left.
    assert len(videos(val_split) & {"sun", "fog"}) == 1
    run = trainer.train(recipe, tmp_path / "run")
    with (run.path / "split.csv").open(newline="") as file:
        rows = [tuple(row.values()) for row in csv.DictReader(file)]
    names = [("train", n) for n in train_split.names()]
    assert rows == names + [("validation", n) for n in val_split.names()]
    assert "val_mean_iou" in run.history()[0]


def test_a_run_that_ended_before_the_list_was_written_resumes_with_it(
    recipe, tmp_path, monkeypatch
):
    write_split = RunWriter.write_split

    def on_a_full_disk(*arguments):
        with files_of_at_most(8):
            write_split(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(RunWriter, "write_split", on_a_full_disk)
        with pytest.raises(OSError, match=r"split\.csv cannot be written"):
            trainer.train(recipe, tmp_path / "run")
    assert not (tmp_path / "run" / "split.csv").exists()
    run = trainer.resume(tmp_path / "run")
    with (run.path / "split.csv").open(newline="") as file:
        listed = {row["image"] for row in csv.DictReader(file)}
    assert listed == {path.name for path in (tmp_path / "images").iterdir()}


def test_every_image_is_held_out_in_one_fold(recipe):
    recipe = replace(recipe, val_share=None, folds=4, fold=1)
    held_out = [open_splits(replace(recipe, fold=fold))[1] for fold in (1, 2, 3, 4)]
    assert sorted(name for split in held_out for name in split.names()) == sorted(
        f"{video}_{frame}.png" for video, count in VIDEOS.items() for frame in range(count)
    )
    assert all(len(videos(split)) == 1 for split in held_out)


def test_names_that_look_like_frames_are_a_warning(recipe):
    with pytest.warns(UserWarning, match=r"fog_0 and fog_1|sun_0 and sun_1.*--group-by"):
        open_splits(replace(recipe, group_by=None))


def test_a_share_that_whole_groups_cannot_give_is_a_warning(recipe):
    # The smallest video has 2 of 12 images, 17 %.
    with pytest.warns(UserWarning, match="because each group of `group_by` stays") as warned:
        _, val_split = open_splits(replace(recipe, val_share=0.1))
    number = sum(VIDEOS[video] for video in videos(val_split))
    expected = f"{number} of 12 images are held out, {100 * number / 12:.0f}% instead of 10%, "
    assert str(warned[0].message).startswith(expected)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"val_images": "a", "val_labels": "b"}, "`val_share` must be none with `val_images`"),
        ({"folds": 3, "fold": 1}, "`folds` must be none with `val_share`"),
        ({"val_share": None, "folds": 3}, "`fold` must be 1 to 3, the number of `folds`"),
        ({"val_share": None, "folds": 3, "fold": 4}, "`fold` must be 1 to 3"),
        ({"val_share": None, "fold": 1, "group_by": None}, "`fold` must be none without `folds`"),
        ({"val_share": None}, "`group_by` must be none without `val_share` or `folds`"),
        ({"val_share": 1.0}, "`val_share` must be"),
        ({"data": "camvid", "images": None, "labels": None, "num_classes": None}, "data set by na"),
    ],
)
def test_settings_that_contradict_each_other(recipe, changes, message):
    with pytest.raises(ValueError, match=message):
        replace(recipe, **changes)


def test_too_few_groups_are_an_error_and_no_folder(recipe, tmp_path, capsys):
    arguments = ["train", "--images", recipe.images, "--labels", recipe.labels]
    arguments += ["--num-classes", "3", "--folds", "5", "--fold", "2", "--group-by", "^(.+)_"]
    assert main([*arguments, "--out", str(tmp_path / "run")]) == 1
    assert "At least 5 groups of images are needed for 5 parts." in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
