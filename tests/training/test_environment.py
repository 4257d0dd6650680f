import os
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest

from keras_fcn.training import environment as module
from keras_fcn.training.environment import code_of_package, environment, warn_of_slow_precision


class TestEnvironment:
    def test_it_names_the_machine_and_the_versions(self):
        found = environment()
        backend = keras.backend.backend()
        expected = {
            *("python", "platform", "CPU", "CPU cores", "memory", "GPU", "backend"),
            *("keras", "keras_fcn", "tensorflow", "numpy", backend),
        }
        assert set(found) == expected
        assert all(isinstance(value, str) and value for value in found.values())
        assert found["backend"] == f"{backend} {found[backend]}"
        assert found["keras"] == keras.__version__
        assert found["numpy"] == np.__version__

    def test_cores_are_those_of_the_process_not_of_the_machine(self, monkeypatch):
        monkeypatch.setattr(os, "sched_getaffinity", lambda process: {4, 7, 9}, raising=False)
        assert environment()["CPU cores"] == "3"
        monkeypatch.delattr(os, "sched_getaffinity")
        monkeypatch.setattr(os, "cpu_count", lambda: 12)
        assert environment()["CPU cores"] == "12"

    def test_gpus_are_those_that_the_backend_sees(self, monkeypatch):
        {"tensorflow": gpus_of_tensorflow, "jax": gpus_of_jax, "torch": gpus_of_torch}[
            keras.backend.backend()
        ](monkeypatch, ["RTX 1", "RTX 2"])
        assert environment()["GPU"] == "RTX 1, RTX 2"

    def test_half_precision_is_warned_of_where_the_cpu_has_no_units_for_it(self, monkeypatch):
        flags = {"flags": "fma avx2"}
        monkeypatch.setattr(module, "_cpuinfo", flags.get)
        if keras.backend.backend() != "jax":
            with pytest.warns(UserWarning, match="no AVX-512.* Pass --precision float32"):
                warn_of_slow_precision("mixed_bfloat16")
        warn_of_slow_precision("float32")
        flags["flags"] = "fma avx2 avx512f avx512bw"
        warn_of_slow_precision("mixed_bfloat16")
        flags.clear()
        warn_of_slow_precision("mixed_bfloat16")


@pytest.mark.any_backend
def test_a_comment_makes_another_code_of_the_package(tmp_path, monkeypatch):
    before = code_of_package()
    source = Path(module.__file__)
    copy = shutil.copytree(source.parents[1], tmp_path / "keras_fcn")
    monkeypatch.setattr(module, "__file__", str(copy / "training" / source.name))
    assert code_of_package() == before
    with (copy / "metrics.py").open("a") as file:
        file.write("# A comment.\n")
    assert code_of_package() != before


def gpus_of_tensorflow(monkeypatch, names):
    import tensorflow as tf

    gpus = [tf.config.PhysicalDevice(name, "GPU") for name in names]
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: gpus)
    monkeypatch.setattr(
        tf.config.experimental, "get_device_details", lambda gpu: {"device_name": gpu.name}
    )


def gpus_of_jax(monkeypatch, names):
    import jax

    class Device:
        def __init__(self, platform, device_kind):
            self.platform, self.device_kind = platform, device_kind

    devices = [Device("cpu", "cpu"), *(Device("gpu", name) for name in names)]
    monkeypatch.setattr(jax, "devices", lambda: devices)


def gpus_of_torch(monkeypatch, names):
    import torch

    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(names))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: names[index])
