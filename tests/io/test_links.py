"""A symbolic link that leads nowhere, such as one to a disk that is not mounted, is named."""

import os

import pytest
from cli.command_line import error_of
from helpers import write_pairs

from keras_fcn.cli import main
from keras_fcn.data import read_image, read_label_map
from keras_fcn.export import export
from keras_fcn.io.links import check_links

pytestmark = pytest.mark.any_backend


@pytest.fixture
def lost(tmp_path):
    """A link to a folder that is not there."""
    (tmp_path / "disk").symlink_to(tmp_path / "unmounted")
    return tmp_path / "disk"


def sentence(link):
    return f"{link} must be a link to what exists. Received: a link to {os.readlink(link)}."


def test_links_to_what_exists_pass(lost):
    lost.with_name("unmounted").mkdir()
    check_links(lost)
    check_links(lost / "absent")


@pytest.mark.parametrize("read", [read_image, read_label_map])
def test_of_a_file_to_read(read, lost):
    for path in (lost, lost / "a.png"):
        with pytest.raises(FileNotFoundError) as error:
            read(path)
        assert str(error.value) == sentence(lost)


def test_of_a_folder_to_export_to_before_the_model_is_opened(lost):
    with pytest.raises(FileNotFoundError) as error:
        export("absent", lost, format="saved_model")
    assert str(error.value) == sentence(lost)


@pytest.mark.parametrize("below", [".", "first"])
@pytest.mark.parametrize(
    "command",
    [
        ["predict", "absent", "images", "--out"],
        ["evaluate", "absent", "--images", "images", "--labels", "labels", "--save-predictions"],
        ["train", "--images", "images", "--labels", "labels", "--num-classes", "3", "--out"],
        ["data", "import", "masks", "labels", "--images", "images", "--classes", "a,b,c"],
    ],
)
def test_of_a_folder_to_write(command, below, lost, tmp_path, capsys, monkeypatch):
    write_pairs(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert main([*command, str(lost / below)]) == 1
    assert error_of(capsys).endswith(f"error: {sentence(lost)}")


def test_of_an_image_in_a_folder_to_predict_in_tiles(lost, tmp_path, capsys):
    images, _ = write_pairs(tmp_path)
    link = images / "z.tif"
    link.symlink_to(lost.with_name("unmounted"))
    out = str(tmp_path / "out")
    assert main(["predict", "absent", str(images), "--out", out, "--tile", "500"]) == 1
    assert error_of(capsys).endswith(f"error: {sentence(link)}")
