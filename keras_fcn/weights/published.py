"""Registry of published weights: those of the package, and those that the authors released."""

import dataclasses
from typing import Any

from keras_fcn.io.download import PublishedFile
from keras_fcn.label_spaces import (
    CAMVID,
    NYUDV2_40,
    PASCAL_CONTEXT,
    PASCAL_VOC,
    SIFT_FLOW,
    LabelSpace,
)
from keras_fcn.layers.vgg_preprocessing import PASCAL_VOC_MEAN
from keras_fcn.spec import NYUDV2_MEAN, PASCAL_CONTEXT_MEAN, SIFT_FLOW_MEAN


@dataclasses.dataclass(frozen=True)
class PublishedWeights:
    """One released model.

    Args:
        name: Value of `weights`.
        stride: 32, 16 or 8, of FCN-32s, FCN-16s or FCN-8s.
        files: Copies of the weights, as `PublishedFile`, in order of preference. A file without a
            URL is part of the package.
        label_space: `LabelSpace` of the training data.
        mean: Mean (blue, green, red) that training subtracted from the images.
        skip_scales: Scales of pool4 and pool3 in training.
        scores: Published scores, fractions by name; empty if none were published.
        scored_on: The images that `scores` were measured on.
        license: License of the model.
        parameters: Number of the model's parameters, bilinear kernels included.
        sources: URLs of the license and the scores.
        fc_units: Outputs of fc6 and fc7.
        padding: As in `FCN`.
        fc6_kernel_size: As in `FCN`.
        input_upsampling: As in `FCN`.
        training: The command that trained them, if it is one of this package.
        recipe: Name of the recipe that retrains them, `None` for none.
        scores_source: URL or page of the published scores, `None` without scores.
        network: `"vgg16"` for `FCN32s`, `FCN16s` and `FCN8s`, `"alexnet"` for `FCNAlexNet`, or the
            modalities of a `MultimodalFCN32s`.
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
    parameters: int
    fc_units: int = 4096
    padding: str = "paper"
    fc6_kernel_size: int = 7
    input_upsampling: int = 1
    network: str = "vgg16"
    scored_on: str = "the 736 images of seg11valid"
    training: str | None = None
    recipe: str | None = None
    scores_source: str | None = None

    @property
    def size(self) -> int:
        """Size of the weights in bytes, in float32 if that of no file is known."""
        return self.files[0].size or 4 * self.parameters

    @property
    def command(self) -> str | None:
        """The command that trained the weights, or retrains them; `None` without one."""
        return self.training or (self.recipe and f"keras-fcn train {self.recipe}")

    def as_dict(self) -> dict[str, Any]:
        """Returns name, network, classes, size, scores, licence and training as JSON values."""
        return {
            "name": self.name,
            "model": self.model_name,
            "classes": list(self.label_space.class_names),
            "parameters": self.parameters,
            "packaged": self.is_packaged,
            "bytes": self.size,
            "files": [dataclasses.asdict(file) for file in self.files],
            "scores": dict(self.scores),
            "scored_on": self.scored_on if self.scores else None,
            "scores_source": self.scores_source,
            "license": self.license,
            "sources": list(self.sources),
            "training": self.command,
            "recipe": self.recipe,
        }

    @property
    def is_packaged(self) -> bool:
        """Whether the weights are part of the package."""
        return not self.files[0].url

    @property
    def model_name(self) -> str:
        """The class of the models that take them, with its arguments."""
        if self.network == "alexnet":
            return "FCNAlexNet"
        if self.network == "vgg16":
            return f"FCN{self.stride}s"
        return f"MultimodalFCN32s(modalities={tuple(self.network.split('+'))})"


_RELEASE = "https://github.com/shelhamer/fcn.berkeleyvision.org"
# Scores of the authors' weights. The authors' README gives only mean IoU, to one decimal.
_MEASURED = "https://github.com/wkentaro/fcn"
_SCORES = ("pixel_accuracy", "mean_accuracy", "mean_iou", "frequency_weighted_iou")


def _pascal_voc(
    name, stride, caffe_name, percent, parameters, *, npz, pth, recipe, skip_scales=(1.0, 1.0)
):
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
        sources=(_RELEASE, _MEASURED),
        scores_source=_MEASURED,
        parameters=parameters,
        recipe=recipe,
    )


def _of_release(
    name,
    stride,
    caffe_name,
    label_space,
    mean,
    parameters,
    network="vgg16",
    scores=None,
    recipe=None,
):
    """A model of which only the authors' file is known, without a checksum."""
    file = f"{caffe_name}.caffemodel"
    return PublishedWeights(
        name=name,
        stride=stride,
        files=(PublishedFile(file, f"http://dl.caffe.berkeleyvision.org/{file}"),),
        label_space=label_space,
        mean=mean,
        skip_scales=(1.0, 1.0),
        scores=scores or {},
        license="unrestricted use",
        sources=(_RELEASE,),
        scores_source=_RELEASE if scores else None,
        parameters=parameters,
        network=network,
        recipe=recipe,
    )


def _stages(name, caffe_name, label_space, mean, parameters):
    """The three stages of a data set, which one staged recipe retrains."""
    recipe = f"paper_{name}"
    return tuple(
        _of_release(
            name, stride, caffe_name.format(stride), label_space, mean, count, recipe=recipe
        )
        for stride, count in zip((32, 16, 8), parameters, strict=True)
    )


PUBLISHED_WEIGHTS = (
    _pascal_voc(
        "pascal_voc",
        32,
        "fcn32s-heavy-pascal",
        (90.4810, 76.4824, 63.6261, 83.4580),
        136_152_917,
        npz=("b7f0a2e66229ccdb099c0a60b432e8cf", "1l5Ubj7zflQAwaNI7G35DzNcMoTf8CDLW"),
        pth=("d3eb467a80e7da0468a20dfcbc13e6c8", "11k2Q0bvRQgQbT6-jYWeh6nmAsWlSCY3f"),
        recipe="paper_voc_fcn32s",
    ),
    _pascal_voc(
        "pascal_voc",
        16,
        "fcn16s-heavy-pascal",
        (90.9971, 78.0710, 65.0050, 84.2614),
        134_815_994,
        npz=("7c9b50a1a8c6c20d3855d4823bbea61e", "1kwLpLz1jzQqqF5QxQphsO4-aObQIQMWS"),
        pth=("a2d4035f669f09483b39c9a14a0d6670", "1bctu58B6YH9bu6lBBSBB2rUeGlGhYLoP"),
        recipe="paper_voc_fcn16s",
    ),
    _pascal_voc(
        "pascal_voc",
        8,
        "fcn8s-heavy-pascal",
        (91.2212, 77.6146, 65.5126, 84.5445),
        134_489_759,
        npz=("256c2a8235c1c65e62e48d3284fbd384", "1l_5RK28JRL19wpT22B-DY9We3TVXnnQQ"),
        pth=("de93e540ec79512f8770033849c8ae89", "1ieXWyoG68xqoHJPWdyrDyaIaaWlfmUxI"),
        recipe="paper_voc_fcn8s",
    ),
    _pascal_voc(
        "pascal_voc_atonce",
        8,
        "fcn8s-atonce-pascal",
        (91.1288, 78.4979, 65.3998, 84.4326),
        134_489_759,
        npz=("5f3ffdc7fae1066606e1ef45cfda548f", "1lNHAz5QEo-OoHL8uAUuBPki-8xrEArhs"),
        pth=("bfed4437e941fef58932891217fe6464", "0B9P1L--7Wd2vblE1VUIxV1o2d2M"),
        recipe="paper_voc_fcn8s_atonce",
        skip_scales=(0.01, 0.0001),
    ),
    _of_release(
        "pascal_voc_alexnet",
        32,
        "fcn-alexnet-pascal",
        PASCAL_VOC,
        PASCAL_VOC_MEAN,
        58_704_590,
        network="alexnet",
        scores={"mean_iou": 0.48},
        recipe="paper_voc_alexnet",
    ),
    *_stages(
        "pascal_context",
        "pascalcontext-fcn{}s-heavy",
        PASCAL_CONTEXT,
        PASCAL_CONTEXT_MEAN,
        (149_251_964, 138_281_144, 135_589_364),
    ),
    *_stages(
        "sift_flow",
        "siftflow-fcn{}s-heavy",
        SIFT_FLOW,
        SIFT_FLOW_MEAN,
        (138_856_289, 135_545_234, 134_734_787),
    ),
    _of_release(
        "nyudv2",
        32,
        "nyud-fcn32s-color-heavy",
        NYUDV2_40,
        NYUDV2_MEAN,
        140_978_024,
        recipe="paper_nyudv2_color",
    ),
    _of_release(
        "nyudv2_hha",
        32,
        "nyud-fcn32s-hha-heavy",
        NYUDV2_40,
        NYUDV2_MEAN,
        140_978_024,
        network="hha",
        recipe="paper_nyudv2_hha",
    ),
    _of_release(
        "nyudv2_image_hha",
        32,
        "nyud-fcn32s-color-hha-heavy",
        NYUDV2_40,
        NYUDV2_MEAN,
        275_402_448,
        network="image+hha",
        recipe="paper_nyudv2_color_hha",
    ),
    PublishedWeights(
        name="camvid",
        stride=8,
        files=(
            PublishedFile(
                "camvid.weights.h5", "", md5="eaf156c18611840c8e4eb0b09e2358e3", size=35_070_994
            ),
        ),
        label_space=CAMVID,
        mean=PASCAL_VOC_MEAN,
        skip_scales=(1.0, 1.0),
        scores={
            "pixel_accuracy": 0.9580,
            "mean_accuracy": 0.8914,
            "mean_iou": 0.8062,
            "frequency_weighted_iou": 0.9230,
        },
        scored_on="the 101 validation images of CamVid, in SegNet's split",
        scores_source="docs/results/camvid-model.md",
        license="research, as CamVid; VGG-16 is CC BY 4.0",
        sources=("https://mi.eng.cam.ac.uk/research/projects/VideoRec/CamVid/",),
        parameters=19_825_665,
        fc_units=384,
        padding="same",
        fc6_kernel_size=5,
        input_upsampling=2,
        training="python -m benchmarks.camvid, see docs/results/camvid-model.md",
    ),
)
"""The registry, `PublishedWeights`."""


def registry() -> list[dict[str, Any]]:
    """Returns what `keras-fcn weights --json` prints: an entry for each published model.

    Each entry has the value of `weights` (`name`), the network (`model`), the class names
    (`classes`), the size in bytes (`bytes`), the number of `parameters`, the published `scores`
    with the images (`scored_on`) and their source (`scores_source`), the `license`, and the command
    (`training`) or the `recipe` that trains the model. What is not known is `None`.

    Examples:
        >>> entry = registry()[-1]
        >>> entry["name"], entry["model"], len(entry["classes"]), entry["bytes"]
        ('camvid', 'FCN8s', 11, 35070994)
    """
    return [published.as_dict() for published in PUBLISHED_WEIGHTS]


def published_names() -> tuple[str, ...]:
    """Returns the names of published weights, in the registry's order."""
    return tuple(dict.fromkeys(published.name for published in PUBLISHED_WEIGHTS))


def find_published(
    name: object, stride: int | None = None, network: str = "vgg16"
) -> PublishedWeights | None:
    """Returns the published weights of a name for a model, `None` for an unknown name.

    Args:
        name: Value of `weights`.
        stride: Output stride of the model: 32, 16 or 8; `None` for the finest, of any network.
        network: See `PublishedWeights`.

    Raises:
        ValueError: If the name was not published for this model.
    """
    if not isinstance(name, str) or name not in published_names():
        return None
    of_name = [published for published in PUBLISHED_WEIGHTS if published.name == name]
    if stride is None:
        return of_name[-1]
    for published in of_name:
        if (published.stride, published.network) == (stride, network):
            return published
    models = ", ".join(published.model_name for published in of_name)
    received = dataclasses.replace(of_name[0], stride=stride, network=network).model_name
    raise ValueError(f"weights={name!r} must be loaded into {models}. Received: {received}.")
