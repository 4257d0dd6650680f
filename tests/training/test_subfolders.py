import pytest
from helpers import write_pairs

from keras_fcn.training import Recipe
from keras_fcn.training.splits import open_splits

pytestmark = pytest.mark.any_backend


def write_into(tmp_path, subfolder, names):
    """Writes pairs into a subfolder of the folders of all images and of all label maps."""
    for number, folder in enumerate(write_pairs(tmp_path / "new" / subfolder, names)):
        target = tmp_path / ("images", "labels")[number] / subfolder
        target.mkdir(parents=True, exist_ok=True)
        for path in folder.iterdir():
            path.rename(target / path.name)
    return tmp_path / "images", tmp_path / "labels"


def recipe(images, labels, val_images=None, val_labels=None, **settings):
    folders = {"images": images, "labels": labels}
    if val_images is not None:
        folders |= {"val_images": val_images, "val_labels": val_labels}
    folders = {name: str(folder) for name, folder in folders.items()}
    return Recipe(**folders, num_classes=3, ignore_class=255, **settings)


class TestSubfolders:
    def test_names_begin_with_them(self, tmp_path):
        write_into(tmp_path, "oslo", "ab")
        images, labels = write_into(tmp_path, "bern", "ab")
        train, _ = open_splits(recipe(images, labels))
        assert train.names() == ["bern/a.png", "bern/b.png", "oslo/a.png", "oslo/b.png"]
        parts = open_splits(recipe(images, labels, val_share=0.5))
        assert sorted([*parts[0].names(), *parts[1].names()]) == train.names()

    def test_those_of_the_other_split_are_left_out(self, tmp_path):
        write_into(tmp_path, "val", "v")
        images, labels = write_into(tmp_path, ".", "ab")
        inner = images / "val", labels / "val"
        train, val = open_splits(recipe(images, labels, *inner))
        assert (train.names(), val.names()) == (["a.png", "b.png"], ["v.png"])
        train, val = open_splits(recipe(*inner, images, labels))
        assert (train.names(), val.names()) == (["v.png"], ["a.png", "b.png"])

    def test_one_folder_may_be_both_splits(self, tmp_path):
        folders = write_into(tmp_path, "oslo", "ab")
        assert [len(split) for split in open_splits(recipe(*folders, *folders))] == [2, 2]
