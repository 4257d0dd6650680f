"""Atomic writes: the old file or the new one, and nothing else in the folder."""

import errno
import os
import threading
import time

import pytest

from keras_fcn.io.atomic import atomic_folder, atomic_write, remove_leftovers

pytestmark = pytest.mark.any_backend


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "last.npz"
    path.write_text("old")
    return path


class TestAtomicWrite:
    def test_the_file_is_replaced_at_the_end_of_the_body(self, path):
        with atomic_write(path) as temporary:
            temporary.write_text("new")
            assert path.read_text() == "old"
        assert path.read_text() == "new"

    def test_the_temporary_path_has_the_name_and_the_file_system_of_the_file(self, path):
        with atomic_write(path) as temporary:
            temporary.write_text("new")
            assert temporary.name == path.name
            assert temporary.parent.parent == path.parent

    @pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
    def test_an_error_in_the_body_leaves_the_old_file_alone(self, path, error):
        def fail():
            with atomic_write(path) as temporary:
                temporary.write_text("half")
                (temporary.parent / "another").write_text("half")
                raise error

        with pytest.raises(error):
            fail()
        assert path.read_text() == "old"
        assert list(path.parent.iterdir()) == [path]

    @pytest.mark.parametrize("code", [errno.ENOSPC, errno.EFBIG])
    def test_a_full_disk_is_an_error_that_names_the_file(self, path, code):
        with pytest.raises(OSError, match=rf"{os.strerror(code)}: '{path}'"), atomic_write(path):
            raise OSError(code, os.strerror(code))  # As `write` raises it, without a name.
        assert path.read_text() == "old"

    def test_an_error_of_another_kind_stays_as_it_is(self, path):
        with pytest.raises(ConnectionResetError) as raised, atomic_write(path):
            raise OSError(errno.ECONNRESET, "reset")
        assert raised.value.filename is None

    def test_success_leaves_the_new_file_alone(self, path):
        with atomic_write(path) as temporary:
            (temporary.parent / "another").write_text("draft")
            temporary.write_text("new")
        assert list(path.parent.iterdir()) == [path]

    def test_a_body_that_writes_nothing_is_an_error(self, path):
        with pytest.raises(FileNotFoundError), atomic_write(path):
            pass
        assert path.read_text() == "old"

    def test_a_folder_is_written_as_a_whole(self, tmp_path):
        with atomic_write(tmp_path / "run") as temporary:
            temporary.mkdir()
            (temporary / "config.toml").touch()
            assert not (tmp_path / "run").exists()
        assert [path.name for path in (tmp_path / "run").iterdir()] == ["config.toml"]
        assert [path.name for path in tmp_path.iterdir()] == ["run"]

    def test_a_folder_that_another_process_wrote_meanwhile_stays(self, tmp_path):
        with atomic_folder(tmp_path / "run") as temporary:
            temporary.mkdir()
            (tmp_path / "run").mkdir()
            (tmp_path / "run" / "faster").touch()
        assert [path.name for path in tmp_path.iterdir()] == ["run"]
        assert [path.name for path in (tmp_path / "run").iterdir()] == ["faster"]

    def test_a_folder_that_cannot_be_written_is_an_error(self, tmp_path):
        with pytest.raises(OSError, match="No space"), atomic_folder(tmp_path / "run"):
            raise OSError("No space")
        assert not list(tmp_path.iterdir())

    def test_two_writers_do_not_meet(self, path):
        def write(text):
            with atomic_write(path) as temporary:
                temporary.write_text(text)
                barrier.wait(10)

        barrier = threading.Barrier(2)
        threads = [threading.Thread(target=write, args=(text,)) for text in ("one", "two")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert path.read_text() in ("one", "two")
        assert list(path.parent.iterdir()) == [path]

    def test_the_new_file_has_the_permissions_of_any_new_file(self, tmp_path):
        (tmp_path / "plain").touch()
        with atomic_write(tmp_path / "atomic") as temporary:
            temporary.touch()
        modes = {path.name: path.stat().st_mode for path in tmp_path.iterdir()}
        assert modes["atomic"] == modes["plain"]

    def test_the_whole_file_is_synced_before_it_replaces_the_old_one(self, path, monkeypatch):
        synced = []

        def sync(descriptor):
            size = os.fstat(descriptor).st_size
            synced.append((size, path.read_text()))

        monkeypatch.setattr(os, "fsync", sync)
        with atomic_write(path) as temporary:
            temporary.write_text("newer")
        assert synced == [(5, "old")]
        with atomic_write(path, sync=False) as temporary:
            temporary.write_text("newest")
        assert len(synced) == 1


def test_leftovers_of_killed_processes_are_removed_after_a_day(tmp_path):
    for name in ("old", "new"):
        (tmp_path / f".unfinished-{name}").mkdir()
        (tmp_path / f".unfinished-{name}" / "last.npz").touch()
        (tmp_path / f".unfinished-{name}-file").touch()
    (tmp_path / "whole").touch()
    for path in (*tmp_path.glob(".unfinished-old*"), tmp_path / "whole"):
        os.utime(path, (time.time() - 90_000,) * 2)
    remove_leftovers(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        ".unfinished-new",
        ".unfinished-new-file",
        "whole",
    ]
    remove_leftovers(tmp_path, older_than=0)
    assert [path.name for path in tmp_path.iterdir()] == ["whole"]
    remove_leftovers(tmp_path / "missing")
