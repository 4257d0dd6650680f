"""`keras-fcn predict` of videos and of folders of frames."""

import re
import shutil
import warnings
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from cli.command_line import error_of
from data.test_video import write_at_times
from PIL import Image

from keras_fcn.cli import main
from keras_fcn.data.video import VideoWriter, read_frames
from keras_fcn.inference import predict_label_map
from keras_fcn.label_spaces import PASCAL_VOC
from keras_fcn.visualization import overlay


def test_a_video_gives_label_maps_of_its_frames_and_a_video_of_overlays(
    caffemodel, tmp_path, capsys
):
    shades = np.arange(40, 240, 40, "uint8")
    frames = [np.full((32, 40, 3), shade) for shade in shades]
    video = tmp_path / "ride.avi"
    writer = cv2.VideoWriter(str(video), cv2.VideoWriter_fourcc(*"MJPG"), 10, (40, 32))
    for frame in frames:
        writer.write(frame)
    writer.release()
    out = tmp_path / "out"
    options = ["--fps", "5", "--colour-blind", "--classes", "--out", str(out)]
    assert main(["predict", caffemodel.path, str(video), *options]) == 0
    names = ["000001.png", "000002.png", "000003.png"]
    assert sorted(path.name for path in (out / "ride").iterdir()) == names
    for name, frame in zip(names, read_frames(video, 5), strict=True):
        label_map = np.asarray(Image.open(out / "ride" / name))
        np.testing.assert_array_equal(label_map, predict_label_map(caffemodel.source, frame))
    palette = Image.open(out / "ride" / names[0]).getpalette()
    assert tuple(palette[3:6]) == (230, 159, 0)  # Orange, the second one of Okabe and Ito.
    overlays = cv2.VideoCapture(str(out / "ride_overlay.mp4"))
    assert overlays.get(cv2.CAP_PROP_FPS) == 5
    assert overlays.get(cv2.CAP_PROP_FRAME_COUNT) == 3
    assert overlays.get(cv2.CAP_PROP_FRAME_HEIGHT) > 32  # The legend is below.
    assert "ride/000003: " in capsys.readouterr().out


@pytest.mark.any_backend
def test_frames_of_a_folder_become_a_video_in_the_order_of_their_numbers(caffemodel, tmp_path):
    folder = tmp_path / "frames"
    folder.mkdir()
    for number in (9, 10, 8):
        Image.new("RGB", (40, 32), (70 * (number - 7), 0, 0)).save(folder / f"f{number}.png")
    out = tmp_path / "out"
    options = ["--fps", "12", "--no-legend", "--out", str(out)]
    assert main(["predict", caffemodel.path, str(folder), *options]) == 0
    assert {path.name for path in (out / "frames").iterdir()} == {
        "f8.png",
        "f9.png",
        "f10.png",
    }
    overlays = cv2.VideoCapture(str(out / "frames_overlay.mp4"))
    shown = [overlays.read()[1] for _ in range(3)]
    assert overlays.get(cv2.CAP_PROP_FPS) == 12
    assert [frame.shape for frame in shown] == [(32, 40, 3)] * 3
    expected = []
    for name in ("f8.png", "f9.png", "f10.png"):
        label_map = np.asarray(Image.open(out / "frames" / name))
        expected.append(overlay(np.asarray(Image.open(folder / name)), label_map, PASCAL_VOC))
    for number, frame in enumerate(shown):
        distances = [abs(frame[..., ::-1].astype(int) - each).mean() for each in expected]
        assert np.argmin(distances) == number


@pytest.mark.any_backend
def test_overlays_are_shown_when_their_frames_are(caffemodel, tmp_path):
    times, frames = [0, 40, 80, 480, 880], np.zeros((5, 32, 40, 3), "uint8")
    write_at_times(tmp_path / "ride.mkv", frames, times)
    out = tmp_path / "out"
    command = ["predict", caffemodel.path, str(tmp_path / "ride.mkv"), "--out", str(out)]
    for options, expected in (([], times), (["--fps", "5"], [0, 480, 880])):
        shutil.rmtree(out, ignore_errors=True)
        assert main([*command, *options]) == 0
        with av.open(str(out / "ride_overlay.mp4")) as container:
            shown = [round(1000 * frame.time) for frame in container.decode(video=0)]
        assert shown == expected


def write_jpegs(path, pictures):
    """A stream of JPEGs, as of a webcam: no header, and each frame has its own size."""
    with path.open("wb") as file:
        for picture in pictures:
            Image.fromarray(picture).save(file, "JPEG", quality=95)


@pytest.mark.any_backend
def test_frames_that_change_their_size_are_fitted_into_the_first(caffemodel, tmp_path, capsys):
    small = np.full((16, 40, 3), 128, "uint8")
    write_jpegs(tmp_path / "cam.mjpeg", [np.full((32, 40, 3), 128, "uint8"), small])
    out = tmp_path / "out"
    command = ["predict", caffemodel.path, str(tmp_path / "cam.mjpeg"), "--out", str(out)]
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        assert main([*command, "--no-legend"]) == 0
    printed = capsys.readouterr().err
    assert "40x32 pixels. Frames of another size, such as 40x16, are fitted" in printed
    assert f"predicting {tmp_path / 'cam.mjpeg'}: 2\n" in printed  # The number is unknown.
    maps = [np.asarray(Image.open(out / "cam" / f"00000{number}.png")) for number in (1, 2)]
    assert [label_map.shape for label_map in maps] == [(32, 40), (16, 40)]
    first, second = read_frames(out / "cam_overlay.mp4")
    assert first.shape == second.shape == (32, 40, 3)
    assert second[[0, 4, 27, 31]].max() < 20  # Black above and below.
    luma = np.array([0.2126, 0.7152, 0.0722])  # The colours have half the resolution.
    shown, expected = second[8:24] @ luma, overlay(small, maps[1], PASCAL_VOC) @ luma
    assert abs(shown - expected).mean() < abs(shown - expected[::-1]).mean() / 2


@pytest.mark.any_backend
def test_damaged_videos_and_frames_are_left_out_and_named(caffemodel, tmp_path, capsys):
    with VideoWriter(tmp_path / "ride.avi", 10) as writer:
        for _ in range(3):
            writer.add(np.zeros((32, 40, 3), "uint8"))
    whole = (tmp_path / "ride.avi").read_bytes()
    start = whole.index(b"movi")
    stop = whole.index(b"idx1")
    damaged = re.sub(rb"(?s)(00dc....).{40}", rb"\1" + bytes(40), whole[start:stop])
    (tmp_path / "bad.avi").write_bytes(whole[:start] + damaged + whole[stop:])
    frames = tmp_path / "frames"
    frames.mkdir()
    for number in range(3):
        Image.new("RGB", (40, 32)).save(frames / f"{number}.png")
    (frames / "1.png").write_bytes((frames / "1.png").read_bytes()[:-30])
    out = tmp_path / "out"
    inputs = [str(tmp_path / "bad.avi"), str(frames), str(tmp_path / "ride.avi")]
    assert main(["predict", caffemodel.path, *inputs, "--fps", "10", "--out", str(out)]) == 1
    *_, first, second = capsys.readouterr().err.splitlines()
    assert f"keras-fcn: error: {tmp_path / 'bad.avi'} cannot be read as a video" in first
    assert f"keras-fcn: error: {frames / '1.png'} cannot be read as an image" in second
    assert {path.relative_to(out).as_posix() for path in out.rglob("*.*")} == {
        "frames/0.png",
        "frames/2.png",
        "frames_overlay.mp4",
        "ride/000001.png",
        "ride/000002.png",
        "ride/000003.png",
        "ride_overlay.mp4",
    }
    with av.open(str(out / "frames_overlay.mp4")) as container:
        assert [round(10 * frame.time) for frame in container.decode(video=0)] == [0, 2]


@pytest.mark.any_backend
@pytest.mark.parametrize(
    "others",
    [["ride_overlay.mp4"], ["ride/000001.png"], ["ride"], ["../here/ride/000001.png"]],
    ids=str,
)
def test_no_input_is_overwritten_by_a_video(others, tmp_path, monkeypatch, capsys):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    Path("ride").mkdir()
    Image.new("RGB", (8, 8)).save("ride/000001.png")
    for name in ("ride.mp4", "ride_overlay.mp4"):
        with VideoWriter(name, 5) as writer:
            writer.add(np.zeros((8, 8, 3), "uint8"))
    before = {path: path.read_bytes() for path in Path().rglob("*.*")}
    assert main(["predict", "camvid", "ride.mp4", *others, "--out", "."]) == 1
    assert "would be overwritten" in error_of(capsys)
    assert {path: path.read_bytes() for path in Path().rglob("*.*")} == before


@pytest.mark.any_backend
def test_a_video_and_an_image_of_one_output_are_one_sentence(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("photos/ride").mkdir(parents=True)
    Image.new("RGB", (8, 8)).save("photos/ride/000001.png")
    for name in ("ride.mp4", "ride.avi"):
        with VideoWriter(name, 5) as writer:
            writer.add(np.zeros((8, 8, 3), "uint8"))
    for others in (["photos"], ["ride.avi"]):
        assert main(["predict", "camvid", "ride.mp4", *others]) == 1
        assert "Inputs must differ in their names" in error_of(capsys)


@pytest.mark.any_backend
def test_frames_of_two_rates_are_not_mixed(caffemodel, tmp_path, capsys):
    with VideoWriter(tmp_path / "ride.mp4", 10) as writer:
        for _ in range(20):
            writer.add(np.zeros((32, 40, 3), "uint8"))
    out, command = tmp_path / "out", ["predict", caffemodel.path, str(tmp_path / "ride.mp4")]
    for _ in range(2):  # The same frames may be predicted again.
        assert main([*command, "--out", str(out), "--fps", "5"]) == 0
    capsys.readouterr()
    names = [f"{number:06d}.png" for number in range(1, 11)]
    (out / "ride" / "notes 2026.txt").write_text("by hand")
    assert main([*command, "--out", str(out), "--fps", "1"]) == 1
    error = error_of(capsys)
    assert f"or {out / 'ride'} be removed: it holds frames of another prediction" in error
    assert "000010.png" in error
    found = sorted(path.name for path in (out / "ride").iterdir())
    assert found == [*names, "notes 2026.txt"]
    # Fewer surplus frames than headers miscount are found afterwards.
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        assert main([*command, "--out", str(out), "--fps", "4.5"]) == 0
    assert "ride holds files of another prediction: 000010.png.\n" in capsys.readouterr().err


@pytest.mark.any_backend
@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (["a.png", "--fps", "5"], "--fps needs a video or a folder of frames"),
        (["a.mp4", "--fps", "0"], "--fps must be a finite number of at least 0.0001. Received: 0."),
        (["a.mp4", "--fps", "1e-5"], "--fps must be a finite number of at least 0.0001. Received"),
        (
            ["a.mp4", "--fps", "inf"],
            "--fps must be a finite number of at least 0.0001. Received: inf.",
        ),
        (["a.mp4"], "a.mp4 cannot be read as a video"),
        (["empty", "--fps", "5"], "A folder of frames must hold"),
        (["sizes", "--fps", "5"], "The frames of a folder must have one size"),
    ],
    ids=str,
)
def test_what_is_no_sequence_of_frames_is_one_sentence(
    inputs, message, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    for folder in ("empty", "sizes"):
        Path(folder).mkdir()
    for path, size in (("a.png", 8), ("sizes/a.png", 8), ("sizes/b.png", 9)):
        Image.new("RGB", (size, 8)).save(path)
    Path("a.mp4").write_bytes(b"none")
    assert main(["predict", "camvid", *inputs]) == 1
    assert message in error_of(capsys)
    assert not Path("predictions").exists()
