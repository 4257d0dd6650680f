"""Two processes with one shard of a batch each give the results of one with the whole batch."""

import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

if keras.backend.backend() != "torch":
    pytest.skip("torch.distributed is of PyTorch", allow_module_level=True)

from distribution import lost, torch_worker
from distribution.two_processes import PACKAGE, free_address, place

pytestmark = pytest.mark.gate
WORKER = Path(torch_worker.__file__)
SLOW = ("coarser_heads", "frozen_layers", "region_losses_empty", "no_trace")


class Two:
    """Two processes that have ended; `printed` is the output of process 0."""

    def __init__(self, folder, names):
        self.folder, addresses = folder, [free_address(), free_address()]
        path = os.pathsep.join([PACKAGE, str(WORKER.parents[1])])
        environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
        processes = [
            subprocess.Popen(
                [sys.executable, str(WORKER), str(folder), *names],
                env=environment | place(rank, addresses),
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for rank in range(2)
        ]
        try:
            told = [process.communicate(timeout=600) for process in processes]
        finally:
            for process in processes:
                process.kill()
        codes = [process.returncode for process in processes]
        assert codes == [lost.NOTICED, -9], "\n".join(err[-5000:] for _, err in told)
        self.printed = told[0][0]

    def __call__(self, name):
        return [dict(np.load(self.folder / f"{name}-{rank}.npz")) for rank in range(2)]


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    names = sorted(set(torch_worker.SCENARIOS) - set(SLOW))
    return Two(tmp_path_factory.mktemp("two"), names)


@pytest.fixture(scope="module")
def two_slow(tmp_path_factory):
    return Two(tmp_path_factory.mktemp("slow"), SLOW)


def alone(name):
    return {key: np.asarray(value) for key, value in torch_worker.SCENARIOS[name](0, 1).items()}


def assert_all_close(found, wanted, **tolerance):
    assert set(found) == set(wanted)
    for name in wanted:
        np.testing.assert_allclose(found[name], wanted[name], err_msg=name, **tolerance)


class TestTraining:
    NAMES = ("summed_loss", "mean_loss", "mean_loss_empty", "region_losses")

    @pytest.mark.parametrize("name", NAMES)
    def test_weights_and_logs_are_those_of_one_process(self, two, name):
        self.check_weights_and_logs(two, name)

    @pytest.mark.slow
    @pytest.mark.parametrize("name", ["region_losses_empty", "coarser_heads", "frozen_layers"])
    def test_weights_and_logs_are_those_of_one_process_in_rarer_cases(self, two_slow, name):
        self.check_weights_and_logs(two_slow, name)

    def check_weights_and_logs(self, two, name):
        first, second = two(name)
        wanted = alone(name)
        assert_all_close(first, second, rtol=0, atol=0)
        assert_all_close(first, wanted, rtol=1e-5, atol=1e-5)

    def test_gradients_in_bfloat16_are_rounded(self, two):
        first, second = two("gradients_in_bfloat16")
        exact, _ = two("mean_loss")
        name = "first/kernel"
        np.testing.assert_array_equal(first[name], second[name])
        np.testing.assert_allclose(first[name], exact[name], atol=1e-2)
        assert abs(first[name] - exact[name]).max() > 1e-5

    def test_dropout_differs_between_processes_and_is_reproducible(self, two):
        first, second = two("dropout")
        wanted = alone("dropout")
        assert (first["masks"] != second["masks"]).mean() == pytest.approx(0.5, abs=0.05)
        # Not the same masks a step later, either.
        assert (first["masks"][1:] != second["masks"][:-1]).mean() > 0.4
        np.testing.assert_array_equal(first["masks"], wanted["masks"])
        for one, again in zip((first, second), two("dropout_again"), strict=True):
            assert_all_close(one, again, rtol=0, atol=0)
        # A checkpoint of the first process is that of every process.
        np.testing.assert_array_equal(first["seed"], second["seed"])
        np.testing.assert_array_equal(first["seed"], wanted["seed"])
        np.testing.assert_array_equal(first["fc7/kernel"], second["fc7/kernel"])

    @pytest.mark.slow
    def test_data_parallelism_leaves_no_trace_in_the_model(self, two_slow):
        wanted = alone("no_trace")
        for found in two_slow("no_trace"):
            assert_all_close(found, wanted)
            assert found["names_are_kept"]
            assert found["layers_are_kept"]
            assert found["copies_are_equal"]

    def test_a_loss_of_the_local_shard_only_is_refused(self, two):
        for found in two("loss_of_the_local_shard"):
            assert "`loss` must be one of keras_fcn.losses" in str(found["error"])

    def test_shards_of_different_lengths_fail_instead_of_hanging(self, two):
        error = (two.folder / "uneven_fit-1").read_text()
        assert error.startswith("`x` must have as many batches in every process.")
        assert not (two.folder / "uneven_fit-0").exists()

    def test_a_backend_that_detects_a_lost_process_first_raises_the_same_error(self, two):
        assert two.printed.splitlines()[-1].startswith(lost.LOST)


def test_others_wait_for_the_first_for_longer_than_the_timeout(two):
    first, second = two("slow_first")
    assert (first["found"], second["found"]) == (0, 1)


class TestEvaluation:
    @pytest.mark.parametrize("name", ["uneven_evaluation", "empty_evaluation"])
    def test_every_image_counts_once(self, two, name):
        wanted = alone(name)
        for found in two(name):
            for matrix in ("confusion_matrix", "confusion_matrix_of_the_second"):
                np.testing.assert_array_equal(found[matrix], wanted["confusion_matrix"])
            assert_all_close(found, wanted, rtol=1e-6)
            assert found["mean_iou_again"] == pytest.approx(float(found["mean_iou"]))

    def test_predictions_are_those_of_the_local_shard(self, two):
        shards = [found["logits"] for found in two("predicted")]
        wanted = alone("predicted")["logits"]
        np.testing.assert_allclose(np.concatenate(shards), wanted, rtol=1e-5, atol=1e-5)


class TestShards:
    def test_no_two_processes_read_the_same_file_in_an_epoch(self, two):
        first, second = two("shards_of_files")
        assert sorted([*first["loaded"], *second["loaded"]]) == [0, 1, 2, 3, 4]
        for epoch in range(3):
            shards = [found[f"epoch {epoch}"].tolist() for found in (first, second)]
            assert [len(shard) for shard in shards] == [2, 2]
            assert len({*shards[0], *shards[1]}) == 4

    def test_what_fails_in_one_process_fails_in_all(self, two):
        first, second = two("shards_of_files")
        assert first["error"] == "Process 1 failed: b.png is empty."
        assert second["error"] == "b.png is empty."


LEAVING = """
import atexit
import sys

from torch import distributed

# Runs after all handlers that are registered later.
atexit.register(lambda: print("joined" if distributed.is_initialized() else "left"))
from keras_fcn.distribution import data_parallel, processes

with data_parallel():
    print(processes.gather(processes.rank()))
"""


def test_processes_leave_before_python_ends():
    """Otherwise Gloo's threads may abort the process at its end."""
    addresses = [free_address(), free_address()]
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", LEAVING],
            env={**os.environ, "PYTHONPATH": PACKAGE} | place(rank, addresses),
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    for process in processes:
        assert process.communicate(timeout=300)[0] == "[0, 1]\nleft\n"
        assert process.returncode == 0
