"""pycocotools, which every score on COCO is computed with, is the oracle."""

import contextlib
import io

import numpy as np
import pytest
from data.formats.folders import files, label_map, save_image, save_json
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from keras_fcn.data.formats import import_data, regions

pytestmark = pytest.mark.any_backend

HEIGHT, WIDTH = 20, 30
CATEGORIES = [{"id": 7, "name": "dog"}, {"id": 3, "name": "cat"}]
SQUARE = [2, 2, 12, 2, 12, 12, 2, 12]
SMALL = [4, 4, 8, 4, 8, 8, 4, 8]


def instances(*annotations, categories=CATEGORIES, name="a.png", **image):
    """A JSON of one image; each annotation is (category_id, segmentation)."""
    return {
        "images": [{"id": 5, "file_name": name, "height": HEIGHT, "width": WIDTH} | image],
        "categories": categories,
        "annotations": [
            {"id": n, "image_id": 5, "category_id": category, "segmentation": segmentation}
            | {"iscrowd": int(isinstance(segmentation, dict))}
            for n, (category, segmentation) in enumerate(annotations)
        ],
    }


def run(tmp_path, content, **options):
    path = save_json(tmp_path / "in" / "instances.json", content)
    for seed, image in enumerate(content["images"]):
        save_image(tmp_path / "in" / image["file_name"].lstrip("./"), HEIGHT, WIDTH, seed=seed)
    return import_data("coco", path, tmp_path / "out", **options)


def expected(path, order):
    """The label map by COCO's own class; `order` sorts its annotations."""
    with contextlib.redirect_stdout(io.StringIO()):
        api = COCO(str(path))
    result = np.zeros((HEIGHT, WIDTH), int)
    class_ids = {category_id: n + 1 for n, category_id in enumerate(sorted(api.getCatIds()))}
    for annotation in sorted(api.loadAnns(api.getAnnIds()), key=lambda one: order(api, one)):
        result[api.annToMask(annotation) == 1] = class_ids[annotation["category_id"]]
    return result


def by_area(api, annotation):
    return -int(api.annToMask(annotation).sum()), annotation["id"]


def by_number(api, annotation):
    return annotation["id"]


def random_annotations(seed):
    random = np.random.default_rng(seed)
    for _ in range(6):
        corners = random.uniform(-4, 34, (random.integers(3, 7), 2)).round(2)
        polygons = [corners.ravel().tolist()]
        if random.random() < 0.4:
            polygons.append(random.uniform(0, 20, 6).round(2).tolist())
        yield int(random.choice([3, 7])), polygons
    blob = np.asfortranarray(random.random((HEIGHT, WIDTH)) < 0.3, "uint8")
    compressed = coco_mask.encode(blob)
    yield 7, {"size": [HEIGHT, WIDTH], "counts": compressed["counts"].decode()}
    yield 3, {"size": [HEIGHT, WIDTH], "counts": counts_of(blob)}


def counts_of(blob):
    """COCO's uncompressed run lengths: down the columns, zeros first."""
    counts, value = [0], 0
    for pixel in blob.T.ravel().tolist():
        if pixel != value:
            counts.append(0)
            value = pixel
        counts[-1] += 1
    return counts


class TestRegions:
    @pytest.mark.parametrize("seed", range(4))
    @pytest.mark.parametrize(("overlap", "order"), [("area", by_area), ("order", by_number)])
    def test_regions_are_those_of_pycocotools(self, tmp_path, seed, overlap, order):
        run(tmp_path, instances(*random_annotations(seed)), overlap=overlap)
        wanted = expected(tmp_path / "in" / "instances.json", order)
        np.testing.assert_array_equal(label_map(tmp_path / "out", "a"), wanted)
        assert len(np.unique(wanted)) == 3

    def test_the_smaller_of_two_is_on_top_wherever_it_is_in_the_file(self, tmp_path):
        run(tmp_path, instances((7, [SMALL]), (3, [SQUARE])))
        assert label_map(tmp_path / "out", "a")[6, 6] == 2
        assert label_map(tmp_path / "out", "a")[3, 3] == 1

    def test_by_order_the_last_is_on_top(self, tmp_path):
        run(tmp_path, instances((7, [SMALL]), (3, [SQUARE])), overlap="order")
        assert np.unique(label_map(tmp_path / "out", "a")).tolist() == [0, 1]

    @given(
        blob=arrays.arrays("uint8", st.tuples(*[st.integers(1, 9)] * 2), elements=st.integers(0, 1))
    )
    def test_run_lengths_of_any_mask_are_decoded(self, blob):
        size = blob.shape
        encoded = coco_mask.encode(np.asfortranarray(blob))
        for counts in (encoded["counts"], encoded["counts"].decode(), counts_of(blob)):
            region = regions.of_run_lengths({"size": list(size), "counts": counts}, size, "x")
            np.testing.assert_array_equal(regions.decode(region), blob == 1)


class TestClasses:
    def test_categories_follow_the_background_in_the_order_of_their_ids(self, tmp_path):
        report = run(tmp_path, instances((7, [SQUARE])))
        assert report.label_space.class_names == ("background", "cat", "dog")
        assert label_map(tmp_path / "out", "a").max() == 2

    def test_a_category_background_is_class_0(self, tmp_path):
        categories = [*CATEGORIES, {"id": 0, "name": "background"}]
        report = run(tmp_path, instances((0, [SMALL]), (3, [SQUARE]), categories=categories))
        assert report.label_space.class_names == ("background", "cat", "dog")
        assert label_map(tmp_path / "out", "a")[6, 6] == 0

    def test_an_image_without_annotations_is_background(self, tmp_path):
        run(tmp_path, instances())
        assert not label_map(tmp_path / "out", "a").any()

    def test_annotations_without_a_region_are_counted(self, tmp_path):
        report = run(tmp_path, instances((3, []), (3, [[1, 1, 5, 5]]), (7, [[0, 0], SQUARE])))
        assert report.left_out == {"annotations without a polygon or run lengths": 2}
        assert label_map(tmp_path / "out", "a").max() == 2


class TestFolders:
    def test_coco_s_own_layout_has_splits(self, tmp_path):
        for split, name in (("train2017", "a.png"), ("val2017", "b.png")):
            save_image(tmp_path / "coco" / split / name, HEIGHT, WIDTH)
            path = tmp_path / "coco" / "annotations" / f"instances_{split}.json"
            save_json(path, instances((3, [SQUARE]), name=name))
            save_json(path.with_name(f"captions_{split}.json"), {})
        report = import_data("coco", tmp_path / "coco", tmp_path / "out")
        assert report.num_pairs == {"train2017": 1, "val2017": 1}
        assert {"images/train2017/a.png", "labels/val2017/b.png"} <= set(files(tmp_path / "out"))

    def test_a_json_in_the_folder_of_each_split(self, tmp_path):
        for split in ("train", "valid"):
            save_image(tmp_path / "robo" / split / "a.png", HEIGHT, WIDTH)
            path = tmp_path / "robo" / split / "_annotations.coco.json"
            save_json(path, instances((3, [SQUARE])))
        report = import_data("coco", tmp_path / "robo", tmp_path / "out")
        assert report.num_pairs == {"train": 1, "valid": 1}

    def test_one_json_in_a_folder_has_no_split(self, tmp_path):
        for place in ("annotations/instances_default.json", "x.json"):
            folder = tmp_path / place.replace("/", "-")
            save_image(folder / "images" / "a.png", HEIGHT, WIDTH)
            save_json(folder / place, instances((3, [SQUARE])))
            report = import_data("coco", folder, tmp_path / "out" / folder.name)
            assert report.num_pairs == {"": 1}

    def test_cvat_s_images_of_its_only_split_are_found(self, tmp_path):
        save_image(tmp_path / "cvat" / "images" / "default" / "a.png", HEIGHT, WIDTH)
        path = tmp_path / "cvat" / "annotations" / "instances_default.json"
        save_json(path, instances((3, [SQUARE])))
        report = import_data("coco", tmp_path / "cvat", tmp_path / "out")
        assert report.num_pairs == {"": 1}

    def test_a_folder_without_json_and_a_split_with_two_are_refused(self, tmp_path):
        (tmp_path / "in" / "train").mkdir(parents=True)
        with pytest.raises(FileNotFoundError, match=r"must hold annotations/instances_SPLIT\.json"):
            import_data("coco", tmp_path / "in", tmp_path / "out")
        for name in ("a.json", "b.json"):
            save_json(tmp_path / "in" / "train" / name, instances())
        with pytest.raises(ValueError, match=r"A split must have one JSON file.*b\.json"):
            import_data("coco", tmp_path / "in", tmp_path / "out")

    def test_an_id_of_two_images_is_refused(self, tmp_path):
        content = instances()
        content["images"].append(content["images"][0] | {"file_name": "b.png"})
        with pytest.raises(ValueError, match=r"one image per id. Received twice: 5"):
            run(tmp_path, content)

    def test_an_unknown_overlap_is_refused(self, tmp_path):
        with pytest.raises(ValueError, match="`overlap` must be one of area, order"):
            run(tmp_path, instances(), overlap="size")

    def test_other_categories_in_a_split_are_refused(self, tmp_path):
        for split, name in (("train", "cat"), ("val", "dog")):
            content = instances(categories=[{"id": 1, "name": name}])
            save_json(tmp_path / "coco" / "annotations" / f"instances_{split}.json", content)
        with pytest.raises(ValueError, match="category 1 is 'dog' and 'cat'"):
            import_data("coco", tmp_path / "coco", tmp_path / "out")

    def test_two_categories_of_one_name_are_refused_with_their_ids(self, tmp_path):
        content = instances(categories=[*CATEGORIES, {"id": 9, "name": "cat"}])
        with pytest.raises(ValueError, match=r"instances\.json .*'cat' for the categories 3 and 9"):
            run(tmp_path, content)

    def test_every_name_of_the_background_is_class_0(self, tmp_path):
        names = ("Background", "_background_", "cat", "background")
        categories = [{"id": number, "name": name} for number, name in enumerate(names)]
        run(tmp_path, instances((0, [SMALL]), (2, [SQUARE]), categories=categories))
        assert label_map(tmp_path / "out", "a")[6, 6] == 0
        assert label_map(tmp_path / "out", "a")[3, 3] == 1

    def test_a_missing_image_is_named_with_the_option_for_its_folder(self, tmp_path):
        path = save_json(tmp_path / "in" / "x.json", instances())
        named = rf"names the image a\.png, which is not in {tmp_path}/in\. Pass .*--images"
        with pytest.raises(FileNotFoundError, match=named):
            import_data("coco", path, tmp_path / "out", images=tmp_path / "in")

    def test_images_may_be_elsewhere_and_in_subfolders(self, tmp_path):
        path = save_json(tmp_path / "x.json", instances(name="oslo/a.png"))
        save_image(tmp_path / "photos" / "oslo" / "a.png", HEIGHT, WIDTH)
        import_data("coco", path, tmp_path / "out", images=tmp_path / "photos")
        assert (tmp_path / "out" / "labels" / "oslo" / "a.png").is_file()


class TestRefusals:
    @pytest.mark.parametrize(
        ("segmentation", "message"),
        [
            ({"size": [20, 30], "counts": [0, 601]}, "add up to its 600 pixels. Received: 601"),
            ({"size": [20, 30], "counts": [-1, 601]}, r"add up .* Received: \[-1, 601\]"),
            ({"size": [20, 30], "counts": [300, 1.5]}, "add up"),
            (
                {"size": [30, 20], "counts": [600]},
                r"of its image, \[20, 30\]. Received: \[30, 20\]",
            ),
            ({"size": [20, 30], "counts": "0bR1"}, "compressed run lengths of its 600 pixels"),
            ({"size": [20, 30], "counts": "\x00\x01"}, "compressed run lengths"),
            ({"size": [20, 30], "counts": "o"}, "compressed run lengths"),
            ({"size": [20, 30]}, "compressed run lengths .* Received: None"),
            ([[1, 1, 5, 1, float("nan"), 5]], "polygons of at least 3 points"),
            ([[1, 1, 5, 1, 1e9, 5]], "near the image. Received: 1000000000.0"),
            ([[1, 1, 5, 1, "6", 5]], "polygons .* Received: '6'"),
            ([[1, 1, 5, 1, 6, 5, 3]], "polygons"),
            (["12"], "polygons"),
        ],
    )
    def test_a_damaged_region_is_refused_with_file_image_and_annotation(
        self, tmp_path, segmentation, message
    ):
        with pytest.raises(ValueError, match=rf"instances\.json: a\.png, annotation 0 .*{message}"):
            run(tmp_path, instances((3, segmentation)))
        assert files(tmp_path / "out") == ["import.json"]

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ([], "must hold lists of images, annotations, categories.* Received: list"),
            ({"images": []}, r"Received: \['images'\]"),
            (instances((9, [SQUARE])), "category_id=9 of annotation 0"),
            (instances(name="../a.png"), "relative paths without '..'"),
            (instances() | {"images": [{"id": 5}]}, "each of images must have file_name"),
            (instances() | {"annotations": instances((3, [SQUARE]))["annotations"], "images": []},
             "must have the image of each annotation. Received: image_id=5"),
            (instances(categories=[{"id": "x", "name": "cat"}]), "categories of id and name"),
            (instances(categories=[]), "at least 2 classes"),
        ],
    )  # fmt: skip
    def test_what_is_no_such_json_is_refused(self, tmp_path, content, message):
        path = save_json(tmp_path / "x.json", content)
        save_image(tmp_path / "a.png", HEIGHT, WIDTH)
        with pytest.raises(ValueError, match=message):
            import_data("coco", path, tmp_path / "out")

    def test_a_json_that_ends_too_early_is_refused(self, tmp_path):
        (tmp_path / "x.json").write_text('{"images": [')
        with pytest.raises(ValueError, match=r"x\.json cannot be read as JSON"):
            import_data("coco", tmp_path / "x.json", tmp_path / "out")

    def test_another_image_than_the_labelled_one_is_refused(self, tmp_path):
        with pytest.raises(ValueError, match=r"size of its image a, 30x20.* Received: 31x20"):
            run(tmp_path, instances(width=31))
