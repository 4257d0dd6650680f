"""SIFT Flow: outdoor scenes with semantic and geometric classes."""

from pathlib import Path

import tensorflow_datasets as tfds

from keras_fcn.data.builders._archives import Archive, find_or_download, manual_instructions
from keras_fcn.data.builders._features import label_map_feature, segmentation_features
from keras_fcn.data.builders._files import (
    check_image,
    check_splits,
    read_mat,
    read_names,
    shifted_class_ids,
    to_label_map,
)
from keras_fcn.label_spaces import SIFT_FLOW, SIFT_FLOW_GEOMETRIC

ARCHIVE = Archive(
    name="SiftFlowDataset.zip",
    folder="SiftFlowDataset",
    contents=("Images", "SemanticLabels", "GeoLabels"),
    # No mirror and no checksum are known.
    urls=("http://www.cs.unc.edu/~jtighe/Papers/ECCV10/siftflow/SiftFlowDataset.zip",),
    md5=None,
)

_SCENES = "spatial_envelope_256x256_static_8outdoorcategories"
_SEMANTIC_CLASS_IDS = shifted_class_ids(SIFT_FLOW.num_classes)
_GEOMETRIC_CLASS_IDS = {-1: 255, **shifted_class_ids(SIFT_FLOW_GEOMETRIC.num_classes)}


class Builder(tfds.core.GeneratorBasedBuilder):
    """TFDS builder of SIFT Flow."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First release."}  # noqa: RUF012
    MANUAL_DOWNLOAD_INSTRUCTIONS = manual_instructions(ARCHIVE)

    def _info(self):
        return self.dataset_info_from_configs(
            features=segmentation_features("jpeg", geometric_label_map=label_map_feature()),
            supervised_keys=("image", "label_map"),
            homepage="https://people.csail.mit.edu/celiu/SIFTflow/",
        )

    def _split_generators(self, dl_manager):
        (root,) = find_or_download([ARCHIVE], self.name, dl_manager)
        lists = {"train": "trainval.txt", "test": "test.txt"}
        names = {split: read_names(Path(__file__).with_name(file)) for split, file in lists.items()}
        check_splits(names, lambda name: _files(root, name), self.name)
        return {split: self._generate_examples(root, found) for split, found in names.items()}

    def _generate_examples(self, root, names):
        for name in names:
            image, semantic, geometric = _files(root, name)
            label_map = to_label_map(read_mat(semantic, "S"), _SEMANTIC_CLASS_IDS, semantic)
            geometric_label_map = to_label_map(
                read_mat(geometric, "S"), _GEOMETRIC_CLASS_IDS, geometric
            )
            check_image(image, {semantic: label_map, geometric: geometric_label_map})
            yield (
                name,
                {
                    "image": image,
                    "label_map": label_map,
                    "geometric_label_map": geometric_label_map,
                    "file_name": image.name,
                },
            )


def _files(root, name):
    return (
        root / "Images" / _SCENES / f"{name}.jpg",
        root / "SemanticLabels" / _SCENES / f"{name}.mat",
        root / "GeoLabels" / _SCENES / f"{name}.mat",
    )
