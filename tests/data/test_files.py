import pytest

from keras_fcn.data.files import Pair, find_pairs, read_pairs_file

pytestmark = pytest.mark.any_backend


def touch(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def touch_all(folder, *names):
    for name in names:
        touch(folder / name)


def names(pairs, images, labels):
    return [
        (pair.image.relative_to(images).as_posix(), pair.label_map.relative_to(labels).as_posix())
        for pair in pairs
    ]


@pytest.fixture
def folders(tmp_path):
    """Five images of two formats with their label maps."""
    touch_all(tmp_path / "images", "0.jpg", "1.png", "2.jpg", "3.png", "4.jpg")
    touch_all(tmp_path / "labels", "0.png", "1.png", "2.png", "3.png", "4.png")
    return tmp_path / "images", tmp_path / "labels"


class TestFindPairs:
    def test_pairs_files_of_the_same_name_sorted(self, tmp_path):
        for name in ("b.JPG", "a.jpeg", "d.png", "c.bmp", "f.tiff", "e.WebP"):
            touch(tmp_path / "images" / name)
        for name in ("f.png", "e.PNG", "d.tif", "c.png", "b.png", "a.bmp"):
            touch(tmp_path / "labels" / name)
        pairs = find_pairs(tmp_path / "images", str(tmp_path / "labels"))
        assert [(pair.image.name, pair.label_map.name) for pair in pairs] == [
            ("a.jpeg", "a.bmp"),
            ("b.JPG", "b.png"),
            ("c.bmp", "c.png"),
            ("d.png", "d.tif"),
            ("e.WebP", "e.PNG"),
            ("f.tiff", "f.png"),
        ]
        assert pairs[0].image == tmp_path / "images" / "a.jpeg"

    def test_passes_over_hidden_files_folders_and_other_formats(self, folders):
        images, labels = folders
        for name in ("._0.jpg", ".DS_Store", "Thumbs.db", "0.json"):
            (images / name).write_bytes(b"x")
        (images / "more.png").mkdir()
        assert len(find_pairs(images, labels)) == 5

    def test_names_keep_their_inner_dots(self, tmp_path):
        touch(tmp_path / "images" / "a.1.png")
        touch(tmp_path / "labels" / "a.1.png")
        assert len(find_pairs(tmp_path / "images", tmp_path / "labels")) == 1

    @pytest.mark.parametrize("missing", ["images", "labels"])
    def test_names_the_folder_that_is_missing(self, folders, missing):
        given = dict(zip(("images", "labels"), folders, strict=True))
        given[missing] = given[missing] / "nowhere"
        with pytest.raises(
            FileNotFoundError, match=rf"`{missing}` \(--{missing}\) must be a .*nowhere"
        ):
            find_pairs(**given)

    def test_names_what_an_image_folder_without_images_holds(self, folders):
        images, labels = folders
        empty = images.parent / "empty"
        empty.mkdir()
        with pytest.raises(ValueError, match=r"`images` must be a folder of .*\.png.*no files"):
            find_pairs(empty, labels)
        (empty / "list.txt").write_text("")
        with pytest.raises(ValueError, match=r"1 other file: list\.txt"):
            find_pairs(empty, labels)

    def test_does_not_take_jpeg_files_for_label_maps(self, tmp_path):
        touch(tmp_path / "images" / "a.png")
        touch(tmp_path / "labels" / "a.jpg")
        with pytest.raises(ValueError, match=r"`labels` must be a folder of .* files.*a\.jpg"):
            find_pairs(tmp_path / "images", tmp_path / "labels")

    def test_without_any_match_counts_both_folders_and_shows_a_name_of_each(self, tmp_path):
        for name in ("a", "b"):
            touch(tmp_path / "images" / f"{name}.png")
            touch(tmp_path / "labels" / f"{name}_labels.png")
        touch(tmp_path / "labels" / "c_labels.png")
        with pytest.raises(
            ValueError, match=r"2 images such as a\.png in .* 3 label maps such as a_labels\.png"
        ):
            find_pairs(tmp_path / "images", tmp_path / "labels")

    def test_names_the_first_images_without_a_label_map(self, folders):
        images, labels = folders
        for name in ("0", "2", "3", "4"):
            (labels / f"{name}.png").unlink()
        with pytest.raises(ValueError, match=r"4 of 5 images.*: 0\.jpg, 2\.jpg, 3\.png, \.\.\."):
            find_pairs(images, labels)

    def test_warns_of_label_maps_without_an_image_and_leaves_them_out(self, folders):
        images, labels = folders
        (images / "1.png").unlink()
        with pytest.warns(UserWarning, match=r"1 of 5 label maps .* left out: 1\.png\."):
            pairs = find_pairs(images, labels)
        assert [pair.image.stem for pair in pairs] == ["0", "2", "3", "4"]

    @pytest.mark.parametrize(("place", "name"), [(0, "phone.HEIC"), (1, "0_mask.gif")])
    def test_warns_of_images_of_other_formats_and_leaves_them_out(self, folders, place, name):
        touch(folders[place] / name)
        with pytest.warns(UserWarning, match=rf"1 image in .* left out: {name}\. Formats must be"):
            assert len(find_pairs(*folders)) == 5

    def test_refuses_two_files_of_one_name(self, folders):
        images, labels = folders
        touch(images / "0.png")
        with pytest.raises(ValueError, match=r"one file per name. Received: 0\.jpg and 0\.png"):
            find_pairs(images, labels)

    def test_refuses_one_folder_for_both(self, folders):
        _, labels = folders
        with pytest.raises(ValueError, match="must be two folders"):
            find_pairs(labels, labels)


class TestSubfolders:
    def test_relative_paths_are_the_names(self, tmp_path):
        images, labels = tmp_path / "images", tmp_path / "labels"
        touch_all(images, "b.png", "oslo/a.jpg", "oslo/old/a.png", "bern/a.webp")
        touch_all(labels, "b.png", "oslo/a.png", "oslo/old/a.tif", "bern/a.png")
        assert names(find_pairs(images, labels, recursive=True), images, labels) == [
            ("b.png", "b.png"),
            ("bern/a.webp", "bern/a.png"),
            ("oslo/a.jpg", "oslo/a.png"),
            ("oslo/old/a.png", "oslo/old/a.tif"),
        ]

    def test_without_recursive_they_are_passed_over(self, folders):
        images, labels = folders
        touch(images / "oslo" / "9.png")
        assert len(find_pairs(images, labels)) == 5

    def test_an_image_without_a_label_map_is_named_with_its_folder(self, folders):
        images, labels = folders
        touch(images / "oslo" / "0.png")
        with pytest.raises(ValueError, match=r"1 of 6 images .*: oslo/0\.png\."):
            find_pairs(images, labels, recursive=True)

    def test_hidden_folders_are_passed_over(self, folders):
        images, labels = folders
        touch(images / ".cache" / "9.png")
        assert len(find_pairs(images, labels, recursive=True)) == 5

    def test_links_to_folders_are_followed(self, tmp_path, folders):
        (tmp_path / "all").mkdir()
        for kind, folder in zip(("i", "l"), folders, strict=True):
            touch(tmp_path / "all" / kind / "x.png")
            (tmp_path / "all" / kind / "more").symlink_to(folder)
        pairs = find_pairs(tmp_path / "all" / "i", tmp_path / "all" / "l", recursive=True)
        assert len(pairs) == 6

    def test_a_link_that_leads_nowhere_is_not_passed_over(self, tmp_path, folders):
        images, labels = folders
        (images / "lost.png").symlink_to(tmp_path / "unmounted" / "lost.png")
        with pytest.raises(ValueError, match=r"have no label map in .*: .*lost\.png"):
            find_pairs(images, labels)

    @pytest.mark.parametrize("recursive", [False, True])
    def test_a_folder_inside_the_other_belongs_to_itself(self, tmp_path, recursive):
        touch_all(tmp_path, "0.png", "1.png", "inner/0.png", "inner/1.png")
        inner = tmp_path / "inner"
        for images, labels in ((tmp_path, inner), (inner, tmp_path)):
            found = names(find_pairs(images, labels, recursive=recursive), images, labels)
            assert found == [("0.png", "0.png"), ("1.png", "1.png")]

    def test_a_folder_of_folders_points_to_recursive(self, tmp_path, folders):
        touch(tmp_path / "deep" / "oslo" / "0.png")
        with pytest.raises(ValueError, match=r"no files and subfolders.* recursive=True"):
            find_pairs(tmp_path / "deep", folders[1])


class TestReadPairsFile:
    def write(self, folder, text):
        path = folder / "train.txt"
        path.write_text(text, encoding="utf-8")
        return path

    def test_lines_hold_an_image_and_its_label_map(self, tmp_path, folders):
        images, labels = folders
        path = self.write(
            tmp_path,
            "# image label_map\n\n"
            "images/3.png labels/3.png\n"
            "  \n"
            f"{images / '0.jpg'}\t{labels / '4.png'}\n"
            "images/1.png   labels/1.png",
        )
        assert read_pairs_file(str(path)) == [
            Pair(images / "3.png", labels / "3.png"),
            Pair(images / "0.jpg", labels / "4.png"),
            Pair(images / "1.png", labels / "1.png"),
        ]

    @pytest.mark.parametrize("line", ["a b.png\tc d.png", '"a b.png" "c d.png"'])
    def test_names_with_spaces(self, tmp_path, line):
        touch_all(tmp_path, "a b.png", "c d.png")
        expected = Pair(tmp_path / "a b.png", tmp_path / "c d.png")
        assert read_pairs_file(self.write(tmp_path, line)) == [expected]

    def test_backslashes_stay_as_they_are(self, tmp_path):
        touch_all(tmp_path, "a\\b.png", "c\\d.png")
        expected = Pair(tmp_path / "a\\b.png", tmp_path / "c\\d.png")
        assert read_pairs_file(self.write(tmp_path, "a\\b.png c\\d.png")) == [expected]

    def test_takes_files_written_on_windows(self, tmp_path, folders):
        path = tmp_path / "train.txt"
        path.write_bytes(b"\xef\xbb\xbfimages/0.jpg labels/0.png\r\nimages/1.png labels/1.png\r\n")
        assert len(read_pairs_file(path)) == 2

    @pytest.mark.parametrize("line", ["images/1.png", "a b c", "images/1.png\t", "a\tb\tc"])
    def test_another_number_of_names_is_refused_by_file_and_line(self, tmp_path, folders, line):
        path = self.write(tmp_path, f"\nimages/0.jpg labels/0.png\n{line}\n")
        with pytest.raises(ValueError, match=r"train\.txt, line 3: must hold an image and its"):
            read_pairs_file(path)

    def test_an_open_quote_is_refused_by_file_and_line(self, tmp_path):
        with pytest.raises(ValueError, match=r"train\.txt, line 1: No closing quotation"):
            read_pairs_file(self.write(tmp_path, "'a b"))

    @pytest.mark.parametrize("line", ["images/9.png labels/0.png", "images/0.jpg labels/9.png"])
    def test_a_missing_file_is_named_with_file_and_line(self, tmp_path, folders, line):
        path = self.write(tmp_path, f"# split\n{line}\n")
        with pytest.raises(FileNotFoundError, match=r"train\.txt, line 2: there is no .*9\.png"):
            read_pairs_file(path)

    def test_an_image_named_twice_is_refused(self, tmp_path, folders):
        path = self.write(tmp_path, "images/0.jpg labels/0.png\n" * 2)
        with pytest.raises(ValueError, match=r"line 2: line 1 names .*0\.jpg already"):
            read_pairs_file(path)

    def test_refuses_a_file_without_pairs(self, tmp_path):
        with pytest.raises(ValueError, match=r"train\.txt must name at least one image"):
            read_pairs_file(self.write(tmp_path, "# nothing\n"))

    def test_refuses_a_file_that_is_no_text(self, tmp_path):
        path = tmp_path / "train.txt"
        path.write_bytes(b"\x89PNG\xff\xfe")
        with pytest.raises(ValueError, match=r"train\.txt must be a text file in UTF-8"):
            read_pairs_file(path)

    def test_names_a_file_that_is_not_there(self, tmp_path):
        with pytest.raises(FileNotFoundError, match=r"gone\.txt"):
            read_pairs_file(tmp_path / "gone.txt")
