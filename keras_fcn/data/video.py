"""Frames of video files: read in RGB, and written from pictures."""

import contextlib
import dataclasses
import os
import warnings
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import numpy as np

from keras_fcn.io.extras import check_installed
from keras_fcn.spelling import counted

LEAST_FPS = 1e-4
"""Least frames per second of a video that is written: MP4 stores durations in 32 bits."""
_TICKS = 90_000  # Of a second, the unit of times in MPEG.
# Flags of FFmpeg's swscale: SWS_BICUBIC, SWS_FULL_CHR_H_INT and SWS_ACCURATE_RND. By default it
# truncates, which makes colours a level darker. PyAV 14 has no names for the last two.
_ROUNDED = 0x4 | 0x2000 | 0x40000
_BT709, _BT601, _LIMITED_RANGE, _FULL_RANGE = 1, 5, 1, 2  # FFmpeg's numbers.
_HDR = {16: "PQ", 18: "HLG"}  # Transfer characteristics of ITU-T H.273.
SUFFIXES = (
    *(".3gp", ".avi", ".flv", ".m2ts", ".m4v", ".mjpeg", ".mjpg", ".mkv", ".mov", ".mp4"),
    *(".mpeg", ".mpg", ".mts", ".ogv", ".ts", ".webm", ".wmv"),
)
"""Of the files that are taken for videos."""


@dataclasses.dataclass(frozen=True)
class VideoInfo:
    """What the header of a video file says.

    Args:
        fps: Frames per second.
        num_frames: Number of frames, as the header says or as follows from the duration; 0 if
            neither is there.
    """

    fps: Fraction
    num_frames: int


def read_info(path: str | os.PathLike) -> VideoInfo:
    """Returns frame rate and number of frames of a video file.

    Raises:
        ValueError: If the file is no video.
        ImportError: If PyAV is not installed.
    """
    with _opened(path) as container:
        return _info(container)


def _info(container):
    stream = container.streams.video[0]
    fps = stream.average_rate or stream.guessed_rate or Fraction(25)
    seconds = Fraction(container.duration or 0, 1_000_000)
    return VideoInfo(fps, stream.frames or round(seconds * fps))


def read_frames(path: str | os.PathLike, fps: float | None = None) -> Iterator[np.ndarray]:
    """Yields the frames of a video, upright, as RGB (height, width, 3), uint8.

    Frames that are damaged are left out, as by a player; a warning at the end counts them. Warns,
    too, if the file looks truncated: if more than 5 % of its frames and of its duration are
    missing, as the header says. Headers of whole files can be wrong in one of the two: files cut
    without encoding count frames that are not shown, sound can last longer.

    Frames of 10 bits are rounded to 8. Frames of HDR (high dynamic range) are read without tone
    mapping, with a warning. The size of the frames may change.

    Args:
        path: Video file that FFmpeg reads.
        fps: Frames per second to yield: of each interval the first frame; `None` for all frames.

    Raises:
        ValueError: If the file is no video, none of its frames can be read, or `fps` is not greater
            than 0.
        ImportError: If PyAV is not installed.
    """
    return (frame for _, frame in read_timed_frames(path, fps))


def read_timed_frames(
    path: str | os.PathLike, fps: float | None = None
) -> Iterator[tuple[float | None, np.ndarray]]:
    """Yields what `read_frames` does, each frame after its time.

    Times are in seconds from the first frame on. They are not evenly spaced in videos of variable
    frame rate, as phones record them. Without times in the file they are `None`.
    """
    if fps is not None and not fps > 0:
        raise ValueError(f"`fps` must be greater than 0. Received: {fps=}.")
    with _opened(path) as container:
        start, end, interval, count = None, None, -1, 0
        damage = _Damage()
        for frame in _decoded(container, damage):
            if not count:
                _warn_of_hdr(path, container)
            count += 1
            end = frame.time
            start = end if start is None else start
            if fps is not None and frame.time is not None:
                # Half a millisecond: containers round times.
                now = int((frame.time - start + 5e-4) * fps)
                if now <= interval:
                    continue
                interval = now
            seconds = None if start is None or end is None else float(end - start)
            yield seconds, np.ascontiguousarray(_upright(_as_rgb(frame), frame))
        if not count:
            reason = damage.reason or "it has no frames"
            raise ValueError(f"{path} cannot be read as a video: {reason}.")
        if damage.lost:
            warnings.warn(
                f"{path} is damaged and is read without {counted(damage.lost, 'frame')}, the first "
                f"one after {counted(damage.before, 'frame')}. Those that follow may be wrong.",
                stacklevel=3,
            )
        seconds = None if start is None or end is None else end - start
        _warn_if_truncated(path, container, count, damage.lost, seconds)


@dataclasses.dataclass
class _Damage:
    """What of a video cannot be decoded: packets, each of which holds a frame.

    Args:
        lost: Number of packets.
        before: Number of frames before the first one.
        reason: What FFmpeg says about it.
    """

    lost: int = 0
    before: int = 0
    reason: str = ""


def _decoded(container, damage):
    """Yields the frames that can be decoded, and notes the others."""
    import av

    count = 0
    for packet in container.demux(video=0):
        try:
            frames = packet.decode()
        except av.FFmpegError as error:
            if not damage.lost:
                damage.before, damage.reason = count, error.strerror
            damage.lost += 1
            continue
        count += len(frames)
        yield from frames


def _as_rgb(frame):
    # PyAV 14 ignores the frame's matrix and range unless those of the result are given, which RGB
    # does not have.
    return frame.to_ndarray(
        format="rgb24",
        interpolation=_ROUNDED,
        dst_colorspace=_BT601,
        src_color_range=frame.color_range or None,
        dst_color_range=_FULL_RANGE,
    )


def _warn_of_hdr(path, container):
    if transfer := _HDR.get(container.streams.video[0].codec_context.color_trc):
        warnings.warn(
            f"{path} is HDR ({transfer}). Its frames are read without tone mapping, so colours "
            "differ from those of photos. Convert it to SDR with a video editor, or record in SDR.",
            stacklevel=4,
        )


def _upright(pixels, frame):
    """Returns pixels turned and mirrored by quarter turns, as the frame's display matrix says."""
    matrices = [data for data in frame.side_data if data.type.name == "DISPLAYMATRIX"]
    if not matrices:
        return pixels
    # (x, y) is shown at (a x + c y, b x + d y); `frame.rotation` leaves out mirroring.
    (a, b, _), (c, d, _), _ = np.frombuffer(bytes(matrices[0]), "int32").reshape(3, 3).tolist()
    if abs(b) + abs(c) > abs(a) + abs(d):
        pixels, a, d = pixels.swapaxes(0, 1), c, b
    return pixels[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]


def _warn_if_truncated(path, container, count, lost, seconds):
    """Warns if both the frames and the seconds from the first to the last are too few."""
    info = _info(container)
    missing = info.num_frames - count - lost
    if missing <= max(1, 0.05 * info.num_frames):
        return
    expected = (container.duration or 0) / 1e6
    if seconds is not None and expected - seconds <= max(2 / info.fps, 0.05 * expected):
        return
    warnings.warn(
        f"{path} seems to be truncated: {count} of the {info.num_frames} frames in its header "
        "could be read.",
        stacklevel=3,
    )


@contextlib.contextmanager
def _opened(path):
    av = _av()
    # An absent file is named by Python's own error.
    os.stat(path)
    try:
        with av.open(os.fspath(path)) as container:
            if not container.streams.video:
                raise ValueError(f"{path} must be a video. Received: a file without a picture.")
            yield container
    except av.FFmpegError as error:
        raise ValueError(f"{path} cannot be read as a video: {error.strerror}.") from None


class VideoWriter:
    """Writes pictures of one size as an H.264 video; a context manager.

    Args:
        path: File to write; its suffix names the container.
        fps: Frames per second, at least `LEAST_FPS`.

    Raises:
        ImportError: If PyAV is not installed.
        ValueError: At its end, if no picture was added.
    """

    def __init__(self, path: str | os.PathLike, fps: Fraction | float):
        self._fps = Fraction(fps).limit_denominator(10_000)
        self._container = _av().open(os.fspath(path), "w")
        self._stream: Any = None
        self._tick = -1  # Time of the last picture, if pictures have times.

    def add(self, picture: np.ndarray, seconds: float | None = None) -> None:
        """Appends a picture.

        Args:
            picture: RGB (height, width, 3), uint8.
            seconds: When it is shown, after the picture before it; `None` for `fps`. All pictures
                have a time, or none.

        Raises:
            ValueError: If it does not have the size of the first one.
        """
        height, width = picture.shape[:2]
        # H.264 stores colours for 2x2 pixels.
        picture = np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        if self._stream is None:
            self._stream = self._container.add_stream("libx264", rate=self._fps)
            self._stream.height, self._stream.width = picture.shape[:2]
            self._stream.pix_fmt = "yuv420p"
            self._stream.options = {"crf": "18"}
            # Without these tags players guess the colours' matrix from the size of the video.
            context = self._stream.codec_context
            context.colorspace = context.color_primaries = context.color_trc = _BT709
            context.color_range = _LIMITED_RANGE
            if seconds is not None:
                self._stream.codec_context.time_base = Fraction(1, _TICKS)
                # With B-frames, MP4's duration is too short for times that are unevenly spaced.
                self._stream.options = {**self._stream.options, "bf": "0"}
        if (self._stream.height, self._stream.width) != picture.shape[:2]:
            raise ValueError(
                f"The frames of a video must have one size. Received: {width}x{height} pixels "
                f"after {self._stream.width}x{self._stream.height}."
            )
        frame = _av().VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
        frame = frame.reformat(
            format="yuv420p",
            dst_colorspace=_BT709,
            dst_color_range=_LIMITED_RANGE,
            interpolation=_ROUNDED,
        )
        if seconds is not None:
            self._tick = max(self._tick + 1, round(seconds * _TICKS))
            frame.pts, frame.time_base = self._tick, Fraction(1, _TICKS)
        self._mux(frame)

    def _mux(self, frame=None):
        for packet in self._stream.encode(frame):
            if self._tick >= 0:
                # The container shows the last picture as long as its packet says.
                packet.duration = round(_TICKS / self._fps)
            self._container.mux(packet)

    def __enter__(self) -> "VideoWriter":
        return self

    def __exit__(self, kind, error, traceback):
        if kind is None and self._stream is not None:
            self._mux()
        self._container.close()
        if kind is None and self._stream is None:
            raise ValueError("A video must have at least one frame. Received: none.")


def check_pyav() -> None:
    """Raises an ImportError if PyAV is not installed."""
    check_installed("video", ("av",), "to read and write videos")


def _av():
    check_pyav()
    import av

    return av
