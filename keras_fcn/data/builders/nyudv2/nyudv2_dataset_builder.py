"""NYUDv2: indoor scenes with depth, in 40 classes."""

from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds

from keras_fcn.data.builders._archives import Archive, find_or_download, manual_instructions
from keras_fcn.data.builders._features import segmentation_features
from keras_fcn.data.builders._files import (
    check_image,
    check_splits,
    read_mat,
    read_names,
    shifted_class_ids,
    to_label_map,
)
from keras_fcn.data.image_files import decode
from keras_fcn.label_spaces import NYUDV2_40

ARCHIVE = Archive(
    name="nyud.tar.gz",
    folder="nyud",
    contents=("segmentation", "data/images", "data/depth", "data/hha"),
    # The authors of FCN put this collection together; no mirror and no checksum are known.
    urls=("http://dl.caffe.berkeleyvision.org/nyud.tar.gz",),
    md5=None,
)

_CLASS_IDS = shifted_class_ids(NYUDV2_40.num_classes)


class Builder(tfds.core.GeneratorBasedBuilder):
    """TFDS builder of NYUDv2."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First release."}  # noqa: RUF012
    MANUAL_DOWNLOAD_INSTRUCTIONS = manual_instructions(ARCHIVE)

    def _info(self):
        return self.dataset_info_from_configs(
            features=segmentation_features(
                "png",
                depth=tfds.features.Image(
                    shape=(None, None, 1), dtype=np.uint16, encoding_format="png"
                ),
                hha=tfds.features.Image(shape=(None, None, 3), encoding_format="png"),
            ),
            supervised_keys=("image", "label_map"),
            homepage="https://cs.nyu.edu/~silberman/datasets/nyu_depth_v2.html",
        )

    def _split_generators(self, dl_manager):
        (root,) = find_or_download([ARCHIVE], self.name, dl_manager)
        lists = {"train": "train.txt", "validation": "val.txt", "test": "test.txt"}
        names = {split: read_names(Path(__file__).with_name(file)) for split, file in lists.items()}
        check_splits(names, lambda name: _files(root, name).values(), self.name)
        return {split: self._generate_examples(root, found) for split, found in names.items()}

    def _generate_examples(self, root, names):
        for name in names:
            files = _files(root, name)
            path = files["label_map"]
            label_map = to_label_map(read_mat(path, "segmentation"), _CLASS_IDS, path)
            depth = _depth(files["depth"])
            for image in ("image", "hha"):
                check_image(files[image], {path: label_map, files["depth"]: depth})
            yield (
                name,
                {
                    "image": files["image"],
                    "label_map": label_map,
                    "depth": depth,
                    "hha": files["hha"],
                    "file_name": files["image"].name,
                },
            )


def _files(root, name):
    image = f"img_{name}.png"
    return {
        "image": root / "data" / "images" / image,
        "depth": root / "data" / "depth" / image,
        "hha": root / "data" / "hha" / image,
        "label_map": root / "segmentation" / f"img_{name}.mat",
    }


def _depth(path):
    image, _ = decode(path)
    depth = np.array(image)
    if depth.ndim != 2 or depth.min() < 0 or depth.max() > 65535:
        raise ValueError(f"{path} must hold one value of 16 bits per pixel.")
    return depth.astype("uint16")[:, :, None]
