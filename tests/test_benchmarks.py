"""The benchmarks compute FLOP and ratios correctly, and an interrupted run can be resumed."""

import argparse
import importlib.util
import json
import re
import sys
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.gate,
    pytest.mark.any_backend,
    pytest.mark.skipif(not importlib.util.find_spec("torch"), reason="The baseline is PyTorch"),
]
# The benchmarks are not installed; last, since the package that is tested is.
sys.path.append(str(Path(__file__).parents[1]))

from benchmarks import __main__ as command  # noqa: E402
from benchmarks import (  # noqa: E402
    backbones,
    backbones_worker,
    devices,
    growth,
    imbalance,
    speed,
    training_cost,
)

RESULT = {
    **vars(speed.Case("forward", "jax", "float32", "paper", "FCN8s", (500, 500))),
    "seconds": {"ours": [1.0, 2.0, 4.0], "peer": [3.0, 3.0, 5.0]},
    "peak": {"ours": 2e9, "peer": 1e9},
    "product": {"ours": 1e11, "peer": 5e10},
    "flop": 1e11,
}


@pytest.mark.parametrize("model", ["FCN32s", "FCN16s", "FCN8s"])
@pytest.mark.parametrize("padding", ["paper", "same"])
def test_multiplications_are_those_that_pytorch_counts_in_the_baseline(model, padding):
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from benchmarks.peers.pytorch import PeerFCN
    from benchmarks.peers.weights import multiplications

    with torch.device("meta"):
        peer, image = PeerFCN(model, 21, padding), torch.empty(1, 3, 90, 133)
    with FlopCounterMode(display=False) as counter:
        peer(image)
    assert 2 * multiplications(model, 21, 90, 133, padding) == counter.get_total_flops()


def test_the_speed_up_is_the_ratio_of_the_medians():
    assert speed.ratio(RESULT) == (1.5, 1.25, 3.0)
    assert "| 2 | 3 | **1.50** (1.25 to 3.00) | 50% | 100, 50 | 2.00, 1.00 |" in speed.table(
        [RESULT]
    )


def test_a_compiled_baseline_has_a_separate_row():
    compiled = {
        key: {**RESULT[key], "compiled peer": value}
        for key, value in (("seconds", [1.0, 1.0, 1.0]), ("peak", 3e9), ("product", 2e11))
    }
    plain, row = speed.table([RESULT | compiled]).splitlines()[2:]
    assert "| float32 |" in plain
    assert "**1.50** (1.25 to 3.00)" in plain
    assert "| float32, compiled baseline |" in row
    assert "| 2 | 1 | **0.50** (0.25 to 1.00) | 25% | 100, 200 | 2.00, 3.00 |" in row


def test_on_a_gpu_the_grid_contains_its_precisions_and_batch_sizes(monkeypatch):
    monkeypatch.setattr(devices, "gpu", lambda: "NVIDIA H200")
    quick, full = command.grid(True), command.grid(False)
    assert full[: len(quick)] == quick
    assert {case.precision for case in quick} == set(devices.PRECISIONS)
    assert {case.batch_size for case in quick} == {1, 8}
    assert {case.model for case in quick} == {"FCN8s"}
    assert len({case.name for case in full}) == len(full)
    assert command.machine()["gpu"] == "NVIDIA H200"


def test_backends_that_are_not_installed_are_left_out(monkeypatch):
    monkeypatch.setitem(sys.modules, "jax", None)
    assert command.installed() == ["tensorflow", "torch"]
    assert {case.backend for case in command.grid(True)} == {"tensorflow", "torch"}
    assert "jax" not in command.machine()


def test_the_full_grid_contains_the_quick_one_and_no_case_twice():
    quick, full = ([case.name for case in command.grid(quick)] for quick in (True, False))
    assert full[: len(quick)] == quick
    assert len(set(full)) == len(full)


class TestResume:
    @pytest.fixture
    def measured(self, monkeypatch):
        names = []

        def measure(case, runs):
            names.append(case.name)
            if case.backend == "torch":
                raise RuntimeError("the process ended")
            return {**RESULT, **vars(case)}

        monkeypatch.setattr(speed, "measure", measure)
        return names

    def call(self, monkeypatch, *arguments):
        monkeypatch.setattr(sys, "argv", ["benchmarks", *map(str, arguments)])
        command.main()

    def test_only_what_is_missing_is_measured_again(self, monkeypatch, measured, tmp_path, capsys):
        arguments = ("--quick", "--only", "forward", "--out", tmp_path / "speed.json")
        with pytest.raises(SystemExit, match=r"forward torch .* the process ended"):
            self.call(monkeypatch, *arguments)
        assert [name.split()[1] for name in measured] == ["tensorflow", "jax", "torch"]
        with pytest.raises(SystemExit):
            self.call(monkeypatch, *arguments)
        assert [name.split()[1] for name in measured[3:]] == ["torch"]
        assert capsys.readouterr().out.count("**1.50**") == 4
        assert [path.name for path in tmp_path.iterdir()] == ["speed.json"]

    def test_the_table_of_a_missing_file_is_an_error(self, monkeypatch, tmp_path):
        with pytest.raises(SystemExit, match=r"must be a file written by this command.*No such"):
            self.call(monkeypatch, "--table", "--out", tmp_path / "speed.json")

    def test_results_of_another_machine_are_not_mixed_with_these(self, monkeypatch, tmp_path):
        file = tmp_path / "speed.json"
        there = command.machine() | {"cores": 96}
        file.write_text(json.dumps({"machine": there, "results": {}}))
        with pytest.raises(SystemExit, match=re.escape(f"{file}, with cores 96 there")):
            self.call(monkeypatch, "--out", file)

    @pytest.mark.parametrize("content", ["no JSON", "[]", "{}"])
    def test_another_file_is_not_overwritten(self, monkeypatch, tmp_path, content):
        file = tmp_path / "speed.json"
        file.write_text(content)
        with pytest.raises(SystemExit, match="must be a new file or one written by this command"):
            self.call(monkeypatch, "--out", file)
        assert file.read_text() == content


@pytest.mark.parametrize("content", ["no JSON", "[]", "{}", '{"case": 1}'])
def test_growth_does_not_overwrite_another_file(monkeypatch, tmp_path, capsys, content):
    file = tmp_path / "growth.json"
    file.write_text(content)
    monkeypatch.setattr(sys, "argv", ["growth", "--json", str(file)])
    with pytest.raises(SystemExit):
        growth.main()
    assert "must be a new file or one written by this command" in capsys.readouterr().err
    assert file.read_text() == content


@pytest.mark.parametrize("bytes_per_pixel", [100, 700, 5000, 50000])
@pytest.mark.parametrize("unseen", [0, growth.GIB])
def test_the_largest_image_is_found_without_trying_far_larger_ones(
    monkeypatch, bytes_per_pixel, unseen
):
    tried = []

    def measure(side, runs):
        tried.append(side)
        # Small images fit in memory that was allocated before and has been freed.
        peak = max(2 * growth.GIB, 2 * growth.GIB - unseen + bytes_per_pixel * side**2)
        return {"side": side, "before": 2 * growth.GIB, "peak": peak}

    monkeypatch.setattr(growth, "measure", measure)
    monkeypatch.setattr(growth, "row", lambda measured: "")
    found = growth.largest(lambda side, batch: side, 8 * growth.GIB)["side"]
    assert len(tried) < 16
    assert max(tried) <= max(512, 2 * found)
    assert measure(found, 1)["peak"] <= 8 * growth.GIB < measure(found + 32, 1)["peak"]


class TestBackbones:
    def test_every_network_is_counted_once_and_measured_on_its_backends(self):
        tasks = list(backbones.grid())
        assert len(tasks) == sum(1 + len(network.backends) for network in backbones.NETWORKS)
        assert "MobileNetV2 on torch, channels first" in tasks
        assert [task for task in tasks if "FPN" in task][1].endswith(" on torch")

    def test_backends_that_are_not_installed_are_left_out(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "jax", None)
        tasks = list(backbones.grid())
        assert not [task for task in tasks if task.endswith(" on jax")]
        assert "VGG16 on tensorflow" in tasks

    def test_the_tables_have_medians_and_leave_missing_cases_empty(self):
        results = {
            "count VGG16": {"parameters": 134489759, "flop": 3478326912},
            "VGG16 on jax": {"seconds": [0.4, 0.1, 0.2], "before": 1e9, "peak": 2.5e9},
        }
        lines = backbones.tables({"results": results}).splitlines()
        assert "| VGG16 | 134.5 | 3.5 |  | 200 (100 to 400) |  |  |" in lines
        assert "| VGG16 |  | 2.50 (1.00) |  |  |" in lines
        assert len(lines) == 2 * (2 + len(backbones.NETWORKS)) + 1

    def test_the_page_has_the_tables_of_its_data(self):
        folder = Path(__file__).parents[1] / "docs/results"
        page = (folder / "backbones.md").read_text()
        assert backbones.tables(command.load(folder / "backbones/backbones.json")) in page

    def test_a_missing_package_is_an_error_with_its_remedy_and_no_other_case_fails(
        self, monkeypatch, tmp_path
    ):
        file = tmp_path / "backbones.json"
        find_spec = importlib.util.find_spec
        monkeypatch.setattr(
            importlib.util,
            "find_spec",
            lambda name: None if name == "torchvision" else find_spec(name),
        )
        monkeypatch.setattr(
            backbones,
            "grid",
            lambda: {
                "missing": lambda: backbones.count(backbones.NETWORKS[-2]),
                "measured": lambda: {"seconds": [1.0]},
            },
        )
        monkeypatch.setattr(sys, "argv", ["backbones", "--out", str(file)])
        with pytest.raises(SystemExit, match="install it with `pip install torchvision`"):
            backbones.main()
        assert list(json.loads(file.read_text())["results"]) == ["measured"]

    def test_flop_are_counted_and_useless_logits_refused(self):
        import torch

        matrix = torch.ones(3, 5)
        assert backbones_worker.flop(lambda: (matrix @ matrix.T).numpy()) == 2 * 3 * 5 * 3
        for useless in (0.0, 1e-40, float("nan"), float("inf")):
            with pytest.raises(ValueError, match="Logits must be finite"):
                backbones_worker.flop(lambda useless=useless: torch.full((2,), useless).numpy())

    def test_initial_kernels_preserve_the_scale_of_activations(self):
        import keras

        model = keras.Sequential(
            [
                keras.Input((None, None, 64)),
                keras.layers.DepthwiseConv2D(3, padding="same", activation="relu"),
                keras.layers.Conv2D(64, 3, padding="same", activation="relu"),
            ]
        )
        backbones_worker._he_initialization(model)
        depthwise, kernel = (
            keras.ops.convert_to_numpy(variable)
            for variable in model.weights
            if variable.name == "kernel"
        )
        assert depthwise.std() == pytest.approx((2 / 9) ** 0.5, rel=0.1)
        assert kernel.std() == pytest.approx((2 / (9 * 64)) ** 0.5, rel=0.1)

    def test_statistics_of_batch_normalization_count_as_in_keras(self):
        from torch import nn

        assert backbones_worker._values_of_module(nn.BatchNorm2d(7)) == 4 * 7


class TestImbalance:
    @pytest.fixture
    def measured(self, monkeypatch):
        names = []

        def measure(variant, steps, options):
            names.append(variant)
            if variant == "focal loss" and len(names) < 4:
                raise RuntimeError("the process ended")
            iou = dict.fromkeys(imbalance.SHOWN, 0.25) | {"pole": len(names) / 100}
            return {"iou": iou, "mean_iou": 0.5, "steps": steps}

        monkeypatch.setattr(imbalance, "measure", measure)
        monkeypatch.setattr(imbalance, "seconds_per_step", lambda *arguments: 8)
        return names

    def call(self, monkeypatch, *arguments):
        monkeypatch.setattr(sys, "argv", ["imbalance", *map(str, arguments)])
        imbalance.main()

    def test_only_missing_variants_are_measured_again(
        self, monkeypatch, measured, tmp_path, capsys
    ):
        out = tmp_path / "imbalance.json"
        arguments = ("--data", tmp_path, "--seconds", 60, "--out", out)
        with pytest.raises(RuntimeError):
            self.call(monkeypatch, *arguments)
        self.call(monkeypatch, *arguments)
        assert measured == [*list(imbalance.VARIANTS)[:3], *list(imbalance.VARIANTS)[2:]]
        table = out.with_suffix(".md").read_text()
        assert "| class weights | 0.020 | 0.250 | 0.250 | 0.250 | 0.500 | 1 | 8 | 8.00 |" in table
        capsys.readouterr()
        self.call(monkeypatch, "--table", out)
        assert capsys.readouterr().out == table
        with pytest.raises(SystemExit, match=r"holds results of another seconds\."):
            self.call(monkeypatch, "--data", tmp_path, "--seconds", 61, "--out", out)
        kept = json.loads(out.read_text())
        del kept["settings"]["steps"]  # As the published file, which is older.
        out.write_text(json.dumps(kept))
        self.call(monkeypatch, *arguments)
        assert len(measured) == 6

    @pytest.mark.parametrize("arguments", [("--table", "absent.json"), ("--steps", 0)])
    def test_no_file_and_no_step_are_usage_errors(self, arguments, monkeypatch, tmp_path, capsys):
        with pytest.raises(SystemExit):
            self.call(monkeypatch, "--data", tmp_path, "--out", tmp_path / "a.json", *arguments)
        assert f"error: {arguments[0]} must" in capsys.readouterr().err

    def test_seeds_have_their_mean_and_spread(self, monkeypatch, tmp_path, capsys):
        for seed, value in enumerate((0.25, 0.5, 0.375)):
            result = {
                "iou": dict.fromkeys(imbalance.SHOWN, value), "mean_iou": value / 2, "steps": 9
            }  # fmt: skip
            monkeypatch.setattr(imbalance, "measure", lambda *_, result=result: result)
            arguments = ("--data", tmp_path, "--steps", 9, "--seed", seed, "--only", "plain")
            self.call(monkeypatch, *arguments, "--out", tmp_path / f"{seed}.json")
        capsys.readouterr()
        self.call(monkeypatch, "--table", *sorted(tmp_path.glob("*.json")))
        of_all, mean = "0.375 (0.250 to 0.500)", "0.188 (0.125 to 0.250)"
        row = f"| plain | {' | '.join([of_all] * 4)} | {mean} | 3 | 9 |  |"
        assert capsys.readouterr().out.splitlines()[2:] == [row]

    def test_every_variant_is_a_recipe(self, monkeypatch, tmp_path):
        options = argparse.Namespace(
            data=tmp_path, weights=None, fc_units=8, precision="float32", batch_size=1,
            crop=(32, 32), seed=0,
        )  # fmt: skip
        recipes = [imbalance.recipe_of(variant, options) for variant in imbalance.VARIANTS]
        assert len(set(recipes)) == 5


class TestTrainingCost:
    MEASURED = {  # noqa: RUF012
        "backend": "jax",
        "recipe": {
            "images": 10,
            "steps": 5,
            "validation_images": 4,
            "epochs": 2,
            "validations": 1,
        },
        "validation_images": 2,
        "start": 5.0,
        "epochs": [
            {"wall": [40.5], "models": [2.0]},
            {
                # Four steps of 5 s, 3 s around them, a checkpoint and a validation: 0.5 s and two
                # images, each predicted in 1 s and compared in 2.
                "wall": [31.5],
                "cycles": [5.0, 5.0, 5.0],
                "waits": [9.0, 0.25, 0.25, 0.25],
                "checkpoints": [2.0],
                "models": [],
                "validations": [6.5],
                "predictions": [1.0, 1.0],
                "gaps": [50.0, 2.0],
            },
        ],
        "report": {
            "wall": [12.0],
            "predictions": [1.0, 1.0, 3.0, 3.0],
            "gaps": [60.0, 0.5, 60.0, 1.0],
        },
        "alone": {"forward": [1.0, 1.0], "gradients": [3.0, 3.0], "step": [4.0, 4.0]},
        "processor": {"reading": 0.02, "transforms": 0.03},
    }

    def test_the_causes_sum_up_to_the_whole_training(self):
        # Compilation, steps, start and end of epochs, checkpoints, best model.
        whole = 5 + 9 + 2 * 5 * 5 + 2 * 3 + 2 * 2 + 2
        # Four images, in one validation and in the report, which takes 1 s in addition.
        whole += 0.5 + 4 * (1 + 2) + 4 * (1 + 3 + 1.5) + 1
        seconds = training_cost.cost(self.MEASURED)
        assert set(seconds) == {*training_cost.NETWORK, *training_cost.OTHER}
        assert sum(seconds.values()) == pytest.approx(whole / (2 * 10))

    def test_each_cause_has_the_seconds_that_it_took(self):
        assert training_cost.cost(self.MEASURED) == pytest.approx(
            {
                "forward": 0.5,
                "backward": 1.0,
                "update": 0.5,
                "validation, forward": 1.0,
                "waiting for input": 0.125,
                "slower steps": 0.375,
                "epoch's start and end": 0.3,
                "checkpoints": 0.3,
                "validation, rest": 0.725,
                "start, compilation, report": 0.75,
            }
        )

    def test_the_table_has_a_column_per_backend(self):
        lines = training_cost.table([self.MEASURED, self.MEASURED | {"backend": "torch"}])
        assert "| ms per image and epoch | JAX | PyTorch |" in lines
        assert "| **whole training** | 5575.0 | 5575.0 |" in lines
        assert "| **not the network** | **46.2%** | **46.2%** |" in lines
        assert "| transforms: processor time in the background | 30.0 | 30.0 |" in lines
