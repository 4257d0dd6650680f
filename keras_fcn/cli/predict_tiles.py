"""`keras-fcn predict --tile`: label maps of images that are larger than memory."""

import argparse
import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from keras_fcn.cli import options as shared
from keras_fcn.cli.frame_sequences import FrameSequence
from keras_fcn.io.links import check_links

# The options of `predict` that a prediction in tiles takes; --test-scales and --test-flip must be
# those of one view.
_TAKEN = (
    "model",
    "images",
    "out",
    "tile",
    "at_once",
    "task",
    "colour_blind",
    "test_scales",
    "test_flip",
    "probabilities",
    "traceback",
)


def check_options(options: argparse.Namespace, sequences: Sequence[FrameSequence]) -> None:
    """Raises a ValueError if there are options or videos that do not go with --tile."""
    if sequences:
        raise ValueError(f"--tile must be used with images. Received: {sequences[0].path}.")
    if options.probabilities not in (None, "tif"):
        raise ValueError(
            "--tile must be used with --probabilities tif. Received: --probabilities "
            f"{options.probabilities}."
        )
    for name, value in vars(options).items():
        if name not in _TAKEN and value != options.parser.get_default(name):
            raise ValueError(
                "--tile must be used without options that need the whole image. Received: "
                f"--{name.replace('_', '-')}."
            )


def suffixes(options: argparse.Namespace) -> dict[str, str]:
    """Returns a dictionary from each output to what follows the image's name in its file."""
    found = {"label map": ".tif"}
    if options.probabilities is not None:
        found["probabilities"] = "_probabilities.tif"
    return found


def predict_tiles_of_images(
    options: argparse.Namespace, outputs: Mapping[Path, Mapping[str, Path]]
) -> list[Exception]:
    """Writes the label maps of images as GeoTIFFs.

    Args:
        options: Of `predict`.
        outputs: Dictionary from each image to one from each of `suffixes` to its file.

    Returns:
        Why images were left out, one error for each damaged one.
    """
    from keras_fcn.inference import predict_tiles
    from keras_fcn.inference.rasters import DamagedImageError, import_rasterio
    from keras_fcn.inference.sources import check_header

    # What is missing is found before the model is loaded.
    import_rasterio()
    for image in outputs:
        check_links(image)
    trained = shared.open_model(options)
    views = shared.views(options, trained)
    if views != {"scales": (1.0,), "flip": False}:
        raise ValueError(
            "--tile must be used with one view of the image: pass --test-scales 1 and "
            f"--no-test-flip. Received: scales {views['scales']}, flip {views['flip']}."
        )
    for image in outputs:
        # The header of the last image is checked before the hours of the first one.
        check_header(image, trained.model.num_channels)
    damaged: list[Exception] = []
    for image, paths in outputs.items():
        label_map = paths["label map"]
        try:
            with _folder(label_map.parent), contextlib.ExitStack() as stack:
                predict_tiles(
                    trained.model,
                    image,
                    label_map,
                    probabilities=paths.get("probabilities"),
                    tile=options.tile,
                    label_space=shared.shown_space(options, trained),
                    progress=_progress(stack),
                )
        except DamagedImageError as error:
            damaged.append(error)
    if len(damaged) < len(outputs):
        print(f"Label maps: {options.out}")
    return damaged


@contextlib.contextmanager
def _folder(path: Path) -> Iterator[None]:
    """Makes a folder, and removes what it made if it is empty at the end."""
    made = [place for place in (path, *path.parents) if not place.exists()]
    os.makedirs(path, exist_ok=True)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # It holds the result.
            for place in made:
                place.rmdir()


def _progress(stack: contextlib.ExitStack) -> Callable[[int, int], None]:
    """Returns a function of the numbers of finished windows and of all windows that shows them.

    Args:
        stack: Ends the progress bar.
    """
    from keras_fcn.training.progress import duration, progress_bar, say

    advance, before, begun = None, 0, 0.0
    is_terminal = sys.stderr.isatty()  # Whose progress bar estimates the time itself.

    def progress(done, total):
        nonlocal advance, before, begun
        if advance is None:
            advance = stack.enter_context(progress_bar("predicting", total))
            before, begun = done, time.monotonic()
            if done:
                say(f"windows already finished: {done} of {total}")
                advance(done)
            return
        seconds = (time.monotonic() - begun) / (done - before) * (total - done)
        left = f"about {duration(seconds)} left" if done < total and not is_terminal else ""
        if done == before + 1 and left and 4 * done < total:  # The bar's first line comes later.
            say(f"{total - done} more windows, {left}")
        advance(1, note=left)

    return progress
