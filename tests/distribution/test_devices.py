"""Several devices, or two processes, of TensorFlow and JAX give the results of one device."""

import functools
import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from distribution import lost, steps
from distribution.two_processes import free_address, place

import keras_fcn
from keras_fcn.distribution import data_parallel

BACKEND = keras.backend.backend()
if BACKEND == "torch":
    pytest.skip("PyTorch has processes alone, see test_torch.py", allow_module_level=True)

several = pytest.mark.gate
STEPS = Path(steps.__file__)
DEVICES = {"tensorflow": 2, "jax": 4}[BACKEND]
SCENARIOS = ["paper's sum", "mean", "weighted sum", "lovasz", "ohem", "uneven batches"]
SCENARIOS += ["fcn", "two heads"]
OF_PROCESSES = ["paper's sum", "mean", "uneven batches"]
DROPOUT = ["dropout", "dropout again"]
ROUNDED = [] if BACKEND == "jax" else ["gradients in bfloat16"]
SPLIT = ["split kernels"] if BACKEND == "jax" else []


def start(folder, environment, **arguments):
    """Starts `steps.py` as a process of this backend."""
    arguments = {"backend": BACKEND, **arguments}
    devices = arguments.get("devices", 1)
    path = os.pathsep.join([str(Path(keras_fcn.__file__).parents[1]), str(STEPS.parents[1])])
    return subprocess.Popen(
        [sys.executable, str(STEPS), str(folder), json.dumps(arguments)],
        env={
            **os.environ,
            "PYTHONPATH": path,
            "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
            **environment,
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.fixture(scope="module")
def one():
    """Function from a scenario to its result on one device, in this process."""
    return functools.cache(steps.run)


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """Devices of one process."""
    folder = tmp_path_factory.mktemp("many")
    scenarios = [*SCENARIOS, *DROPOUT, *ROUNDED, *SPLIT]
    process = start(folder, {}, devices=DEVICES, scenarios=scenarios)
    printed, _ = process.communicate(timeout=600)
    assert process.returncode == 0, printed[-5000:]
    return lambda scenario: dict(np.load(folder / f"{scenario}-0.npz"))


class Two:
    """Two processes that have ended; `printed` is the output of process 0."""

    def __init__(self, folder):
        self._folder, addresses = folder, [free_address(), free_address()]
        scenarios = [*OF_PROCESSES, *ROUNDED]
        processes = [
            start(folder, place(rank, addresses), scenarios=scenarios, rank=rank, world_size=2)
            for rank in range(2)
        ]
        try:
            told = [process.communicate(timeout=600)[0] for process in processes]
        finally:
            for process in processes:
                process.kill()
        assert [process.returncode for process in processes] == [lost.NOTICED, -9], "".join(told)
        self.printed = told[0]

    def __call__(self, scenario, rank=0):
        return dict(np.load(self._folder / f"{scenario}-{rank}.npz"))


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory):
    return Two(tmp_path_factory.mktemp("two"))


def assert_trains_alike(found, wanted):
    for name in wanted:
        if name.startswith(("weights of ", "start of ")):
            np.testing.assert_allclose(found[name], wanted[name], atol=1e-5, err_msg=name)
    np.testing.assert_allclose(found["losses"], wanted["losses"], rtol=1e-5)
    changes = [
        np.abs(wanted[name] - wanted[name.replace("weights", "start")]).max()
        for name in wanted
        if name.startswith("weights of ")
    ]
    assert max(changes) > 1e-4


def assert_gradients_are_rounded(found, exact):
    name = next(name for name in exact if name.startswith("weights of fc6/kernel"))
    difference = np.abs(found[name] - exact[name]).max()
    assert 1e-5 < difference < 1e-2


@several
class TestDevices:
    @pytest.mark.parametrize("scenario", SCENARIOS)
    def test_weights_after_some_steps_are_those_of_one_device(self, one, many, scenario):
        assert_trains_alike(many(scenario), one(scenario))

    def test_evaluation_counts_every_example_once_in_an_incomplete_batch(self, one, many):
        found, wanted = many("mean"), one("mean")
        assert found["matrix"].sum() > 0
        np.testing.assert_array_equal(found["matrix"], wanted["matrix"])
        np.testing.assert_allclose(found["prediction"], wanted["prediction"], atol=1e-5)

    @pytest.mark.skipif(BACKEND == "jax", reason="JAX sends gradients as they are")
    def test_gradients_in_bfloat16_are_rounded(self, many):
        assert_gradients_are_rounded(many("gradients in bfloat16"), many("mean"))

    def test_dropout_is_reproducible(self, one, many):
        first, again = (many(scenario) for scenario in DROPOUT)
        for name, value in first.items():
            np.testing.assert_allclose(again[name], value, atol=1e-6, err_msg=name)
        if BACKEND == "jax":  # The mask is that of the whole batch.
            assert_trains_alike(first, one("dropout"))
        else:
            masks = first["masks"] > 0
            assert masks.shape == (DEVICES, 64)
            assert (masks[0] != masks[1]).mean() == pytest.approx(0.5, abs=0.2)


@several
class TestProcesses:
    @pytest.mark.parametrize("scenario", OF_PROCESSES)
    def test_weights_after_some_steps_are_those_of_one_device(self, one, two_processes, scenario):
        for rank in range(2):
            assert_trains_alike(two_processes(scenario, rank), one(scenario))

    def test_evaluation_counts_every_example_once_in_an_incomplete_batch(self, one, two_processes):
        for rank in range(2):
            found = two_processes("mean", rank)["matrix"]
            np.testing.assert_array_equal(found, one("mean")["matrix"])

    @pytest.mark.skipif(BACKEND == "jax", reason="JAX sends gradients as they are")
    def test_gradients_in_bfloat16_are_rounded_alike(self, two_processes):
        first, second = (two_processes("gradients in bfloat16", rank) for rank in range(2))
        assert_gradients_are_rounded(first, two_processes("mean"))
        for name in first:
            if name.startswith("weights of "):
                np.testing.assert_array_equal(first[name], second[name])

    def test_gather_returns_values_of_different_lengths(self, two_processes):
        for rank in range(2):
            assert two_processes("mean", rank)["told"].tolist() == ["first", "the second"]

    def test_a_backend_that_detects_a_lost_process_first_raises_the_same_error(self, two_processes):
        assert two_processes.printed.splitlines()[-1].startswith(lost.LOST)


@pytest.mark.skipif(BACKEND != "jax", reason="JAX alone adds up gradients within its step")
def test_gradients_in_bfloat16_are_refused():
    reason = "`gradients` must be None on JAX"
    with pytest.raises(ValueError, match=reason), data_parallel(gradients="bfloat16"):
        pass


@pytest.mark.parametrize(
    "devices", [["cuda:7"], ["nonsense"], ["cpu:99"], ["cpu:0", "cpu:0"], ["cpu:0", "cpu"]]
)
def test_devices_that_are_not_there_are_one_line(devices):
    with (
        pytest.raises(ValueError, match=r"(?i)each once of: .*cpu:0.* Received: devices=\["),
        data_parallel(devices),
    ):
        pass


@pytest.mark.parametrize("devices", [["cpu:0"], ["cpu"]])
def test_devices_by_name(devices):
    with data_parallel(devices):
        assert keras.ops.convert_to_numpy(keras.Variable([1.0]) + 1) == 2


def test_gradients_of_an_unknown_kind_are_refused():
    reason = "`gradients` must be None or 'bfloat16'"
    with pytest.raises(ValueError, match=reason), data_parallel(gradients="int4"):
        pass


@several
@pytest.mark.skipif(BACKEND != "jax", reason="only JAX splits kernels among devices")
def test_fc6_and_fc7_are_split_and_train_as_on_one_device(one, many):
    found, wanted = many("split kernels"), one("mean")
    assert_trains_alike(found, wanted)
    whole = wanted["outputs of fc6 on a device"]
    assert found["outputs of fc6 on a device"] == whole // 2
