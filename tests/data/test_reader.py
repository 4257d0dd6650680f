"""Cached and skipped files."""

import ast
import os
import warnings

import numpy as np
import pytest
import tensorflow as tf
from data.numbered_pairs import HEIGHT, WIDTH, epoch, flips, indices, make_pairs, to_pairs, train
from PIL import Image

from keras_fcn.data import reader
from keras_fcn.data.batches import evaluation_batches
from keras_fcn.data.files import Pair
from keras_fcn.data.loading import from_pairs

pytestmark = pytest.mark.any_backend


@pytest.fixture
def reads(monkeypatch):
    """Files that were decoded, one entry per time."""
    seen = []

    def read(pair, *rules):
        seen.append(pair.image.name)
        return read_example(pair, *rules)

    read_example = reader.read_example
    monkeypatch.setattr(reader, "read_example", read)
    return seen


class TestNames:
    def test_a_bad_file_whose_name_is_not_utf_8_is_named(self, tmp_path):
        (pair,) = make_pairs(tmp_path, 1)
        image = pair.image.rename(pair.image.with_name(os.fsdecode(b"stra\xdfe.png")))
        image.write_bytes(b"")
        batches = train([(image, pair.label_map)])
        with pytest.raises(tf.errors.InvalidArgumentError, match=r"stra\\udcdfe\.png"):
            next(iter(batches))


class TestCache:
    @pytest.mark.parametrize("place", ["memory", "disk"])
    def test_files_are_read_once_and_epochs_stay_as_without(
        self, pairs, source, reads, unbroken, place, tmp_path
    ):
        cached = train(source(pairs), cache=place if place == "memory" else tmp_path / "cache")
        if place == "memory" or source is to_pairs:
            reads.clear()
            next(cached.as_numpy_iterator())
        for seen in unbroken[source][:2]:
            again = epoch(cached)
            assert indices(again) == indices(seen)
            assert flips(again) == flips(seen)
        if source is to_pairs:
            assert sorted(reads) == [f"{index:03}.png" for index in range(30)]
        reads.clear()
        epoch(cached)
        assert reads == []

    @pytest.mark.parametrize("batches", ["train", "evaluate"])
    def test_a_folder_serves_the_next_run(self, pairs, source, reads, batches, tmp_path):
        def run():
            if batches == "train":
                return epoch(train(source(pairs), cache=tmp_path / "new" / "cache"))
            options = {"num_classes": 3, "ignore_class": 255, "cache": tmp_path / "cache"}
            return epoch(evaluation_batches(source(pairs), **options))

        first = run()
        reads.clear()
        second = run()
        assert reads == []
        assert indices(first) == indices(second)
        for (_, one), (_, other) in zip(first, second, strict=True):
            np.testing.assert_array_equal(one, other)

    def test_changed_files_and_other_rules_are_read_anew(self, tmp_path, reads):
        pairs = make_pairs(tmp_path, 3)

        def label_maps(**options):
            reads.clear()
            options = {"num_classes": 3, "ignore_class": 255, "cache": tmp_path / "c", **options}
            return [labels[0].numpy() for _, labels in evaluation_batches(pairs, **options)]

        label_maps()
        Image.fromarray(np.full((HEIGHT, WIDTH), 2, "uint8")).save(pairs[1].label_map)
        assert (label_maps()[1] == 2).all()
        assert reads == ["001.png"]
        label_maps(num_classes=4)
        assert len(reads) == 3

    def test_a_damaged_file_of_the_cache_is_replaced(self, tmp_path):
        pairs = make_pairs(tmp_path, 3)
        options = {"num_classes": 3, "ignore_class": 255, "cache": tmp_path / "cache"}
        expected = [labels.numpy() for _, labels in evaluation_batches(pairs, **options)]
        for file in (tmp_path / "cache").iterdir():
            file.write_bytes(file.read_bytes()[:100])
        again = [labels.numpy() for _, labels in evaluation_batches(pairs, **options)]
        np.testing.assert_array_equal(again, expected)

    def test_two_processes_may_write_the_folder_of_a_dataset_at_once(self, tmp_path, monkeypatch):
        """The other one begins later and ends first."""
        save, others, cache = tf.data.Dataset.save, [], tmp_path / "cache"
        dataset = from_pairs(make_pairs(tmp_path, 3))

        def save_twice(self, path):
            if not others:
                others.append(None)
                others[:] = [train(dataset, cache=cache)]
            save(self, path)

        monkeypatch.setattr(tf.data.Dataset, "save", save_twice)
        both = [train(dataset, cache=cache), *others]
        assert [sorted(indices(epoch(batches))) for batches in both] == [[0, 1, 2]] * 2
        assert [path.name for path in cache.iterdir()] == ["examples"]

    def test_the_folder_of_another_dataset_is_refused(self, tmp_path):
        pairs, options = make_pairs(tmp_path, 3), {"cache": tmp_path / "cache"}
        train(from_pairs(pairs), **options)
        with pytest.raises(ValueError, match=r"`cache` must be .* with 3 examples for .* of 2\."):
            train(from_pairs(pairs[:2]), **options)

    @pytest.mark.parametrize("on_error", ["raise", "skip"])
    def test_without_space_for_it_all_examples_are_read(self, on_error, tmp_path):
        dataset = train(make_pairs(tmp_path, 3), cache=tmp_path / "cache", on_error=on_error)
        (tmp_path / "cache").rmdir()
        with pytest.warns(UserWarning, match="`cache` must be a folder with free space") as warned:
            assert sorted(indices(epoch(dataset))) == [0, 1, 2]
        assert len(warned) == 1

    def test_threads_read_it_without_the_parser_of_python(self, tmp_path, monkeypatch):
        """Python 3.11's parser fails in several threads: https://github.com/python/cpython/issues/106905"""
        batches = evaluation_batches(
            make_pairs(tmp_path, 3), num_classes=3, ignore_class=255, cache=tmp_path / "cache"
        )
        expected = [labels.numpy() for _, labels in batches]

        def parse(*_, **__):
            raise SystemError("AST constructor recursion depth mismatch (before=30, after=26)")

        monkeypatch.setattr(ast, "literal_eval", parse)
        again = [labels.numpy() for _, labels in batches]
        np.testing.assert_array_equal(again, expected)

    @pytest.mark.parametrize("values", [(0, 255), (-1, 2), (0, 40000)])
    @pytest.mark.parametrize("place", ["memory", "disk"])
    def test_keeps_every_value(self, tmp_path, values, place):
        label_map = np.array([values] * 2, "int32")
        (tmp_path / "a.png").touch()
        (tmp_path / "b.png").touch()
        pair = Pair(tmp_path / "a.png", tmp_path / "b.png")
        keep = {
            "memory": reader._cached_in_memory,
            "disk": lambda read: reader._cached_on_disk(read, tmp_path / "cache", ()),
        }[place](lambda pair: (np.zeros((2, 2, 3), "uint8"), label_map))
        for _ in range(2):
            result = keep(pair)[1]
            assert result.dtype == np.int32
            np.testing.assert_array_equal(result, label_map)


class TestSkip:
    @pytest.mark.parametrize("cache", [None, "memory"])
    def test_every_epoch_goes_without_them_and_names_them_at_its_end(self, broken, cache):
        dataset = train(broken, on_error="skip", cache=cache)
        for _ in range(2):
            with pytest.warns(UserWarning, match="left out 3 of 6 examples") as warned:
                assert sorted(indices(epoch(dataset))) == [0, 2, 5]
            (message,) = [str(warning.message) for warning in warned]
            lines = message.splitlines()
            assert len(lines) == 4
            assert "001.png cannot be read as an image" in lines[1]
            assert "003.png" in lines[2]
            assert "004.png holds the value 3" in lines[3]

    def test_seeds_and_order_of_the_others_stay(self, broken):
        with pytest.warns(UserWarning, match="left out 3 of 6"):
            seen = epoch(train(broken, on_error="skip", first_epoch=4))
        order = np.random.default_rng((0, 4)).permutation(6)
        assert indices(seen) == [index for index in order if index not in (1, 3, 4)]

    def test_evaluation_and_from_pairs_skip_too(self, broken):
        options = {"num_classes": 3, "ignore_class": 255}
        with pytest.warns(UserWarning, match="left out 3 of 6"):
            seen = epoch(evaluation_batches(broken, on_error="skip", **options))
        assert indices(seen) == [0, 2, 5]
        with pytest.warns(UserWarning, match="left out 2 of 6"):
            assert len(list(from_pairs(broken, on_error="skip"))) == 4

    def test_without_broken_files_there_is_no_warning(self, pairs):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert len(epoch(train(pairs, on_error="skip"))) == 30

    def test_a_dataset_is_skipped_where_it_is_read(self, pairs):
        with pytest.raises(
            ValueError, match="must be None and `on_error` 'raise' if `examples` is"
        ):
            train(from_pairs(pairs), on_error="skip")
