"""`keras-fcn predict`: writes label maps, overlays and what else is asked for of images."""

import argparse
import collections
import glob
import itertools
import math
import os
import sys
import time
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from keras_fcn.cli import frame_sequences, predict_tiles, prediction_files
from keras_fcn.cli import options as shared
from keras_fcn.cli.output_files import check_folder
from keras_fcn.spelling import counted


def add_parser(subparsers: shared.Subparsers) -> None:
    """Adds `keras-fcn predict` and its options."""
    parser = shared.add_command(
        subparsers, "predict", run, help="write label maps and overlays of images"
    )
    shared.add_trained_model(parser)
    parser.add_argument(
        "images",
        nargs="+",
        metavar="IMAGE",
        help="files, patterns such as 'photos/*.jpg', folders with all the images in them, or "
        "videos, which need PyAV",
    )
    parser.add_argument(
        "--out",
        default="predictions",
        metavar="DIR",
        help="folder for the results; default: %(default)s",
    )
    shared.add_views(parser)
    parser.add_argument(
        "--probabilities",
        choices=("npz", "png", "tif"),
        help="write the class probabilities, too: one array of float32, or one grey PNG per class; "
        "with --tile, a GeoTIFF of one band per class",
    )
    parser.add_argument(
        "--confidence",
        action="store_true",
        help="write the probability of the predicted class as a grey PNG, 255 for certain",
    )
    parser.add_argument(
        "--outline", action="store_true", help="draw outlines instead of areas in the overlay"
    )
    shared.add_colour_blind(parser)
    parser.add_argument(
        "--legend",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="show the classes below an overlay; default: --legend",
    )
    parser.add_argument(
        "--fps",
        type=float,
        metavar="RATE",
        help="frames per second that are predicted of a video, by default all; of a folder of "
        "frames, the rate of a video of the overlays",
    )
    parser.add_argument(
        "--polygons",
        action="store_true",
        help="write the regions of each class as GeoJSON in pixel coordinates; needs rasterio",
    )
    parser.add_argument(
        "--classes", action="store_true", help="print the fraction of each class in each image"
    )
    parser.add_argument(
        "--batch-size",
        type=int,
        default=1,
        metavar="N",
        help="number of images of equal size that are predicted at once; faster on GPUs, in more "
        "memory; default: %(default)s",
    )
    parser.add_argument(
        "--tile",
        type=int,
        metavar="PIXELS",
        help="predict images larger than memory in windows of this height and width, exactly; "
        "writes label maps as GeoTIFFs and resumes where it was interrupted; needs rasterio",
    )


def run(options: argparse.Namespace) -> int:
    """Writes what is predicted for images and videos; returns 1 if an image is damaged, else 0."""
    from keras_fcn.data.image_files import read_size
    from keras_fcn.models.prediction_memory import check_prediction_memory

    # Headers only: a file that is no image is found before the model is loaded.
    check_folder("--out", options.out)
    _check_inputs(options)
    sequences, others = _opened_sequences(options)
    images, out = _named_images(others), Path(options.out)
    if options.batch_size < 1:
        raise ValueError(f"--batch-size must be at least 1. Received: {options.batch_size}.")
    if options.tile is not None:
        predict_tiles.check_options(options, sequences)
        suffixes = predict_tiles.suffixes(options)
        outputs = prediction_files.output_paths(images, out, suffixes)
        for path in outputs:
            prediction_files.warn_of_pages(path)
        return _report(predict_tiles.predict_tiles_of_images(options, outputs))
    if options.probabilities == "tif":
        raise ValueError("--probabilities tif must be used with --tile. Pass npz or png.")
    of_sequences = {sequence.path: sequence.outputs(out) for sequence in sequences}
    outputs = prediction_files.output_paths(
        images, out, prediction_files.suffixes(options), of_sequences
    )
    for path in outputs:
        read_size(path)
        prediction_files.warn_of_pages(path)
    if options.polygons:
        from keras_fcn.polygons import check_rasterio

        check_rasterio()
    trained = shared.open_model(
        options, needs_probabilities=bool(options.probabilities or options.confidence)
    )
    space, views = shared.shown_space(options, trained), shared.views(options, trained)
    sizes = {path: read_size(path, trained.model.num_channels) for path in outputs}
    for size, count in collections.Counter(sizes.values()).items():
        num_images = min(count, options.batch_size)
        check_prediction_memory(
            trained.model, *size, num_images=num_images, scale=max(views["scales"])
        )
    predictor = _Predictor(trained.model, space, views, options)
    try:
        if outputs:
            predictor.predict_images(outputs, sizes)
        for sequence in sequences:
            predictor.predict_sequence(sequence)
        predictor.summarize()
    except BaseException:
        _report(predictor.unreadable)
        raise
    return _report(predictor.unreadable)


def _report(errors):
    """Prints why images were left out; returns the exit status."""
    for error in errors:
        print(f"keras-fcn: error: {' '.join(str(error).split())}", file=sys.stderr)
    return 1 if errors else 0


class _Predictor:
    """Predicts one image after the other and writes what the options ask for."""

    def __init__(self, model: Any, space: Any, views: dict, options: argparse.Namespace):
        from keras_fcn.inference.caches import BoundedCaches

        self._model, self._space, self._views, self._options = model, space, views, options
        self._shares: dict[str, Any] = {}
        self._caches = BoundedCaches()
        self._started, self._reading = time.monotonic(), 0.0
        self.unreadable: list[Exception] = []
        """Why images were left out, one error for each."""

    def predict_images(
        self, outputs: dict[Path, dict[str, Path]], sizes: dict[Path, tuple[int, int]]
    ) -> None:
        """Predicts the images, each of which has its own files, but for the damaged ones."""
        self._shares = {self._name(paths): None for paths in outputs.values()}
        in_order = list(outputs)
        if self._options.batch_size > 1:
            in_order.sort(key=sizes.__getitem__)
        images = self._readable({path: outputs[path] for path in in_order})
        for _ in self._written(images, "predicting", len(outputs)):
            pass

    def _readable(self, outputs):
        """Yields files and image of each image that can be read; notes the errors of others."""
        from keras_fcn.data.image_files import read_image

        for path, paths in outputs.items():
            try:
                image = read_image(path, self._model.num_channels)
            except (OSError, ValueError) as error:
                self.unreadable.append(error)
                del self._shares[self._name(paths)]
                continue
            yield paths, image

    def predict_sequence(self, sequence: frame_sequences.FrameSequence) -> None:
        """Predicts the frames, in a folder of their own, and makes a video of the overlays."""
        folder, video = sequence.outputs(Path(self._options.out))
        suffixes = prediction_files.suffixes(self._options)
        del suffixes["overlay"]
        times: list[float | None] = []

        def frames():
            found = sequence.frames(self._model.num_channels, self.unreadable.append)
            for name, seconds, frame in found:
                times.append(seconds)
                yield {output: folder / f"{name}{end}" for output, end in suffixes.items()}, frame

        title, total = f"predicting {sequence.path}", sequence.num_frames or None
        written = self._written(frames(), title, total)
        first = next(written, None)
        if first is None:  # `unreadable` holds the reason.
            return
        with frame_sequences.overlay_video(
            video, sequence.fps, self._space, self._options
        ) as add_overlay:
            count = 0
            for frame, label_map in itertools.chain([first], written):
                add_overlay(frame, label_map, times[count])
                count += 1
        if not sequence.files and (surplus := frame_sequences.surplus_frames(folder, count)):
            names = surplus[0] if len(surplus) == 1 else f"{surplus[0]} to {surplus[-1]}"
            warnings.warn(f"{folder} holds files of another prediction: {names}.", stacklevel=2)

    def _written(
        self, images: Iterable[tuple[dict, Any]], title: str, total: int | None
    ) -> Iterator[tuple[Any, Any]]:
        """Yields each image and its label map, after its files are written."""
        from keras_fcn.inference import predict_images
        from keras_fcn.training.progress import progress_bar

        images, ahead = itertools.tee(self._timed(images))
        predictions = predict_images(
            self._model,
            (image for _, image in ahead),
            batch_size=self._options.batch_size,
            **self._views,
        )
        with progress_bar(title, total) as advance:
            for prediction, (paths, image) in zip(predictions, images, strict=True):
                prediction_files.write(prediction, image, self._space, paths, self._options)
                self._shares[self._name(paths)] = prediction.class_shares
                self._caches.add(image.shape[:2])
                yield image, prediction.label_map
                advance()

    def _name(self, paths):
        """Returns the path of an image's outputs in their folder, without suffix."""
        return str(paths["label map"].relative_to(self._options.out).with_suffix(""))

    def _timed(self, images):
        """Yields the images; notes how long each of them took to come."""
        images = iter(images)
        while True:
            asked = time.monotonic()
            image = next(images, None)
            self._reading += time.monotonic() - asked
            if image is None:
                return
            yield image

    def summarize(self) -> None:
        """Prints where the results are, and to standard error the time that they took."""
        if not self._shares:
            return
        if self._options.classes:
            _print_shares(self._shares, self._space)
        print(f"Label maps and overlays: {self._options.out}")
        count, seconds = len(self._shares), time.monotonic() - self._started
        if count > 1:  # The first one also compiles.
            print(
                f"{counted(count, 'image')} in {seconds:.1f} s, {count / seconds:.2f} per second; "
                f"{self._reading:.1f} s waited for reading",
                file=sys.stderr,
            )


def _check_inputs(options):
    """Raises an error if the model is among the images, or an image does not exist."""
    from keras_fcn.data.files import IMAGE_SUFFIXES
    from keras_fcn.data.video import SUFFIXES
    from keras_fcn.export import names_model

    pictures = (*IMAGE_SUFFIXES, *SUFFIXES)
    model = [options.model] if options.model.lower().endswith(pictures) else []
    if exchanged := model + [place for place in options.images if names_model(place)]:
        raise ValueError(
            "MODEL must be first, and IMAGE after it, as in keras-fcn predict camvid photo.jpg. "
            f"Received: {exchanged[0]} as {'MODEL' if model else 'IMAGE'}."
        )
    for place in _expanded(options.images):
        if not os.path.exists(place):
            raise FileNotFoundError(
                "IMAGE must be a file, a folder, or a pattern that files match. Received: "
                f"{place}, which does not exist."
            )


def _opened_sequences(options):
    """Returns the videos and folders of frames among the inputs, and the other inputs."""
    from keras_fcn.data.video import LEAST_FPS

    sequences, others = [], []
    for place in dict.fromkeys(map(Path, _expanded(options.images))):
        is_video = frame_sequences.is_video(place)
        is_sequence = is_video or (options.fps is not None and place.is_dir())
        (sequences if is_sequence else others).append(place)
    if options.fps is not None and not LEAST_FPS <= options.fps < math.inf:
        raise ValueError(
            f"--fps must be a finite number of at least {LEAST_FPS:g}. Received: {options.fps:g}."
        )
    if options.fps is not None and not sequences:
        raise ValueError("--fps needs a video or a folder of frames among the inputs.")
    opened = [frame_sequences.open_sequence(path, options.fps) for path in sequences]
    inputs = [path.resolve() for path in (*sequences, *others)]
    for sequence in opened:
        folder, video = (path.resolve() for path in sequence.outputs(Path(options.out)))
        for path in inputs:
            if path in (video, folder) or folder in path.parents:
                raise ValueError(f"--out must be another folder: {path} would be overwritten.")
        frame_sequences.check_no_surplus_frames(sequence, Path(options.out))
    return opened, others


def _print_shares(shares, space):
    """Prints a line for each image with the fraction of each of its classes, largest first."""
    for name, of_classes in shares.items():
        present = [label for label in of_classes.argsort()[::-1] if of_classes[label]]
        values = (f"{space.class_names[label]} {of_classes[label]:.1%}" for label in present)
        print(f"{name}: {', '.join(values)}")


def _named_images(places):
    """Returns a dictionary from each image, those in folders included, to its outputs' name."""
    from keras_fcn.data.files import IMAGE_SUFFIXES, files_by_name

    images = {}
    for place in places:
        if not place.is_dir():
            images[place] = place.stem
            continue
        found = files_by_name(place, IMAGE_SUFFIXES)
        if not found:
            raise ValueError(
                f"IMAGE must be a file or a folder of {', '.join(IMAGE_SUFFIXES)} files. "
                f"Received: {place}, a folder with none."
            )
        images |= {path: name for name, paths in sorted(found.items()) for path in paths}
    return images


def _expanded(places):
    """Yields the places, a pattern that is no file replaced by what matches it."""
    for place in places:
        matches = [] if os.path.exists(place) else sorted(glob.glob(place, recursive=True))
        yield from matches or [place]
