"""What can be wrong with a file to write is found before the work of a command."""

import os
from pathlib import Path

import pytest
from cli.command_line import error_of, without_duplicates

from keras_fcn.cli import main

pytestmark = pytest.mark.any_backend


@pytest.fixture
def commands(data):
    """The commands that write a picture or page, without its file; models and runs are absent."""
    folders = ["--images", str(data / "images"), "--labels", str(data / "labels")]
    classes = ["--num-classes", "3", "--ignore-class", "255"]
    absent = str(data / "absent")
    return {
        "check": ["data", "check", str(data), *classes, "--chart"],
        "preview": ["data", "preview", str(data), *classes, "--out"],
        "errors": ["data", "errors", absent, "--out"],
        "compare": ["compare", absent, "--out"],
        "demo": ["demo", "--out"],
        "evaluate": ["evaluate", absent, *folders, "--confusion"],
        "lr-find": ["lr-find", *folders, *classes, "--model", "fcn32s", "--out"],
        "field": ["receptive-field", absent, "--image", str(data / "images/b.png"), "--chart"],
    }


PICTURES = ["check", "preview", "errors", "demo", "evaluate", "lr-find", "field"]


@pytest.mark.parametrize("name", [*PICTURES, "compare"])
def test_the_folder_must_exist(commands, name, data, capsys):
    *command, option = commands[name]
    out = data / "no folder" / "out.png"
    assert main([*command, option, str(out)]) == 1
    assert f"{option} must lie in an existing folder. Received: {out}." in error_of(capsys)


@pytest.mark.parametrize("name", [*PICTURES, "compare"])
def test_tilde_is_the_home_folder_also_where_shells_leave_it(
    commands, name, data, capsys, monkeypatch
):
    monkeypatch.setenv("HOME", str(data))
    *command, option = commands[name]
    assert main([*command, f"{option}=~/no folder/out.png"]) == 1
    out = data / "no folder" / "out.png"
    assert f"{option} must lie in an existing folder. Received: {out}." in error_of(capsys)


def test_tilde_is_the_home_folder_of_files_that_are_read_too(data, capsys, monkeypatch):
    monkeypatch.setenv("HOME", str(data))
    classes = ["--num-classes", "3", "--ignore-class", "255"]
    main(["data", "check", "~/", *classes, "--chart=~/chart.png"])
    capsys.readouterr()
    assert (data / "chart.png").is_file()
    settings = ["images=~/images", "labels=~/labels", "weights=~/absent.npz"]
    options = [text for setting in settings for text in ("--set", setting)]
    assert main(["train", *options, *classes, "--out=~/run"]) == 1
    assert f"Received: {data}/absent.npz." in error_of(capsys)


@pytest.mark.parametrize("name", PICTURES)
@pytest.mark.parametrize("file", ["out.xyz", "images"])
def test_the_suffix_must_be_that_of_a_picture(commands, name, file, data, capsys):
    *command, option = commands[name]
    assert main([*command, option, str(data / file)]) == 1
    assert f"{option} must end in a picture's suffix, .png. Received: " in error_of(capsys)


@pytest.mark.parametrize("name", [*PICTURES, "compare"])
def test_a_folder_is_not_replaced(commands, name, data, capsys):
    *command, option = commands[name]
    (data / "folder.png").mkdir()
    assert main([*command, option, str(data / "folder.png")]) == 1
    assert f"{option} must be a file that can be written. Received: " in error_of(capsys)


@pytest.mark.parametrize("name", ["check", "preview", "evaluate", "field"])
def test_an_image_is_not_replaced(commands, name, data, capsys):
    *command, option = commands[name]
    image = data / "images/b.png"
    before = image.read_bytes()
    assert main([*command, option, str(image)]) == 1
    assert f"{option} must be elsewhere: {image} would be overwritten." in error_of(capsys)
    assert image.read_bytes() == before


@pytest.mark.parametrize("option", ["--out", "--save-predictions"])
def test_a_file_is_no_folder(option, data, capsys):
    images, labels = str(data / "images"), str(data / "labels")
    command = ["predict", str(data / "absent"), images]
    if option == "--save-predictions":
        command = ["evaluate", str(data / "absent"), "--images", images, "--labels", labels]
    file = data / "file"
    file.write_text("")
    assert main([*command, option, str(file)]) == 1
    assert f"{option} must be a folder. Received: {file}, a file." in error_of(capsys)
    assert main([*command, option, str(file / "a" / "b")]) == 1
    assert f"{option} must be a folder that can be written. Received: {file}" in error_of(capsys)


def test_a_folder_without_permission_is_found_before_the_model(data, capsys, monkeypatch):
    # A superuser, as in containers, may write everywhere.
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != data)
    command = ["predict", str(data / "absent"), str(data / "images"), "--out"]
    for out in (data, data / "a" / "b"):
        assert main([*command, str(out)]) == 1
        reason = f"--out must be a folder that can be written. Received: {out}."
        assert reason in error_of(capsys)


@pytest.mark.parametrize(
    ("command", "name"),
    [
        (["predict", "camvid", ""], "images"),
        (["predict", "camvid", "a.png", "--out", ""], "--out"),
        (["data", "check", ""], "folders"),
        (["evaluate", "camvid", "--images", "", "--labels", "b"], "--images"),
    ],
)
def test_an_empty_name_is_not_the_current_folder(command, name, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(command)
    assert stopped.value.code == 2
    assert f"{name} must not be empty" in capsys.readouterr().err


@pytest.mark.parametrize("as_json", [False, True])
def test_a_report_is_printed_and_the_old_chart_stays_if_it_cannot_be_drawn(
    commands, data, as_json, capsys, monkeypatch
):
    def fails(figure, path, **options):
        path.write_bytes(b"half")
        raise OSError("No space left on device")

    without_duplicates(data)
    chart = data / "chart.png"
    *check, option = [*commands["check"][:-1], *["--json"] * as_json, "--chart"]
    assert main(check) == 0
    report = capsys.readouterr().out
    chart.write_bytes(b"old")
    monkeypatch.setattr("matplotlib.figure.Figure.savefig", fails)
    assert main([*check, option, str(chart)]) == 1
    printed = capsys.readouterr()
    assert printed.out == report
    assert "No space left on device" in printed.err.splitlines()[-1]
    assert chart.read_bytes() == b"old"
