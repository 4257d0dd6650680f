"""Registry of the weights that the authors released, with their URLs and metadata."""

import dataclasses
import sys
from collections.abc import Callable
from pathlib import Path

from keras_fcn.io.atomic import atomic_write, remove_leftovers
from keras_fcn.io.download import (
    PublishedFile,
    check,
    download,
    keras_home,
)
from keras_fcn.label_spaces import PASCAL_VOC, LabelSpace
from keras_fcn.layers.vgg_preprocessing import PASCAL_VOC_MEAN


@dataclasses.dataclass(frozen=True)
class PublishedWeights:
    """One released model.

    Args:
        name: Value of `weights`.
        stride: 32, 16 or 8, of FCN-32s, FCN-16s or FCN-8s.
        files: Copies of the weights, as `PublishedFile`, in order of preference.
        label_space: `LabelSpace` of the training data.
        mean: Mean (blue, green, red) that training subtracted from the images.
        skip_scales: Scales of pool4 and pool3 in training.
        scores: Published scores on the 736 images of seg11valid, fractions by name.
        license: License of the model.
        sources: URLs of the license and the scores.
        fc_units: Outputs of fc6 and fc7.
    """

    name: str
    stride: int
    files: tuple[PublishedFile, ...]
    label_space: LabelSpace
    mean: tuple[float, float, float]
    skip_scales: tuple[float, float]
    scores: dict[str, float]
    license: str
    sources: tuple[str, ...]
    fc_units: int = 4096


_SCORES = ("pixel_accuracy", "mean_accuracy", "mean_iou", "frequency_weighted_iou")


def _pascal_voc(name, stride, caffe_name, percent, *, npz, pth, skip_scales=(1.0, 1.0)):
    """`percent` are the four scores; each of `npz` and `pth` is (MD5 checksum, Drive id)."""
    # Copies with a checksum come first; among them, the one that does not need PyTorch.
    copies = [
        PublishedFile(f"{caffe_name}.{suffix}", f"https://drive.google.com/uc?id={drive}", md5)
        for suffix, (md5, drive) in (("npz", npz), ("pth", pth))
    ]
    original = PublishedFile(
        f"{caffe_name}.caffemodel", f"http://dl.caffe.berkeleyvision.org/{caffe_name}.caffemodel"
    )
    return PublishedWeights(
        name=name,
        stride=stride,
        files=(*copies, original),
        label_space=PASCAL_VOC,
        mean=PASCAL_VOC_MEAN,
        skip_scales=skip_scales,
        scores={score: value / 100 for score, value in zip(_SCORES, percent, strict=True)},
        license="unrestricted use",
        sources=(
            "https://github.com/shelhamer/fcn.berkeleyvision.org",
            "https://github.com/wkentaro/fcn",
        ),
    )


PUBLISHED_WEIGHTS = (
    _pascal_voc(
        "pascal_voc",
        32,
        "fcn32s-heavy-pascal",
        (90.4810, 76.4824, 63.6261, 83.4580),
        npz=("b7f0a2e66229ccdb099c0a60b432e8cf", "1l5Ubj7zflQAwaNI7G35DzNcMoTf8CDLW"),
        pth=("d3eb467a80e7da0468a20dfcbc13e6c8", "11k2Q0bvRQgQbT6-jYWeh6nmAsWlSCY3f"),
    ),
    _pascal_voc(
        "pascal_voc",
        16,
        "fcn16s-heavy-pascal",
        (90.9971, 78.0710, 65.0050, 84.2614),
        npz=("7c9b50a1a8c6c20d3855d4823bbea61e", "1kwLpLz1jzQqqF5QxQphsO4-aObQIQMWS"),
        pth=("a2d4035f669f09483b39c9a14a0d6670", "1bctu58B6YH9bu6lBBSBB2rUeGlGhYLoP"),
    ),
    _pascal_voc(
        "pascal_voc",
        8,
        "fcn8s-heavy-pascal",
        (91.2212, 77.6146, 65.5126, 84.5445),
        npz=("256c2a8235c1c65e62e48d3284fbd384", "1l_5RK28JRL19wpT22B-DY9We3TVXnnQQ"),
        pth=("de93e540ec79512f8770033849c8ae89", "1ieXWyoG68xqoHJPWdyrDyaIaaWlfmUxI"),
    ),
    _pascal_voc(
        "pascal_voc_atonce",
        8,
        "fcn8s-atonce-pascal",
        (91.1288, 78.4979, 65.3998, 84.4326),
        npz=("5f3ffdc7fae1066606e1ef45cfda548f", "1lNHAz5QEo-OoHL8uAUuBPki-8xrEArhs"),
        pth=("bfed4437e941fef58932891217fe6464", "0B9P1L--7Wd2vblE1VUIxV1o2d2M"),
        skip_scales=(0.01, 0.0001),
    ),
)
"""The registry, `PublishedWeights`."""


def published_names() -> tuple[str, ...]:
    """Returns the names of published weights, in the registry's order."""
    return tuple(dict.fromkeys(published.name for published in PUBLISHED_WEIGHTS))


def find_published(name: object, stride: int) -> PublishedWeights | None:
    """Returns the published weights of a name for a model, `None` for an unknown name.

    Args:
        name: Value of `weights`.
        stride: Output stride of the model: 32, 16 or 8.

    Raises:
        ValueError: If the name was not published for this model.
    """
    if not isinstance(name, str) or name not in published_names():
        return None
    of_name = [published for published in PUBLISHED_WEIGHTS if published.name == name]
    for published in of_name:
        if published.stride == stride:
            return published
    models = ", ".join(f"FCN-{published.stride}s" for published in of_name)
    raise ValueError(f"weights={name!r} must be loaded into {models}. Received: FCN-{stride}s.")


def cached_file(published: PublishedWeights, convert: Callable[[Path, Path], None]) -> Path:
    """Returns the path of published weights as a `.weights.h5` file in Keras's cache.

    Downloads and converts them if they are missing. A copy that the user has put into the folder
    is preferred to a download.

    Args:
        published: `PublishedWeights`.
        convert: Function of (source, target) that reads a published file and writes a
            `.weights.h5` file.

    Raises:
        OSError: If all copies fail. The message lists them and the remedy.
    """
    folder = keras_home() / "keras_fcn"
    target = folder / f"{published.name}-fcn{published.stride}s.weights.h5"
    if target.is_file():
        return target
    placed = [(folder / file.name, file) for file in published.files]
    candidates: list[tuple[Path | None, PublishedFile]] = [
        (path, file) for path, file in placed if path.is_file()
    ]
    candidates += [(None, file) for file in published.files]
    failures = []
    folder.mkdir(parents=True, exist_ok=True)
    remove_leftovers(folder)
    for path, file in candidates:
        try:
            with atomic_write(target) as converted:
                if path is not None:
                    check(path, file)
                else:
                    print(f"Downloading {file.url}", file=sys.stderr, flush=True)
                convert(path or download(file, converted.parent), converted)
            return target
        except (OSError, ValueError, ImportError) as error:
            failures.append(f"{path or file.url} ({error})")
    if target.is_file():  # Another process was faster.
        return target
    raise OSError(
        f"weights={published.name!r} must be downloaded, but all copies failed: "
        f"{'; '.join(failures)}. Put one of {', '.join(file.name for file in published.files)} "
        f"into {folder}, or pass its path as `weights`; weights=None starts from random values."
    )
