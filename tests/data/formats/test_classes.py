import pytest

from keras_fcn.data.formats.classes import class_names

pytestmark = pytest.mark.any_backend


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("names.txt", "no\n\ncat\ndog\n"),
        ("labelmap.txt", "# label:color_rgb:parts:actions\nno:0,0,0::\ncat:1,1,1::\ndog:2,2,2::\n"),
        ("names.json", '["no", "cat", "dog"]'),
        ("id2label.json", '{"2": "dog", "0": "no", "1": "cat"}'),
        ("space.json", '{"class_names": ["no", "cat", "dog"]}'),
        ("space.toml", 'class_names = ["no", "cat", "dog"]'),
    ],
)
def test_files_hold_the_names_in_the_order_of_the_class_ids(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    assert class_names(tmp_path / name) == ["no", "cat", "dog"]


def test_a_class_id_without_a_name_is_numbered(tmp_path):
    (tmp_path / "id2label.json").write_text('{"0": "no", "2": "dog"}')
    assert class_names(tmp_path / "id2label.json") == ["no", "class 1", "dog"]


@pytest.mark.parametrize("classes", ["no, cat,dog", ("no", "cat", "dog")])
def test_they_may_be_given_as_text_or_as_a_sequence(classes):
    assert class_names(classes) == ["no", "cat", "dog"]


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ("no,cat,no", r"no name twice. Received twice: \['no'\]"),
        ("no,,cat", "names without gaps"),
        ((), "names without gaps"),
        (("no", 3), "names without gaps"),
    ],
)
def test_names_must_be_there_once(classes, message):
    with pytest.raises(ValueError, match=message):
        class_names(classes)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.json", b"[", r"x\.json cannot be read as JSON"),
        ("x.txt", b"\xff\xfe", r"x\.txt must be a text file in UTF-8"),
    ],
)
def test_a_damaged_file_is_named(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        class_names(tmp_path / name)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"There is no file .*x\.txt"):
        class_names(tmp_path / "x.txt")
