"""The data sets are written by the package `datasets`."""

import datasets
import numpy as np
import pytest
from data.formats.folders import label_map, rows, save_array, save_image
from PIL import Image

from keras_fcn.data.formats import import_data

pytestmark = pytest.mark.any_backend

IDS = rows("0001 0021 0221")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    datasets.disable_progress_bars()


def data_set(tmp_path, *shifts, columns=("image", "label"), suffix="jpg", inside=False):
    """A data set of a photo and a label map for each shift of its values."""
    place, cells = tmp_path / "files", {name: [] for name in columns}
    for shift in shifts:
        photo = save_image(place / f"{shift}.{suffix}", 3, 4, seed=shift)
        labels = save_array(place / f"label{shift}.png", np.where(IDS, IDS + shift, 0))
        for name, path in zip(columns, (photo, labels, photo), strict=False):
            inner = {"bytes": path.read_bytes(), "path": path.name}
            cells[name].append(inner if inside else str(path))
    features = datasets.Features({name: datasets.Image() for name in columns})
    return datasets.Dataset.from_dict(cells, features).add_column("n", list(shifts))


def run(tmp_path, source="in", **options):
    return import_data("hf", tmp_path / source, tmp_path / "out", **options)


class TestSources:
    def test_a_folder_of_save_to_disk_keeps_its_splits(self, tmp_path):
        splits = {"train": data_set(tmp_path, 0, 1), "validation": data_set(tmp_path, 2)}
        datasets.DatasetDict(splits).save_to_disk(tmp_path / "in")
        report = run(tmp_path)
        assert report.num_pairs == {"train": 2, "validation": 1}
        np.testing.assert_array_equal(label_map(tmp_path / "out", "train/000000"), IDS)
        photo = tmp_path / "out" / "images" / "train" / "000001.jpg"
        assert photo.read_bytes() == (tmp_path / "files" / "1.jpg").read_bytes()
        assert run(tmp_path).written == 0

    def test_a_data_set_without_splits(self, tmp_path):
        data_set(tmp_path, 0).save_to_disk(tmp_path / "in")
        assert run(tmp_path).num_pairs == {"": 1}

    @pytest.mark.parametrize("source", ["in", "in/train.parquet"])
    def test_parquet_with_the_images_inside(self, tmp_path, source):
        (tmp_path / "in").mkdir()
        data_set(tmp_path, 0, suffix="png", inside=True).to_parquet(
            tmp_path / "in" / "train.parquet"
        )
        photo = (tmp_path / "files" / "0.png").read_bytes()
        for path in (tmp_path / "files").iterdir():
            path.unlink()
        split = "" if source.endswith("parquet") else "train"
        assert run(tmp_path, source).num_pairs == {split: 1}
        assert (tmp_path / "out" / "images" / split / "000000.png").read_bytes() == photo

    def test_a_folder_that_is_no_data_set_is_refused(self, tmp_path):
        (tmp_path / "in").mkdir()
        with pytest.raises(FileNotFoundError, match="must be a data set of Hugging Face"):
            run(tmp_path)

    def test_a_stored_data_set_without_rows_is_refused(self, tmp_path):
        data_set(tmp_path, 0).select([]).save_to_disk(tmp_path / "in", num_shards=1)
        with pytest.raises(ValueError, match=r"data set of Hugging Face|at least one image"):
            run(tmp_path)


class TestColumns:
    def test_the_only_other_column_of_images_holds_the_label_maps(self, tmp_path):
        data_set(tmp_path, 0, columns=("pixel_values", "what")).save_to_disk(tmp_path / "in")
        run(tmp_path)
        np.testing.assert_array_equal(label_map(tmp_path / "out", "000000"), IDS)

    def test_of_several_columns_one_must_be_named(self, tmp_path):
        columns = ("photo", "what", "depth")
        data_set(tmp_path, 0, columns=columns).save_to_disk(tmp_path / "in")
        message = "Received: no choice among photo, what, depth"
        with pytest.raises(ValueError, match=message):
            run(tmp_path, image_column="photo")
        run(tmp_path, image_column="photo", label_column="what")
        np.testing.assert_array_equal(label_map(tmp_path / "out", "000000"), IDS)

    def test_one_column_for_both_is_refused(self, tmp_path):
        data_set(tmp_path, 0).save_to_disk(tmp_path / "in")
        with pytest.raises(ValueError, match=r"must be two columns\. Received: image for both"):
            run(tmp_path, label_column="image")

    def test_a_column_that_is_none_of_images_is_refused(self, tmp_path):
        data_set(tmp_path, 0).save_to_disk(tmp_path / "in")
        with pytest.raises(ValueError, match=r"Received: n among image, label.*`label_column`"):
            run(tmp_path, label_column="n")


class TestClasses:
    def test_without_names_they_are_numbered_up_to_the_largest(self, tmp_path):
        data_set(tmp_path, 0, 3).save_to_disk(tmp_path / "in")
        report = run(tmp_path)
        assert report.label_space.num_classes == 6
        assert report.label_space.ignore_class is None

    def test_255_is_ignored(self, tmp_path):
        # 2 becomes 255.
        data_set(tmp_path, 253, inside=True).save_to_disk(tmp_path / "in")
        report = run(tmp_path)
        assert report.label_space.num_classes == 255
        assert report.label_space.ignore_class == 255

    @pytest.mark.parametrize("classes", [None, "background,cat"])
    def test_masks_of_0_and_255_are_refused(self, tmp_path, classes):
        mask = data_set(tmp_path, 0).with_format(None)[0] | {"label": Image.fromarray(IDS > 0)}
        mask["label"] = mask["label"].convert("L")
        features = datasets.Features({name: datasets.Image() for name in ("image", "label")})
        cells = {name: [mask[name]] for name in features}
        datasets.Dataset.from_dict(cells, features).save_to_disk(tmp_path / "in")
        with pytest.raises(ValueError, match=r"Received: 0 and 255 alone.*\(--map 255=1\)\.$"):
            run(tmp_path, classes=classes)

    def test_below_a_larger_class_id_255_is_a_class(self, tmp_path):
        values = np.array([[0, 255, 299]], "uint16")
        photo = save_image(tmp_path / "photo.png", 1, 3)
        Image.fromarray(values).save(tmp_path / "label.png")
        cells = {"image": [str(photo)], "label": [str(tmp_path / "label.png")]}
        features = datasets.Features({name: datasets.Image() for name in cells})
        datasets.Dataset.from_dict(cells, features).save_to_disk(tmp_path / "in")
        report = run(tmp_path)
        assert report.label_space.num_classes == 300
        assert report.label_space.ignore_class is None
        np.testing.assert_array_equal(label_map(tmp_path / "out", "000000"), values)

    def test_a_value_without_a_name_is_refused_with_its_row(self, tmp_path):
        data_set(tmp_path, 0, 1).save_to_disk(tmp_path / "in")
        with pytest.raises(
            ValueError, match=r"in, row 1 must hold .* Received: 3 at row 1, column 2"
        ):
            run(tmp_path, classes="no,cat,dog")

    def test_names_of_a_json_of_ids(self, tmp_path):
        data_set(tmp_path, 0).save_to_disk(tmp_path / "in")
        (tmp_path / "id2label.json").write_text('{"0": "no", "1": "cat", "2": "dog"}')
        report = run(tmp_path, classes=tmp_path / "id2label.json")
        assert report.label_space.class_names == ("no", "cat", "dog")


def test_a_label_map_of_colours_is_refused_with_its_row(tmp_path):
    data = data_set(tmp_path, 0)
    Image.new("RGB", (4, 3), (1, 2, 3)).save(tmp_path / "files" / "label0.png")
    data.save_to_disk(tmp_path / "in")
    with pytest.raises(
        ValueError,
        match=r"The label of .*, row 0 must hold one class id per pixel.* data import masks\.",
    ):
        run(tmp_path)
    assert not (tmp_path / "out").exists()
