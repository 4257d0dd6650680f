"""Names that the disk and a document write in two Unicode forms, as files from macOS do."""

import os
import unicodedata

import numpy as np
import pytest
from data.formats.folders import label_map, save_array, save_image, save_json

from keras_fcn.data.formats import import_data

pytestmark = pytest.mark.any_backend
PHOTO, CLASS = "거리é", "고양이"
SQUARE = np.zeros((6, 8), int)
SQUARE[:3, :4] = 1
BOX = {"x": 0, "y": 0, "width": 50, "height": 50, "rotation": 0, "rectanglelabels": ["cat"]}


@pytest.fixture(params=["NFC", "NFD"])
def forms(request):
    """Functions that write a name as the disk does, and as the document does."""
    other = {"NFC": "NFD", "NFD": "NFC"}[request.param]
    return [
        lambda name, form=form: unicodedata.normalize(form, name) for form in (request.param, other)
    ]


def write(format, folder, on_disk, in_document):
    """Writes a photo and its labels; returns the source and the options."""
    images, photo = folder / "images", f"{in_document(PHOTO)}.jpg"
    image = save_image(images / on_disk("도시") / f"{on_disk(PHOTO)}.jpg")
    named, options = f"{in_document('도시')}/{photo}", {"images": images}
    if format == "coco":
        content = {
            "images": [{"id": 1, "file_name": named}],
            "annotations": [
                {"image_id": 1, "category_id": 1, "segmentation": [[0, 0, 4, 0, 4, 3, 0, 3]]}
            ],
            "categories": [{"id": 1, "name": "cat"}],
        }
        return save_json(folder / "coco.json", content), options
    if format == "label-studio":
        result = {"id": "a", "original_width": 8, "original_height": 6, "value": BOX}
        task = {"data": {"image": named}, "annotations": [{"result": [result]}]}
        return save_json(folder / "tasks.json", [task]), options
    if format == "labelme":
        shape = {"label": "cat", "shape_type": "rectangle", "points": [[0, 0], [3, 2]]}
        save_json(folder / "labels" / "a.json", {"imagePath": photo, "shapes": [shape]})
        return folder / "labels", {"images": image.parent}
    if format == "rle-csv":
        (folder / "a.csv").write_text(f"ImageId,EncodedPixels\n{named},1 3 7 3 13 3 19 3\n")
        return folder / "a.csv", options
    if format == "voc":
        save_array(folder / "voc" / "SegmentationClass" / f"{on_disk(PHOTO)}.png", SQUARE)
        lists = folder / "voc" / "ImageSets" / "Segmentation"
        lists.mkdir(parents=True)
        (lists / "train.txt").write_text(f"{in_document(PHOTO)}\n", encoding="utf-8")
        return folder / "voc", {"images": image.parent, "classes": "background,cat"}
    for name in (CLASS, "개"):
        pixels = SQUARE if name == CLASS else 0 * SQUARE
        save_array(folder / "masks" / on_disk(name) / f"{on_disk(PHOTO)}.png", pixels)
    return folder / "masks", {"images": image.parent}


def only_label_map(out):
    (file,) = (out / "labels").rglob("*.png")
    return label_map(out, file.relative_to(out / "labels").with_suffix(""))


@pytest.mark.parametrize("format", ["coco", "label-studio", "labelme", "rle-csv", "voc"])
def test_an_image_is_found_in_either_form(tmp_path, forms, format):
    source, options = write(format, tmp_path, *forms)
    import_data(format, source, tmp_path / "out", **options)
    np.testing.assert_array_equal(only_label_map(tmp_path / "out"), SQUARE)


@pytest.mark.parametrize("by_default", [True, False])
def test_a_folder_of_masks_is_found_in_either_form(tmp_path, forms, by_default):
    _, in_document = forms
    source, options = write("masks", tmp_path, *forms)
    if not by_default:
        options["mapping"] = {in_document("개"): "dog", in_document(CLASS): "cat"}
    report = import_data("masks", source, tmp_path / "out", **options)
    names = ("개", CLASS) if by_default else ("dog", "cat")
    assert report.label_space.class_names == ("background", *names)
    np.testing.assert_array_equal(only_label_map(tmp_path / "out"), 2 * SQUARE)


def test_a_suffix_of_masks_is_found_in_either_form(tmp_path, forms):
    on_disk, in_document = forms
    save_image(tmp_path / "images" / f"{on_disk(PHOTO)}.jpg")
    save_array(tmp_path / "masks" / f"{on_disk(PHOTO)}_{on_disk(CLASS)}.png", SQUARE)
    import_data(
        "masks",
        tmp_path / "masks",
        tmp_path / "out",
        images=tmp_path / "images",
        mapping={in_document(f"_{CLASS}"): "cat"},
    )
    np.testing.assert_array_equal(only_label_map(tmp_path / "out"), SQUARE)


def test_a_list_of_names_that_is_not_in_utf_8_is_named(tmp_path):
    source, options = write("voc", tmp_path, str, str)
    file = source / "ImageSets" / "Segmentation" / "train.txt"
    file.write_bytes(PHOTO.encode("cp949", "ignore"))
    with pytest.raises(ValueError, match=r"train\.txt must be a text file in UTF-8"):
        import_data("voc", source, tmp_path / "out", **options)


LEGACY = os.fsdecode(PHOTO[:2].encode("cp949"))
"""A name that an archive from Windows leaves on Linux; it is not UTF-8."""


def test_names_that_are_not_utf_8_are_imported_and_continued(tmp_path):
    save_image(tmp_path / "images" / f"{LEGACY}.png")
    save_array(tmp_path / "masks" / f"{LEGACY}.png", 255 * SQUARE)
    written = [
        import_data(
            "masks", tmp_path / "masks", tmp_path / "out", images=tmp_path / "images"
        ).written
        for _ in range(2)
    ]
    assert written == [1, 0]
    np.testing.assert_array_equal(label_map(tmp_path / "out", LEGACY), SQUARE)


def test_a_class_whose_name_is_not_unicode_is_refused_before_anything_is_written(tmp_path):
    save_image(tmp_path / "images" / "a.png")
    save_array(tmp_path / "masks" / LEGACY / "a.png", 255 * SQUARE)
    with pytest.raises(ValueError, match=r"Names of classes must be Unicode text.*rename it"):
        import_data("masks", tmp_path / "masks", tmp_path / "out", images=tmp_path / "images")
    assert not (tmp_path / "out").exists()
