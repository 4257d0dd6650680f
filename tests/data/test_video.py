"""Videos, written and read by OpenCV, which is not the library that the package uses."""

import os
import re
import struct
import sys
import warnings
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest
from data.formats.folders import rows

from keras_fcn.data import video

pytestmark = pytest.mark.any_backend


@pytest.fixture
def frames():
    """Ten frames of 48x64 pixels, each a little lighter, with a red corner at the top left."""
    made = np.zeros((10, 48, 64, 3), "uint8")
    made[...] = 20 * np.arange(1, 11)[:, None, None, None]
    made[:, :16, :16] = (255, 0, 0)
    return made


def write_with_opencv(path, frames, fps, codec):
    height, width = frames.shape[1:3]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*codec), fps, (width, height))
    assert writer.isOpened()
    for frame in frames:
        writer.write(frame[..., ::-1])
    writer.release()
    return path


def read_with_opencv(path):
    capture, found = cv2.VideoCapture(str(path)), []
    while (read := capture.read())[0]:
        found.append(read[1][..., ::-1])
    return np.array(found), capture.get(cv2.CAP_PROP_FPS)


def test_all_frames_are_those_that_were_written(tmp_path, frames):
    path = write_with_opencv(tmp_path / "a.avi", frames, 10, "MJPG")
    assert video.read_info(path) == video.VideoInfo(10, 10)
    found = np.array(list(video.read_frames(path)))
    assert found.shape == frames.shape
    assert abs(found[:, 24:].astype(int) - frames[:, 24:]).max() <= 3
    assert abs(found[:, 4, 4].astype(int) - (255, 0, 0)).max() <= 8


@pytest.mark.parametrize("fps", [None, 5])
def test_a_truncated_video_is_a_warning(tmp_path, frames, fps):
    path = write_with_opencv(tmp_path / "a.avi", frames.repeat(4, axis=0), 10, "MJPG")
    data = path.read_bytes()
    path.write_bytes(data[: [found.start() for found in re.finditer(b"\xff\xd8\xff", data)][12]])
    with pytest.warns(UserWarning, match=r"a\.avi seems to be truncated: 12 of the 40 frames"):
        found = list(video.read_frames(path, fps))
    assert len(found) == 12 if fps is None else 6


def test_damaged_frames_are_left_out_with_a_warning(tmp_path, frames):
    path = write_with_opencv(tmp_path / "a.avi", frames, 10, "MJPG")
    data = path.read_bytes()
    starts = [found.start() for found in re.finditer(b"\xff\xd8\xff", data)]
    path.write_bytes(data[: starts[4]] + bytes(starts[5] - starts[4] - 16) + data[starts[5] - 16 :])
    with pytest.warns(
        UserWarning, match=r"a\.avi is damaged and is read without 1 frame, the .* 4 fr"
    ):
        found = list(video.read_frames(path))
    grey = [round(frame[40, 40, 1] / 20) - 1 for frame in found]
    assert grey == [0, 1, 2, 3, 5, 6, 7, 8, 9]


def test_a_truncated_video_whose_last_frame_is_cut_is_both(tmp_path, frames):
    path = str(tmp_path / "a.mp4")  # As a download that stopped: the header is complete.
    with av.open(path, "w", options={"movflags": "+faststart"}) as container:
        stream = container.add_stream("libx264", rate=10)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        stream.options = {"bf": "0"}
        noise = np.random.default_rng(0).integers(0, 256, (40, 48, 64, 3), "uint8")
        for pixels in noise:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    os.truncate(path, os.path.getsize(path) // 2)
    with pytest.warns() as warned:
        count = len(list(video.read_frames(path)))
    assert 10 < count < 30
    damaged, truncated = (str(warning.message) for warning in warned)
    assert f"is damaged and is read without 1 frame, the first one after {count} frames" in damaged
    assert f"truncated: {count} of the 40 frames" in truncated


def test_a_video_of_damaged_frames_alone_is_one_sentence(tmp_path, frames):
    path = write_with_opencv(tmp_path / "a.avi", frames, 10, "MJPG")
    path.write_bytes(re.sub(rb"(?s)(00dc....).{200}", rb"\1" + bytes(200), path.read_bytes()))
    with pytest.raises(ValueError, match=r"a\.avi cannot be read as a video: "):
        list(video.read_frames(path))


def test_frames_of_a_variable_rate_come_with_their_times(tmp_path, frames):
    # Milliseconds as of a phone that takes fewer pictures in the dark.
    times = [0, 33, 67, 100, 200, 300, 433, 600, 1000, 1400]
    path = write_at_times(tmp_path / "a.mkv", frames, times)
    found = list(video.read_timed_frames(path))
    assert [round(1000 * seconds) for seconds, _ in found] == times
    with video.VideoWriter(tmp_path / "b.mp4", 10) as writer:
        for seconds, frame in found:
            writer.add(frame, seconds)
    with av.open(str(tmp_path / "b.mp4")) as container:
        read = [round(1000 * frame.time) for frame in container.decode(video=0)]
        assert container.duration == pytest.approx(1_500_000, abs=1000)
    assert read == times


def write_at_times(path, frames, milliseconds):
    """Writes a video with PyAV; the package's own writer is not involved."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=30)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "bgr0"
        stream.codec_context.time_base = Fraction(1, 1000)
        for frame, time in zip(frames, milliseconds, strict=True):
            picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
            picture.pts, picture.time_base = time, Fraction(1, 1000)
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
    return path


def test_a_frame_less_than_the_header_says_is_no_warning(tmp_path, frames):
    path = write_with_opencv(tmp_path / "a.avi", frames, 10, "MJPG")
    data = path.read_bytes()
    path.write_bytes(data[: data.rindex(b"00dc", 0, data.rindex(b"idx1"))])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(list(video.read_frames(path))) == 9


@pytest.mark.parametrize(
    ("fps", "kept"), [(10, range(10)), (5, range(0, 10, 2)), (4, (0, 3, 5, 8)), (30, range(10))]
)
def test_frames_per_second_keep_the_first_frame_of_each_interval(tmp_path, frames, fps, kept):
    path = write_with_opencv(tmp_path / "a.avi", frames, 10, "MJPG")
    grey = [round(frame[40, 40, 1] / 20) - 1 for frame in video.read_frames(path, fps)]
    assert grey == list(kept)


def test_a_video_of_a_rotated_phone_is_upright(tmp_path, frames):
    path = write_with_opencv(tmp_path / "a.mp4", frames, 10, "mp4v")
    data = path.read_bytes()
    # The matrix in the header of the track: identity becomes a quarter turn clockwise.
    upright = struct.pack(">9i", 65536, 0, 0, 0, 65536, 0, 0, 0, 1 << 30)
    turned = struct.pack(">9i", 0, 65536, 0, -65536, 0, 0, 48 << 16, 0, 1 << 30)
    at = data.index(upright, data.index(b"tkhd"))
    path.write_bytes(data[:at] + turned + data[at + len(turned) :])
    found = next(video.read_frames(path))
    assert found.shape == (64, 48, 3)
    red = np.argwhere(found[..., 0].astype(int) - found[..., 1] > 100)
    assert red[:, 0].max() < 20  # A clockwise turn brings the top left corner to the top right.
    assert red[:, 1].min() > 28
    by_opencv = read_with_opencv(path)[0][0]
    assert abs(found.astype(int) - by_opencv).mean() < 3


# What the matrix (a, b, c, d) shows of a picture: (x, y) at (a x + c y, b x + d y).
@pytest.mark.parametrize(
    ("matrix", "wanted"),
    [
        ((1, 0, 0, 1), "12 34 56"),
        ((-1, 0, 0, 1), "21 43 65"),
        ((1, 0, 0, -1), "56 34 12"),
        ((-1, 0, 0, -1), "65 43 21"),
        ((0, 1, 1, 0), "135 246"),
        ((0, 1, -1, 0), "531 642"),
        ((0, -1, 1, 0), "246 135"),
        ((0, -1, -1, 0), "642 531"),
    ],
)
def test_mirrored_and_turned_videos_are_upright(tmp_path, matrix, wanted):
    picture = np.repeat(np.repeat([[1, 2], [3, 4], [5, 6]], 16, axis=0), 16, axis=1) * 40
    frames = np.repeat(picture.astype("uint8")[None, :, :, None], 3, axis=3)
    path = write_with_opencv(tmp_path / "a.mp4", frames, 10, "mp4v")
    data = path.read_bytes()
    at = data.index(b"tkhd") + 44  # The matrix in the header of the track.
    assert struct.unpack(">9i", data[at : at + 36]) == (65536, 0, 0, 0, 65536, 0, 0, 0, 1 << 30)
    a, b, c, d = (65536 * value for value in matrix)
    path.write_bytes(
        data[:at] + struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30) + data[at + 36 :]
    )
    found = next(video.read_frames(path))[8::16, 8::16, 1]
    np.testing.assert_array_equal(np.round(found / 40), rows(wanted))


@pytest.mark.parametrize("size", [(48, 64), (47, 63), (1, 1)], ids=str)
def test_a_written_video_is_read_by_opencv(tmp_path, frames, size):
    height, width = size
    path = tmp_path / "a.mp4"
    with video.VideoWriter(path, 12.5) as writer:
        for frame in frames:
            writer.add(frame[:height, :width])
    found, fps = read_with_opencv(path)
    assert fps == 12.5
    # H.264 has even sizes.
    assert found.shape == (10, height + height % 2, width + width % 2, 3)
    if size == (48, 64):
        assert abs(found[:, 24:].astype(int) - frames[:, 24:]).mean() < 3


@pytest.mark.parametrize("fps", [video.LEAST_FPS, Fraction(24000, 1001)])
def test_a_written_video_has_its_rate(tmp_path, frames, fps):
    with video.VideoWriter(tmp_path / "a.mp4", fps) as writer:
        for number, frame in enumerate(frames):
            writer.add(frame, number / float(fps))
    with av.open(str(tmp_path / "a.mp4")) as container:
        assert container.duration / 1e6 == pytest.approx(10 / fps, rel=1e-4)
        rate = float(container.streams.video[0].average_rate)
        assert rate == pytest.approx(float(fps), rel=1e-4)


def test_frames_of_another_size_are_one_sentence(tmp_path, frames):
    def write(writer):
        writer.add(frames[0])
        writer.add(frames[0][:40])

    with (
        video.VideoWriter(tmp_path / "a.mp4", 10) as writer,
        pytest.raises(ValueError, match=r"one size\. Received: 64x40 pixels after 64x48"),
    ):
        write(writer)


def test_a_video_without_frames_is_one_sentence(tmp_path):
    with (
        pytest.raises(ValueError, match="at least one frame"),
        video.VideoWriter(tmp_path / "a.mp4", 10),
    ):
        pass


def test_what_is_no_video_is_one_sentence(tmp_path):
    path = tmp_path / "a.mp4"
    path.write_bytes(b"no video" * 100)
    with pytest.raises(ValueError, match=r"a\.mp4 cannot be read as a video: Invalid data"):
        list(video.read_frames(path))
    with pytest.raises(FileNotFoundError, match=r"b\.mp4"):
        video.read_info(tmp_path / "b.mp4")
    with pytest.raises(ValueError, match=r"greater than 0\. Received: fps=0"):
        next(video.read_frames(path, 0))


def test_without_pyav_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ImportError, match=r"pip install 'keras-fcn\[video\]'"):
        video.read_info(tmp_path)


# Luma, blue and red difference of three colours, and their RGB by the formulas of ITU-R BT.601 and
# BT.709 in the limited range: Y' of 16 to 235 and chroma of 16 to 240, for 8 bits.
YUV = np.array([[128, 128, 128], [100, 100, 170], [180, 150, 100]])
KR_KB = {"bt601": (0.299, 0.114), "bt709": (0.2126, 0.0722)}


def rgb_of(yuv, matrix):
    y, u, v = ((yuv - (16, 128, 128)) / (219, 224, 224)).T
    kr, kb = KR_KB[matrix]
    red, blue = y + 2 * (1 - kr) * v, y + 2 * (1 - kb) * u
    green = (y - kr * red - kb * blue) / (1 - kr - kb)
    return 255 * np.stack([red, green, blue], axis=-1).clip(0, 1)


@pytest.mark.parametrize("depth", [8, 10])
@pytest.mark.parametrize("matrix", KR_KB)
def test_colours_are_those_of_the_standard(tmp_path, matrix, depth):
    path, dtype = tmp_path / "a.mkv", "uint8" if depth == 8 else "<u2"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=10)  # Lossless.
        stream.height, stream.width = 16, 48
        stream.pix_fmt = "yuv420p" if depth == 8 else "yuv420p10le"
        stream.codec_context.colorspace = 1 if matrix == "bt709" else 6
        stream.codec_context.color_range = 1
        frame = av.VideoFrame(48, 16, stream.pix_fmt)
        for plane, channel in zip(frame.planes, YUV.T, strict=True):
            side = plane.width // 3
            values = np.zeros((plane.height, plane.line_size // np.dtype(dtype).itemsize), dtype)
            values[:, : plane.width] = channel.repeat(side) << (depth - 8)
            plane.update(values)
        frame.pts = 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    (found,) = video.read_frames(path)
    assert abs(found[8, 8::16] - rgb_of(YUV, matrix)).max() <= 0.55


def test_a_written_video_names_its_colours_for_players(tmp_path):
    picture = np.full((16, 48, 3), (60, 200, 90), "uint8")
    with video.VideoWriter(tmp_path / "a.mp4", 10) as writer:
        writer.add(picture)
    with av.open(str(tmp_path / "a.mp4")) as container:
        (frame,) = container.decode(video=0)
        assert (frame.colorspace, frame.color_range) == (1, 1)  # BT.709, limited.
        yuv = np.array([[np.asarray(plane).reshape(-1)[0] for plane in frame.planes]])
    # H.264 is lossy.
    assert abs(rgb_of(yuv, "bt709") - picture[0, 0]).max() <= 3


def test_hdr_is_a_warning(tmp_path, frames):
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        stream.codec_context.color_trc = 18  # ARIB STD-B67, HLG.
        container.mux(stream.encode(av.VideoFrame.from_ndarray(frames[0])))
        container.mux(stream.encode())
    with pytest.warns(UserWarning, match=r"a\.mkv is HDR \(HLG\)"):
        assert len(list(video.read_frames(path))) == 1
