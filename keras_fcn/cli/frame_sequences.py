"""Videos and folders of frames, as `keras-fcn predict` reads them."""

import argparse
import contextlib
import dataclasses
import itertools
import math
import os
import re
import warnings
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from keras_fcn.cli.prediction_files import overlay
from keras_fcn.io.atomic import atomic_write
from keras_fcn.label_spaces import LabelSpace

if TYPE_CHECKING:
    import numpy as np


@dataclasses.dataclass(frozen=True)
class FrameSequence:
    """Frames in their order.

    Args:
        path: A video file, or a folder of image files.
        fps: Frames per second that are predicted, and of the video of the overlays.
        num_frames: Number of frames, of a video as its header says; 0 if it does not, as of streams
            and of recordings of a browser.
        files: Image files by name; none of a video.
        is_sampled: Whether a video has more frames per second.
    """

    path: Path
    fps: Fraction
    num_frames: int
    files: dict[str, Path]
    is_sampled: bool = False

    @property
    def name(self) -> str:
        """Name of the outputs."""
        return self.path.stem if self.path.is_file() else self.path.resolve().name

    def outputs(self, out: Path) -> tuple[Path, Path]:
        """Returns the folder of the frames' files, and the video of the overlays.

        Args:
            out: Folder of all outputs.
        """
        return out / self.name, out / f"{self.name}_overlay.mp4"

    def frames(
        self, channels: int, on_error: Callable[[Exception], None]
    ) -> Iterator[tuple[str, float | None, "np.ndarray"]]:
        """Yields name, seconds from the start and pixels of each frame that can be read.

        Args:
            channels: Number of channels that a model takes.
            on_error: Function of the error of each image file, or of a video, that cannot be read.

        Raises:
            ValueError: If a video has another number of channels.
        """
        from keras_fcn.data import video
        from keras_fcn.data.image_files import read_image

        if self.files:
            for number, (name, file) in enumerate(self.files.items()):
                try:
                    image = read_image(file, channels)
                except (OSError, ValueError) as error:
                    on_error(error)
                    continue
                yield name, float(number / self.fps), image
            return
        if channels != 3:
            raise ValueError(
                f"The model must take 3 channels, as a video has. Received: {channels}."
            )
        frames = video.read_timed_frames(self.path, float(self.fps) if self.is_sampled else None)
        numbers = itertools.count(1)
        while True:
            try:
                seconds, frame = next(frames)
            except StopIteration:
                return
            except (OSError, ValueError) as error:
                on_error(error)
                return
            yield f"{next(numbers):06d}", seconds, frame


def surplus_frames(folder: Path, count: int) -> list[str]:
    """Returns the names of the files of later frames than the last one, from another prediction.

    Args:
        folder: Folder of the files of a video's frames.
        count: Number of frames.
    """
    names = os.listdir(folder) if folder.is_dir() else []
    numbered = ((re.match(r"(\d{6,})[._]", f"{name}."), name) for name in names)
    return sorted(name for number, name in numbered if number and int(number[1]) > count)


def check_no_surplus_frames(sequence: FrameSequence, out: Path) -> None:
    """Raises a ValueError if frames of a prediction at a higher rate would remain in the folder.

    Headers of videos miscount their frames slightly: a few more frames raise no error.

    Args:
        sequence: What is to be predicted.
        out: Folder of all outputs.
    """
    folder, _ = sequence.outputs(out)
    count = sequence.num_frames
    if sequence.files or not count:
        return
    if surplus := surplus_frames(folder, count + max(2, count // 20)):
        raise ValueError(
            f"--out must be another folder, or {folder} be removed: it holds frames of another "
            f"prediction, {surplus[-1]}. Received: {sequence.path}, of which {count} are predicted."
        )


def is_video(path: Path) -> bool:
    """Returns whether a file is a video, by its suffix."""
    from keras_fcn.data import video

    return path.suffix.lower() in video.SUFFIXES


def open_sequence(path: Path, fps: float | None) -> FrameSequence:
    """Returns the sequence of a video file, or of a folder of frames.

    Args:
        path: Video file or folder.
        fps: Frames per second; `None` for all frames of a video.

    Raises:
        ValueError: If the file is no video, or the folder has no images, or of several sizes.
    """
    from keras_fcn.data import video
    from keras_fcn.data.files import IMAGE_SUFFIXES, files_by_name
    from keras_fcn.data.image_files import read_size

    if not path.is_dir():
        info = video.read_info(path)
        rate = min(info.fps, Fraction(fps)) if fps else info.fps
        number = math.ceil(info.num_frames * rate / info.fps)
        return FrameSequence(path, rate, number, {}, is_sampled=rate < info.fps)
    video.check_pyav()
    found = files_by_name(path, IMAGE_SUFFIXES)
    if not found:
        raise ValueError(
            f"A folder of frames must hold {', '.join(IMAGE_SUFFIXES)} files. Received: {path}, a "
            "folder with none."
        )
    files = {name: found[name][0] for name in sorted(found, key=_with_numbers)}
    sizes = {read_size(file): file for file in files.values()}
    if len(sizes) > 1:
        (first, one), (second, other) = list(sizes.items())[:2]
        raise ValueError(
            f"The frames of a folder must have one size. Received: {one} of {first[0]}x{first[1]} "
            f"pixels and {other} of {second[0]}x{second[1]}. Images of several sizes are predicted "
            "without --fps."
        )
    return FrameSequence(path, Fraction(fps or 25), len(files), files)


def _with_numbers(name):
    """Key that sorts frame9 before frame10."""
    return [(int(part), "") if part.isdigit() else (0, part) for part in re.split(r"(\d+)", name)]


@contextlib.contextmanager
def overlay_video(
    path: Path, fps: Fraction, space: LabelSpace, options: argparse.Namespace
) -> Iterator[Callable[["np.ndarray", "np.ndarray", float | None], None]]:
    """Yields a function of (image, label map, seconds) that appends their overlay to a video.

    The video is written in one step. Its legend shows all classes, so that its frames have one
    size. An image of another size than the first one is fitted into it, with a warning.

    Args:
        path: The .mp4 file.
        fps: Frames per second.
        space: Names and colours of the classes.
        options: Those of the command.
    """
    import numpy as np

    from keras_fcn.data.video import VideoWriter

    classes = range(space.num_classes)
    size: tuple[int, ...] | None = None

    def add_overlay(image, label_map, seconds):
        nonlocal size
        size = size or label_map.shape
        if label_map.shape != size:
            (height, width), (first_height, first_width) = label_map.shape, size
            warnings.warn(
                f"{path} has the size of its first frame, {first_width}x{first_height} pixels. "
                f"Frames of another size, such as {width}x{height}, are fitted into it.",
                stacklevel=2,
            )
            image, label_map = _fitted(image, label_map, size)
        writer.add(np.asarray(overlay(image, label_map, space, options, classes)), seconds)

    with atomic_write(path, sync=False) as file, VideoWriter(file, fps) as writer:
        yield add_overlay


def _fitted(image, label_map, size):
    """Returns an image and its label map within a size (height, width), with black borders."""
    import numpy as np
    from PIL import Image

    from keras_fcn.visualization import as_rgb

    height, width = size
    scale = min(height / label_map.shape[0], width / label_map.shape[1])
    rows, columns = (max(1, int(length * scale + 0.5)) for length in label_map.shape)
    top, left = (height - rows) // 2, (width - columns) // 2
    picture = Image.new("RGB", (width, height))
    picture.paste(Image.fromarray(as_rgb(image)).resize((columns, rows)), (left, top))
    classes = Image.fromarray(label_map.astype("int32"))
    fitted = np.full(size, -1, "int32")
    fitted[top : top + rows, left : left + columns] = classes.resize(
        (columns, rows), Image.Resampling.NEAREST
    )
    return np.asarray(picture), fitted
