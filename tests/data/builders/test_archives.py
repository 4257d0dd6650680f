import hashlib
import time

import pytest
import tensorflow_datasets as tfds
from data.builders.fakes import pack, save_image, served
from tensorflow_datasets.core.download import extractor

from keras_fcn.data.builders._archives import Archive, find_or_download, manual_instructions

pytestmark = pytest.mark.any_backend

CONTENTS = ("JPEGImages", "lists/train.txt")


@pytest.fixture
def tree(tmp_path):
    """What is in the archive: VOCdevkit/VOC2012 and its contents."""
    data = tmp_path / "tree" / "VOCdevkit" / "VOC2012"
    save_image(data / "JPEGImages" / "a.png")
    (data / "lists").mkdir()
    (data / "lists" / "train.txt").write_text("a\n")
    return tmp_path / "tree"


@pytest.fixture
def content(tree, tmp_path):
    return pack(tree, tmp_path / "voc.tar").read_bytes()


@pytest.fixture
def manager(tmp_path):
    return new_manager(tmp_path)


def new_manager(tmp_path, manual_dir=None):
    return tfds.download.DownloadManager(
        download_dir=tmp_path / "downloads",
        manual_dir=manual_dir or tmp_path / "manual",
        manual_dir_instructions="see the test",
    )


def archive(*urls, name="voc.tar", md5=None):
    return Archive(name, "VOCdevkit/VOC2012", CONTENTS, urls, md5)


def md5_of(content):
    return hashlib.md5(content).hexdigest()


def find(wanted, manager):
    (folder,) = find_or_download([wanted], "voc", manager)
    return folder


class TestManualDir:
    @pytest.mark.parametrize(
        "place", ["VOCdevkit/VOC2012", "VOC2012", ".", "voc/VOCdevkit/VOC2012", "voc"]
    )
    def test_takes_the_extracted_folder(self, tree, manager, tmp_path, place):
        target = tmp_path / "manual" / place
        target.parent.mkdir(parents=True, exist_ok=True)
        (tree / "VOCdevkit" / "VOC2012").rename(target)
        assert find(archive("http://127.0.0.1:1/never"), manager).samefile(target)

    @pytest.mark.parametrize("place", [".", "link"])
    def test_a_folder_of_another_year_is_none_of_this_one(self, tree, tmp_path, place):
        other = tmp_path / "VOC2011"
        (tree / "VOCdevkit" / "VOC2012").rename(other)
        (tmp_path / "link").symlink_to(other)
        manager = new_manager(tmp_path, other / place if place == "." else tmp_path / place)
        with pytest.raises(FileNotFoundError, match=r"VOC2012 with .* is at .*VOCdevkit/VOC2012"):
            find(archive(), manager)

    @pytest.mark.parametrize("name", ["voc.tar", "voc.tar.gz", "voc.tgz", "voc.zip"])
    def test_takes_the_archive_and_downloads_nothing(self, tree, manager, tmp_path, name):
        pack(tree, tmp_path / "manual" / name)
        with served({}) as (address, asked):
            folder = find(archive(f"{address}/{name}", name=name), manager)
        assert (folder / "JPEGImages" / "a.png").is_file()
        assert asked == []

    def test_warns_of_an_archive_with_another_checksum(self, tree, manager, tmp_path):
        path = pack(tree, tmp_path / "manual" / "voc.tar")
        with pytest.warns(
            UserWarning, match=f"{path} has the MD5 checksum .* not the .* {'0' * 32}"
        ) as caught:
            find(archive(md5="0" * 32), manager)
        assert "keras_fcn" in caught[0].filename  # The command line prints no others.

    def test_refuses_an_archive_of_something_else(self, tree, manager, tmp_path):
        (tree / "VOCdevkit" / "VOC2012" / "lists" / "train.txt").unlink()
        pack(tree, tmp_path / "manual" / "voc.tar")
        with pytest.raises(ValueError, match=r"voc\.tar must hold VOCdevkit/VOC2012/ with JPEGIm"):
            find(archive(), manager)

    @pytest.mark.parametrize("name", ["voc.tar", "voc.tgz", "voc.zip"])
    def test_a_damaged_archive_is_named(self, tree, manager, tmp_path, name):
        path = pack(tree, tmp_path / "manual" / name)
        path.write_bytes(path.read_bytes()[:100])
        with pytest.raises(ValueError, match=rf"(?s){path} cannot be unpacked: .* complete copy"):
            find(archive(name=name), manager)

    @pytest.mark.parametrize("content", [b"", b"<html>This server has moved.</html>"])
    @pytest.mark.parametrize("name", ["voc.tgz", "voc.zip"])
    def test_a_file_that_is_no_archive_is_named_in_one_line(self, manager, tmp_path, name, content):
        path = tmp_path / "manual" / name
        path.parent.mkdir()
        path.write_bytes(content)
        reason = f"{path} cannot be unpacked: it is no {path.suffix} archive. If .*copy\\.$"
        with pytest.raises(ValueError, match=reason):
            find(archive(name=name), manager)

    def test_an_archive_of_another_year_is_refused(self, tree, manager, tmp_path):
        (tree / "VOCdevkit" / "VOC2012").rename(tree / "VOCdevkit" / "VOC2011")
        pack(tree, tmp_path / "manual" / "voc.tar")
        with pytest.raises(ValueError, match=r"voc\.tar must hold VOCdevkit/VOC2012/ with JPEGIm"):
            find(archive(), manager)

    def test_an_archive_in_the_place_of_another_is_unpacked_anew(self, tree, manager, tmp_path):
        path = pack(tree, tmp_path / "manual" / "voc.tar")
        assert (find(archive(), manager) / "lists" / "train.txt").read_text() == "a\n"
        (tree / "VOCdevkit" / "VOC2012" / "lists" / "train.txt").write_text("b\n")
        time.sleep(0.02)  # A file system may count time in ticks of 10 ms.
        pack(tree, tmp_path / "new.tar").replace(path)
        assert (find(archive(), manager) / "lists" / "train.txt").read_text() == "b\n"

    def test_an_older_archive_in_another_folder_is_unpacked(self, tree, manager, tmp_path):
        names = tree / "VOCdevkit" / "VOC2012" / "lists" / "train.txt"
        for place, name in (("older", "b"), ("manual", "a")):
            names.write_text(f"{name}\n")
            pack(tree, tmp_path / place / "voc.tar")
        assert (find(archive(), manager) / "lists" / "train.txt").read_text() == "a\n"
        older = new_manager(tmp_path, tmp_path / "older")
        assert (find(archive(), older) / "lists" / "train.txt").read_text() == "b\n"

    def test_what_another_process_unpacks_meanwhile_stays(
        self, tree, manager, tmp_path, monkeypatch
    ):
        """TFDS would remove it, while the other process reads it."""
        pack(tree, tmp_path / "manual" / "voc.tar")
        iter_archive, other = extractor.iter_archive, []

        def unpack_twice(*arguments):
            if not other:
                other.append(None)
                folder = find(archive(), new_manager(tmp_path))
                other[:] = [(folder, folder.stat().st_ino)]
            return iter_archive(*arguments)

        monkeypatch.setattr(extractor, "iter_archive", unpack_twice)
        folder = find(archive(), manager)
        assert other == [(folder, folder.stat().st_ino)]
        assert [path.name for path in (tmp_path / "downloads" / "extracted").iterdir()] == [
            "TAR.voc.tar"
        ]

    def test_an_incomplete_folder_does_not_hide_the_archive(self, tree, manager, tmp_path):
        (tmp_path / "manual" / "VOC2012" / "JPEGImages").mkdir(parents=True)
        pack(tree, tmp_path / "manual" / "voc.tar")
        assert (find(archive(), manager) / "lists" / "train.txt").is_file()


class TestDownload:
    def test_a_second_time_nothing_is_asked_for(self, content, manager):
        with served({"/voc.tar": content}) as (address, asked):
            first = find(archive(f"{address}/voc.tar", md5=md5_of(content)), manager)
            second = find(archive(f"{address}/voc.tar", md5=md5_of(content)), manager)
        assert (first / "JPEGImages" / "a.png").is_file()
        assert second == first
        assert asked == ["/voc.tar"]

    @pytest.mark.parametrize("failure", ["missing", "other checksum", "cut off", "web page"])
    def test_the_mirror_answers_where_the_official_address_fails(self, content, manager, failure):
        official = {
            "missing": 404,
            "other checksum": content + b"\0",
            "cut off": (content[:100], len(content)),
            "web page": b"<html>This server has moved.</html>",
        }[failure]
        md5 = None if failure == "web page" else md5_of(content)
        with served({"/official/voc.tar": official, "/mirror/voc.tar": content}) as (
            address,
            asked,
        ):
            urls = (f"{address}/official/voc.tar", f"{address}/mirror/voc.tar")
            folder = find(archive(*urls, md5=md5), manager)
        assert (folder / "JPEGImages" / "a.png").is_file()
        assert asked == ["/official/voc.tar", "/mirror/voc.tar"]

    def test_an_archive_that_the_server_cut_off_early_is_none(self, tree, manager, tmp_path):
        whole = pack(tree, tmp_path / "voc.tgz").read_bytes()
        with served({"/cut/voc.tgz": whole[:60], "/voc.tgz": whole}) as (address, asked):
            urls = (f"{address}/cut/voc.tgz", f"{address}/voc.tgz")
            folder = find(archive(*urls, name="voc.tgz"), manager)
        assert (folder / "JPEGImages" / "a.png").is_file()
        assert asked == ["/cut/voc.tgz", "/voc.tgz"]

    def test_the_error_names_every_address_with_its_reason_and_the_way_out(
        self, content, manager, tmp_path
    ):
        with served({"/b/voc.tar": content}) as (address, _):
            urls = (f"{address}/a/voc.tar", f"{address}/b/voc.tar", "http://127.0.0.1:1/voc.tar")
            with pytest.raises(FileNotFoundError) as raised:
                find(archive(*urls, md5="0" * 32), manager)
        lines = str(raised.value).splitlines()
        assert lines[0] == "voc cannot be built. voc.tar could not be downloaded:"
        assert lines[1] == f"  {urls[0]}: HTTP Error 404: Not Found"
        assert lines[2] == (
            f"  {urls[1]}: voc.tar must have the MD5 checksum {'0' * 32}, but has {md5_of(content)}"
        )
        assert lines[3].startswith(f"  {urls[2]}: <urlopen error [Errno 111] Connection refused>")
        manual = tmp_path / "manual"
        assert lines[4] == (
            f"Download it elsewhere and save it as {manual}/voc.tar, or unpack it so that "
            f"VOCdevkit/VOC2012 with JPEGImages, lists/train.txt is at "
            f"{manual}/VOCdevkit/VOC2012. Pass `manual_dir` to use another folder than {manual}."
        )

    def test_the_error_names_every_archive_that_is_missing(self, manager):
        wanted = [archive(name="one.tar"), archive(name="two.zip")]
        with pytest.raises(FileNotFoundError, match=r"(?s)one\.tar could not.*two\.zip could not"):
            find_or_download(wanted, "voc", manager)

    def test_nothing_is_left_of_a_failed_download(self, content, manager, tmp_path):
        with (
            served({"/voc.tar": (content[:100], len(content))}) as (address, _),
            pytest.raises(FileNotFoundError, match=r"announced \d+ bytes, but sent 100"),
        ):
            find(archive(f"{address}/voc.tar"), manager)
        left = [path for path in (tmp_path / "downloads").rglob("*") if path.is_file()]
        assert left == []

    def test_archives_of_one_name_of_two_data_sets_are_kept_apart(self, tree, manager, tmp_path):
        one = pack(tree, tmp_path / "one.tar").read_bytes()
        (tree / "VOCdevkit" / "VOC2012" / "lists" / "train.txt").write_text("b\n")
        other = pack(tree, tmp_path / "other.tar").read_bytes()
        with served({"/one/voc.tar": one, "/other/voc.tar": other}) as (address, _):
            for data_set, line in {"one": "a\n", "other": "b\n"}.items():
                wanted = archive(f"{address}/{data_set}/voc.tar")
                (folder,) = find_or_download([wanted], data_set, manager)
                assert (folder / "lists" / "train.txt").read_text() == line


def test_the_instructions_name_the_archives_and_their_folders():
    text = manual_instructions(archive(), archive(name="sbd.tgz"))
    assert "voc.tar, or VOCdevkit/VOC2012/ from it\nsbd.tgz, or" in text
