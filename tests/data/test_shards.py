"""Each of several processes reads its share of the examples, and no other."""

import shutil

import pytest
import tensorflow as tf
from data.builders.fakes import save_grey_png, save_image
from helpers import write_pairs

from keras_fcn.data import evaluation_batches, find_pairs, from_pairs, load, training_batches
from keras_fcn.distribution import processes
from keras_fcn.label_spaces import choose
from keras_fcn.training.recipe import Recipe
from keras_fcn.training.splits import Split, check_files

pytestmark = [
    pytest.mark.any_backend,
    pytest.mark.filterwarnings("ignore:camvid is built without its split test"),
]

OPTIONS = {"num_classes": 11, "ignore_class": 255}


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Where CamVid of five and three pairs is built, whose label maps are filled with 0 to 7."""
    folder = tmp_path_factory.mktemp("built")
    for number in range(8):
        split = "train" if number < 5 else "val"
        save_image(folder / "files" / split / f"{number}.png", seed=number)
        save_grey_png(folder / "files" / f"{split}annot" / f"{number}.png", [[number] * 3] * 2)
    load("camvid", "train", data_dir=folder, manual_dir=folder / "files")
    return folder


@pytest.fixture
def camvid(built, tmp_path):
    """A copy of it to spoil."""
    shutil.copytree(built / "camvid", tmp_path / "camvid")
    return tmp_path


@pytest.fixture
def folder(tmp_path):
    """Five pairs of files, whose label maps are filled with 0 to 4."""
    for number in range(5):
        save_image(tmp_path / "images" / f"{number}.png", seed=number)
        save_grey_png(tmp_path / "labels" / f"{number}.png", [[number] * 3] * 2)
    return tmp_path


def numbers(dataset):
    """What the label maps of examples or of batches begin with."""
    found = []
    for element in dataset.as_numpy_iterator():
        label_maps = element["label_map"][None] if isinstance(element, dict) else element[1]
        found += label_maps[:, 0, 0].tolist()
    return found


def assert_shared_out(shares, wanted):
    found = [numbers(share) for share in shares]
    assert sorted(number for share in found for number in share) == wanted
    lengths = [len(share) for share in found]
    assert max(lengths) - min(lengths) <= 1
    assert [int(share.cardinality()) for share in shares] == lengths


class TestShares:
    @pytest.mark.parametrize("world_size", [2, 3])
    def test_of_a_folder_are_the_whole_and_disjoint(self, folder, world_size):
        shares = [load(folder, shard=(rank, world_size)) for rank in range(world_size)]
        assert_shared_out(shares, [0, 1, 2, 3, 4])

    @pytest.mark.parametrize(
        ("split", "wanted", "world_size"),
        [
            ("train", [0, 1, 2, 3, 4], 3),
            # Halves of each would be 3 + 2 and 2 + 1.
            ("train+validation", [0, 1, 2, 3, 4, 5, 6, 7], 2),
            ("train[1:]+validation[:2]", None, 3),
        ],
    )
    def test_of_a_data_set_by_name_are_the_whole_and_disjoint(
        self, camvid, split, wanted, world_size
    ):
        options = {"data_dir": camvid, "download": False}
        wanted = wanted or sorted(numbers(load("camvid", split, **options)))
        shares = [
            load("camvid", split, shard=(rank, world_size), **options) for rank in range(world_size)
        ]
        assert_shared_out(shares, wanted)

    @pytest.mark.parametrize("rank", [0, 5])
    def test_more_processes_than_examples_are_refused_by_all(self, folder, camvid, rank):
        message = r"at most the number of examples\. Received: 5 examples, shard="
        with pytest.raises(ValueError, match=message):
            load(folder, shard=(rank, 6))
        with pytest.raises(ValueError, match=message):
            load("camvid", "train", data_dir=camvid, download=False, shard=(rank, 6))

    @pytest.mark.parametrize("shard", [(2, 2), (-1, 2), 2, (0, 0), ("0", "2"), "all", (0, 1, 2)])
    def test_other_values_are_refused_in_one_sentence(self, folder, shard):
        message = (
            r"^`shard` must be two integers \(rank, world_size\) [^.]*, or 'auto'\. Received: \S"
        )
        for load_them in (
            lambda: load(folder, shard=shard),
            lambda: load("camvid", "train", shard=shard),
            lambda: from_pairs(find_pairs(folder / "images", folder / "labels"), shard=shard),
            lambda: evaluation_batches(load(folder), **OPTIONS, shard=shard),
        ):
            with pytest.raises(ValueError, match=message):
                load_them()


class TestAuto:
    @pytest.fixture
    def second_of_three(self, monkeypatch):
        monkeypatch.setattr(processes, "rank", lambda: 1)
        monkeypatch.setattr(processes, "world_size", lambda: 3)

    def test_is_the_share_of_this_process(self, folder, camvid, second_of_three):
        assert numbers(load(folder, shard="auto")) == numbers(load(folder, shard=(1, 3)))
        options = {"data_dir": camvid, "download": False}
        found = load("camvid", "train", **options, shard="auto")
        assert numbers(found) == numbers(load("camvid", "train", **options, shard=(1, 3)))

    def test_is_the_share_of_a_batch(self, folder, second_of_three):
        found, wanted = (
            numbers(training_batches(load(folder), **OPTIONS, batch_size=1, seed=0, shard=shard))
            for shard in ("auto", (1, 3))
        )
        assert found == wanted
        assert len(found) == 1

    def test_of_one_process_is_everything(self, folder):
        assert numbers(load(folder, shard="auto")) == [0, 1, 2, 3, 4]

    def test_needs_processes_that_have_joined(self, folder, monkeypatch):
        monkeypatch.setenv("WORLD_SIZE", "2")
        monkeypatch.setenv("KERAS_DISTRIBUTION_NUM_PROCESSES", "2")
        monkeypatch.setenv("TF_CONFIG", '{"cluster": {"worker": ["a:1", "b:1"]}}')
        with pytest.raises(
            ValueError, match=r"^`data_parallel\(\)` must be entered .* 2 processes"
        ):
            load(folder, shard="auto")


class TestOnlyTheOwnIsRead:
    def test_of_a_folder(self, folder):
        for number in (1, 3):
            (folder / "images" / f"{number}.png").write_bytes(b"")
        assert numbers(load(folder, shard=(0, 2))) == [0, 2, 4]
        with pytest.raises(tf.errors.InvalidArgumentError, match="cannot be read"):
            numbers(load(folder, shard=(1, 2)))

    def test_of_the_records_of_a_data_set_by_name(self, camvid):
        options = {"data_dir": camvid, "download": False}
        wanted = numbers(load("camvid", "train", shard=(1, 2), **options))
        assert len(wanted) == 3
        file = record_file(camvid)
        content = bytearray(file.read_bytes())
        for start, length in record_places(content)[:2]:
            content[start + length // 2] ^= 255
        file.write_bytes(content)
        # The checksum of what is read would be wrong.
        assert numbers(load("camvid", "train", shard=(1, 2), **options)) == wanted
        with pytest.raises(tf.errors.DataLossError):
            numbers(load("camvid", "train", shard=(0, 2), **options))

    @pytest.fixture(params=["pairs", "dataset", "by name"])
    def source(self, request):
        """Functions that make five examples and that spoil one of them."""
        if request.param == "by name":
            built = request.getfixturevalue("camvid")
            return (
                lambda: load("camvid", "train", data_dir=built, download=False),
                lambda number: spoil_record(built, number),
            )
        folder = request.getfixturevalue("folder")
        pairs = find_pairs(folder / "images", folder / "labels")
        return (
            lambda: pairs if request.param == "pairs" else from_pairs(pairs),
            lambda number: pairs[number].image.write_bytes(b""),
        )

    def test_in_an_epoch_of_training(self, source):
        make, spoil = source

        def share(rank, **changes):
            options = {**OPTIONS, "batch_size": 1, "seed": 3, "shard": (rank, 2), **changes}
            return numbers(training_batches(make(), **options))

        own, others = share(0), share(1)
        assert len(set(own + others)) == 4
        for number in set(range(5)) - set(own):
            spoil(number)
        assert share(0) == own
        with pytest.raises(tf.errors.InvalidArgumentError):
            share(1)
        # What a run that goes on has behind it is not read, either.
        spoil(own[0])
        assert share(0, first_step=1) == own[1:]

    def test_in_an_evaluation(self, source):
        make, spoil = source

        def share(rank):
            return numbers(evaluation_batches(make(), **OPTIONS, shard=(rank, 2)))

        own, others = share(0), share(1)
        assert sorted(own + others) == [0, 1, 2, 3, 4]
        for number in others:
            spoil(number)
        assert share(0) == own
        with pytest.raises(tf.errors.InvalidArgumentError):
            share(1)


class TestCheckOfFiles:
    @pytest.fixture
    def splits(self, tmp_path):
        space = choose(None, 3, 255)
        pairs = find_pairs(*write_pairs(tmp_path, "abcd"))
        pairs[1].image.write_bytes(b"")
        return Split(pairs[:3], space), Split(pairs[3:], space)

    def check(self, monkeypatch, splits, rank, told=None):
        monkeypatch.setattr(processes, "shard", lambda: (rank, 2))
        monkeypatch.setattr(processes, "gather", lambda value: [value, told or value])
        check_files(splits, Recipe(num_classes=11, ignore_class=255))

    def test_reads_the_own_share(self, splits, monkeypatch):
        self.check(monkeypatch, splits, 0)
        with pytest.raises(ValueError, match=r"b\.png cannot be read"):
            self.check(monkeypatch, splits, 1)

    def test_fails_where_another_process_found_something(self, splits, monkeypatch):
        with pytest.raises(ValueError, match=r"^Process 1 failed: b\.png is empty\.$"):
            self.check(monkeypatch, splits, 0, "b.png is empty.")


def record_file(folder):
    (file,) = folder.glob("camvid/*/camvid-train.tfrecord*")
    return file


def record_places(content):
    """(start, length) of what the records of a file hold."""
    places, start = [], 0
    while start < len(content):
        length = int.from_bytes(content[start : start + 8], "little")
        places.append((start + 12, length))
        start += 12 + length + 4
    return places


def spoil_record(folder, number):
    """Makes the image of the example of this number one that cannot be decoded."""
    file = record_file(folder)
    records = [bytes(record) for record in tf.data.TFRecordDataset(str(file)).as_numpy_iterator()]
    with tf.io.TFRecordWriter(str(file)) as writer:
        for record in records:
            example = tf.train.Example.FromString(record)
            features = example.features.feature
            label_map = tf.io.decode_png(features["label_map"].bytes_list.value[0])
            if int(label_map[0, 0, 0]) == number:
                features["image"].bytes_list.value[0] = b"no image"
            writer.write(example.SerializeToString())
