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

SUFFIXES = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".webm")
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

    Warns at the end if the file looks truncated: if more than 5 % of its frames and of its
    duration are missing, as the header says. Headers of whole files can be wrong in one of the
    two: files cut without encoding count frames that are not shown, sound can last longer.

    Args:
        path: Video file that FFmpeg reads.
        fps: Frames per second to yield: of each interval the first frame; `None` for all frames.

    Raises:
        ValueError: If the file is no video or is damaged, or `fps` is not greater than 0.
        ImportError: If PyAV is not installed.
    """
    if fps is not None and not fps > 0:
        raise ValueError(f"`fps` must be greater than 0. Received: {fps=}.")
    with _opened(path) as container:
        start, end, interval, count = None, None, -1, 0
        for frame in container.decode(video=0):
            count += 1
            end = frame.time
            start = end if start is None else start
            if fps is not None and frame.time is not None:
                # Half a millisecond: containers round times.
                now = int((frame.time - start + 5e-4) * fps)
                if now <= interval:
                    continue
                interval = now
            yield np.ascontiguousarray(_upright(frame.to_ndarray(format="rgb24"), frame))
        seconds = None if start is None or end is None else end - start
        _warn_if_truncated(path, container, count, seconds)


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


def _warn_if_truncated(path, container, count, seconds):
    """Warns if both the frames and the seconds from the first to the last are too few."""
    info = _info(container)
    missing = info.num_frames - count
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
        fps: Frames per second.

    Raises:
        ImportError: If PyAV is not installed.
        ValueError: At its end, if no picture was added.
    """

    def __init__(self, path: str | os.PathLike, fps: Fraction | float):
        self._fps = Fraction(fps).limit_denominator(1000)
        self._container = _av().open(os.fspath(path), "w")
        self._stream: Any = None

    def add(self, picture: np.ndarray) -> None:
        """Appends a picture, RGB (height, width, 3), uint8.

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
        if (self._stream.height, self._stream.width) != picture.shape[:2]:
            raise ValueError(
                f"The frames of a video must have one size. Received: {width}x{height} pixels "
                f"after {self._stream.width}x{self._stream.height}."
            )
        frame = _av().VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
        self._container.mux(self._stream.encode(frame))

    def __enter__(self) -> "VideoWriter":
        return self

    def __exit__(self, kind, error, traceback):
        if kind is None and self._stream is not None:
            self._container.mux(self._stream.encode())
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
