"""PASCAL-Context: whole scenes of PASCAL VOC 2010."""

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

VOC_2010 = Archive(
    name="VOCtrainval_03-May-2010.tar",
    folder="VOCdevkit/VOC2010",
    contents=("JPEGImages", "ImageSets/Main"),
    # No mirror of this year is known; the checksum is torchvision's.
    urls=("http://host.robots.ox.ac.uk/pascal/VOC/voc2010/VOCtrainval_03-May-2010.tar",),
    md5="da459979d0c395079b5c75ee67908abb",
)
CONTEXT = Archive(
    name="trainval.tar.gz",
    folder="pascal-context",
    contents=("trainval",),
    urls=(
        "https://www.cs.stanford.edu/~roozbeh/pascal-context/trainval.tar.gz",
        "https://roozbehm.info/pascal-context/trainval.tar.gz",
    ),
    # No checksum was published.
    md5=None,
)

# The benchmark's names of three classes -> the annotators' names among their 459 classes.
_RENAMED = {"diningtable": "table", "bedcloth": "bedclothes", "clothes": "cloth"}


class Builder(tfds.core.GeneratorBasedBuilder):
    """TFDS builder of PASCAL-Context with 59 classes and background."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First release."}  # noqa: RUF012
    MANUAL_DOWNLOAD_INSTRUCTIONS = manual_instructions(VOC_2010, CONTEXT)

    def _info(self):
        return self.dataset_info_from_configs(
            features=segmentation_features("jpeg"),
            supervised_keys=("image", "label_map"),
            homepage="https://www.cs.stanford.edu/~roozbeh/pascal-context/",
        )

    def _split_generators(self, dl_manager):
        voc, context = find_or_download([VOC_2010, CONTEXT], self.name, dl_manager)
        pairs = {}
        for split, file in {"train": "train.txt", "validation": "val.txt"}.items():
            names = read_names(voc / "ImageSets" / "Main" / file)
            pairs[split] = [
                (voc / "JPEGImages" / f"{name}.jpg", context / "trainval" / f"{name}.mat")
                for name in names
            ]
            check_files((path for pair in pairs[split] for path in pair), f"VOC 2010's {file}")
        return {split: self._generate_examples(found) for split, found in pairs.items()}

    def _generate_examples(self, pairs):
        class_ids = _class_ids()
        for image, path in pairs:
            label_map = to_label_map(read_mat(path, "LabelMap"), class_ids, path)
            check_image(image, {path: label_map})
            yield image.stem, {"image": image, "label_map": label_map, "file_name": image.name}


def _class_ids():
    """Returns a dictionary from the annotators' 459 class ids to the benchmark's; others are 0."""
    names, benchmark = _read_classes("classes-400.txt"), _read_classes("classes-59.txt")
    # The two lists write "potted plant" with and without the space.
    by_name = {name.replace(" ", ""): class_id for class_id, name in names.items()}
    class_ids = dict.fromkeys((0, *names), 0)
    for class_id, name in benchmark.items():
        if name != "background":
            class_ids[by_name[_RENAMED.get(name, name)]] = class_id
    return class_ids


def _read_classes(file):
    lines = Path(__file__).with_name(file).read_text(encoding="utf-8").splitlines()
    pairs = (line.split(": ") for line in lines)
    return {int(class_id): name.strip() for class_id, name in pairs}
