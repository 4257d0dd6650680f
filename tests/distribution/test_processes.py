"""Collective operations between the processes of a training, simulated with threads."""

import re

import numpy as np
import pytest
from distribution.threads import as_processes
from helpers import write_pairs
from training.three_layers import ThreeLayers

from keras_fcn.backends import backend
from keras_fcn.distribution import processes
from keras_fcn.training import Recipe, loop, trainer
from keras_fcn.training.objective import MODELS
from keras_fcn.training.recipe import replace
from keras_fcn.training.run_writer import RunWriter
from keras_fcn.training.user_code import UserCode

pytestmark = pytest.mark.any_backend


@pytest.fixture
def two(monkeypatch):
    return as_processes(monkeypatch)


def messages(errors):
    assert all(isinstance(error, ValueError) for error in errors), errors
    return [str(error) for error in errors]


class TestGather:
    def test_values_of_any_length_come_in_the_order_of_the_processes(self, two):
        values = ["first", {"the": "second", "is": list(range(100))}]
        assert two.run(lambda rank: processes.gather(values[rank])) == [values, values]

    def test_sums_are_exact(self, two):
        def total(rank):
            return processes.sum_of_all(np.array([2**53, rank + 1], "int64")).tolist()

        assert two.run(total) == [[2**54, 3]] * 2

    def test_one_process_has_its_own_value(self):
        assert processes.gather("alone") == ["alone"]

    def test_data_cannot_be_sharded_before_the_processes_have_joined(self, monkeypatch):
        processes.check_joined()
        monkeypatch.setattr(backend, "started_processes", lambda: 2)
        with pytest.raises(ValueError, match=r"must be entered before.*Received: 2 processes"):
            processes.check_joined()


class TestFirstBeforeOthers:
    def test_the_others_run_after_the_first_is_done(self, monkeypatch):
        order = []

        def build():
            order.append(processes.rank())
            return processes.rank()

        three = as_processes(monkeypatch, 3)
        found = three.run(lambda rank: processes.first_before_others(build))
        assert found == [0, 1, 2]
        assert order[0] == 0

    def test_a_failure_of_the_first_process_fails_all(self, two):
        called = []

        def fail():
            called.append(processes.rank())
            raise FileNotFoundError("no data")

        first, second = two.run(lambda rank: processes.first_before_others(fail))
        assert type(first) is FileNotFoundError
        assert messages([second]) == ["The first process failed: no data"]
        assert called == [0]


class TestAllOrNone:
    def test_what_fails_in_one_process_fails_in_all(self, two):
        def check():
            if processes.rank() == 1:
                raise ValueError("b.png is empty.")

        found = messages(two.run(lambda rank: processes.all_or_none(check)))
        assert found == ["Process 1 failed: b.png is empty.", "b.png is empty."]

    def test_each_process_gets_its_own_result(self, two):
        assert two.run(lambda rank: processes.all_or_none(lambda: 10 * rank)) == [0, 10]


class TestExists:
    @pytest.fixture
    def seen(self, tmp_path):
        """A run that is there."""
        (tmp_path / "config.toml").write_text("")
        return tmp_path

    @pytest.mark.parametrize("is_there", [True, False])
    def test_what_all_see_alike(self, two, seen, is_there):
        path = seen if is_there else seen / "absent"
        assert two.run(lambda rank: processes.exists(path)) == [is_there] * 2
        assert two.run(lambda rank: trainer.exists(path)) == [is_there] * 2

    @pytest.mark.parametrize("sees", [0, 1])
    def test_what_only_one_sees_is_an_error_in_all(self, two, seen, sees):
        """Each rank has its own file system, as it may be over NFS."""
        paths = [seen, seen / "absent"] if sees == 0 else [seen / "absent", seen]
        for exists in (processes.exists, trainer.exists):
            found = messages(two.run(lambda rank, exists=exists: exists(paths[rank])))
            told = f"exists for process {sees} and not for process {1 - sees}."
            assert all("must see the same files" in error and told in error for error in found)

    def test_a_rank_without_the_checkpoint_starts_nothing_over(self, two, seen, monkeypatch):
        runs = [RunWriter(seen), RunWriter(seen / "absent")]
        recipe = Recipe(images="i", labels="l", num_classes=3)
        for run in runs:
            monkeypatch.setattr(type(run), "recipe", lambda run: ("folder", recipe))
            monkeypatch.setattr(type(run), "user_code_names", lambda run: {})
        runs[0].state_path.write_bytes(b"")
        options = {"checkpoint_every": None, "devices": None, "gradients": None}
        options["user_code"] = UserCode()
        found = two.run(lambda rank: loop.Training.resume(runs[rank], **options))
        assert all("last.npz exists for process 0 and not" in error for error in messages(found))


class TestCheckEqual:
    def test_what_is_equal_passes(self, two):
        assert two.run(lambda rank: processes.check_equal({"code": "a"})) == [None, None]

    def test_what_differs_is_named_in_every_process(self, two):
        def check(rank):
            processes.check_equal({"code": "a", "data": f"{rank} images"})

        message = (
            "All processes must have the same data. Received: 0 images in process 0 and 1 images "
            "in process 1."
        )
        assert messages(two.run(check)) == [message] * 2


@pytest.mark.filterwarnings("ignore:.*random initial values:UserWarning")
class TestRefusedTraining:
    """Errors are raised before the first step, in both processes, and nothing is written."""

    @pytest.fixture
    def recipe(self, tmp_path, monkeypatch):
        monkeypatch.setitem(MODELS, "fcn32s", ThreeLayers)
        images, labels = write_pairs(tmp_path / "data", "abcde", (8, 10))
        options = {"num_classes": 3, "ignore_class": 255, "batch_size": 2, "model": "fcn32s"}
        return Recipe(images=str(images), labels=str(labels), **options)

    def assert_refused(self, two, tmp_path, first, second, message):
        def train(rank):
            trainer.train((first, second)[rank], tmp_path / "run")

        for told in messages(two.run(train)):
            assert re.match(message, told), told
        assert not list(tmp_path.glob("*run*"))

    def test_other_data(self, two, recipe, tmp_path):
        images, labels = write_pairs(tmp_path / "others", "abcdf", (8, 10))
        other = replace(recipe, images=str(images), labels=str(labels))
        self.assert_refused(two, tmp_path, recipe, other, "All processes must have the same data.")

    def test_other_settings(self, two, recipe, tmp_path):
        other = replace(recipe, learning_rate=0.2)
        message = "All processes must have the same settings. Received: .*0.0001.* and .*0.2"
        self.assert_refused(two, tmp_path, recipe, other, message)

    def test_other_code(self, two, recipe, tmp_path, monkeypatch):
        monkeypatch.setattr(loop, "code_of_package", lambda: f"keras_fcn {processes.rank()}")
        message = "All processes must have the same code. Received: keras_fcn 0 in process 0"
        self.assert_refused(two, tmp_path, recipe, recipe, message)

    def test_other_weights(self, two, recipe, tmp_path, monkeypatch):
        def weights(model):
            return [np.full(3, processes.rank(), "float32")]

        monkeypatch.setattr(ThreeLayers, "get_weights", weights)
        message = "All processes must have the same weights."
        self.assert_refused(two, tmp_path, recipe, recipe, message)

    def test_a_batch_that_does_not_divide(self, two, recipe, tmp_path):
        recipe = replace(recipe, batch_size=3)
        message = "`batch_size` must divide by the number of processes, 2"
        self.assert_refused(two, tmp_path, recipe, recipe, message)

    def test_fewer_images_than_processes(self, two, recipe, tmp_path):
        images, labels = write_pairs(tmp_path / "one", "a", (8, 10))
        recipe = replace(recipe, images=str(images), labels=str(labels))
        message = "The training images must be at least as many as the processes, 2: .* 1 training"
        self.assert_refused(two, tmp_path, recipe, recipe, message)

    @pytest.mark.skipif(backend.name != "tensorflow", reason="TF_CONFIG is of TensorFlow")
    @pytest.mark.parametrize("config", ["{'cluster'", "[]"])
    def test_a_cluster_that_is_no_json(self, recipe, tmp_path, monkeypatch, config):
        monkeypatch.setenv("TF_CONFIG", config)
        with pytest.raises(ValueError, match=r'TF_CONFIG must be JSON: {"cluster": {"worker"'):
            trainer.train(recipe, tmp_path / "run", devices="all")

    @pytest.mark.parametrize("call", ["train", "resume"])
    def test_processes_that_nobody_joins(self, recipe, tmp_path, monkeypatch, call):
        argument = {"train": recipe, "resume": None}[call]
        arguments = [argument, tmp_path / "run"] if argument else [tmp_path / "run"]
        monkeypatch.setattr(backend, "started_processes", lambda: 2)
        with pytest.raises(ValueError, match=r"--devices all.* devices=None in one of 2 processes"):
            getattr(trainer, call)(*arguments)
        assert not (tmp_path / "run").exists()
