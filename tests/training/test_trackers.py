import json
import os
import shutil
import warnings

import mlflow
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
from tensorboard.util.tensor_util import make_ndarray
from training.small_runs import Stop, small_recipe
from training.test_run_callbacks import Interrupts
from wandb.proto import wandb_internal_pb2

from keras_fcn.cli import main
from keras_fcn.distribution import processes
from keras_fcn.label_spaces import generic
from keras_fcn.training import Recipe, loop, trainer
from keras_fcn.training.recipe import as_settings, replace
from keras_fcn.training.run_writer import RunWriter
from keras_fcn.training.trackers import MLflowTracker, Tracker, check_names, tracking
from keras_fcn.training.user_code import UserCode

ALL = ["mlflow", "wandb", "tensorboard"]
pytestmark = [
    pytest.mark.any_backend,
    pytest.mark.filterwarnings("ignore:.*random initial values:UserWarning"),
    # MLflow uses what SQLAlchemy 2.1 deprecates.
    pytest.mark.filterwarnings("default:The ``noload`` loader strategy"),
]


class Fake(Tracker):
    """Records what it is told, and fails in the methods of `broken`."""

    name = "fake"

    def __init__(self, path, record, broken=()):
        super().__init__(path)
        self.record, self.broken = record, broken

    def _add(self, name, *values):
        if name in self.broken:
            raise ConnectionError("the server\nis gone")
        self.record.append((name, *values))

    def open(self, title, settings):
        self._add("open", self.tracked.id)
        self.tracked.id = self.tracked.id or "first"

    def log_scores(self, epoch, scores):
        self._add("scores", epoch, dict(scores))

    def log_pictures(self, epoch, pictures):
        self._add("pictures", epoch, list(pictures))

    def log_files(self, files):
        self._add("files", [path.name for path in files])

    def close(self, is_finished):
        self._add("close", is_finished)


@pytest.fixture(scope="module")
def empty_database(tmp_path_factory):
    """A database without runs; MLflow takes a second for the tables of each."""
    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    mlflow.MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def database(empty_database, tmp_path, monkeypatch):
    """A database of its own for each test."""
    path = shutil.copy(empty_database, tmp_path / "mlflow.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{path}")


class TestEveryTracker:
    """On a run folder that no training writes."""

    @pytest.fixture
    def run(self, tmp_path):
        run = RunWriter(tmp_path / "run")
        run.create("small", Recipe(num_classes=2), generic(2))
        return run

    @pytest.fixture(autouse=True)
    def without_plots(self, blank_plots):
        pass

    def train(self, run, tracker, epochs):
        """Writes the history up to each epoch, as a training does."""
        nan = float("nan")
        for last in epochs:
            rows = [{"epoch": n, "loss": n / 8, "val_iou/sky": nan} for n in range(1, last + 1)]
            run.write_history(rows)
            tracker.on_epoch_end(last - 1)

    def epochs(self, record):
        return [call[1] for call in record if call[0] == "scores"]

    def test_logs_finite_scores_at_their_epoch(self, run):
        tracker = Fake(run.path, record := [])
        tracker.on_train_begin()
        self.train(run, tracker, (1, 2))
        assert record == [
            *(("open", None), ("scores", 1, {"loss": 0.125}), ("scores", 2, {"loss": 0.25}))
        ]
        stored = json.loads((run.path / "trackers.json").read_text())
        assert stored == {"fake": {"id": "first", "epoch": 2}}

    def test_a_resumed_run_is_one_run_without_an_epoch_twice(self, run):
        record = []
        interrupted = tracking([tracker := Fake(run.path, record)])
        interrupted.__enter__()
        self.train(run, tracker, (1, 2))
        assert not interrupted.__exit__(Stop, Stop(), None)
        assert record[-1] == ("close", False)
        with tracking([tracker := Fake(run.path, record)]):
            # Epoch 2 is validated again after a resume.
            self.train(run, tracker, (2, 3))
        assert self.epochs(record) == [1, 2, 3]
        assert [call[1] for call in record if call[0] == "open"] == [None, "first"]

    def test_an_interruption_while_another_tracker_opens_closes_the_first(self, run):
        class Interrupted(Fake):
            def open(self, title, settings):
                raise Stop

        trackers = [Fake(run.path, record := []), Interrupted(run.path, later := [])]
        with pytest.raises(Stop), tracking(trackers):
            pass
        assert record == [("open", None), ("close", False)]
        assert later == []

    def test_epochs_that_could_not_be_logged_at_the_start_are_logged_later(self, run):
        self.train(run, Fake(run.path, []), (1,))
        tracker = Fake(run.path, record := [], broken := ["scores"])
        with pytest.warns(UserWarning, match="not tracked"):
            tracker.on_train_begin()
        broken.clear()
        self.train(run, tracker, (2,))
        assert self.epochs(record) == [1, 2]

    def test_a_tracker_that_joins_late_logs_all_epochs(self, run):
        self.train(run, Fake(run.path, []), (1, 2))
        Fake(run.path, record := []).on_train_begin()
        assert self.epochs(record) == [1, 2]

    @pytest.mark.parametrize("where", ["open", "scores", "files", "close"])
    def test_a_failure_is_one_warning(self, run, where):
        tracker = Fake(run.path, [], [where])
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            tracker.on_train_begin()
            self.train(run, tracker, (1, 2))
            tracker.on_train_end()
        (line,) = [str(warning.message) for warning in caught]
        assert line == (
            "The run is not tracked by fake: ConnectionError: the server is gone. The run goes on."
        )

    def test_epochs_that_could_not_be_logged_are_logged_later(self, run):
        tracker = Fake(run.path, record := [], broken := ["scores"])
        tracker.on_train_begin()
        with pytest.warns(UserWarning, match="not tracked"):
            self.train(run, tracker, (1, 2))
        broken.clear()
        self.train(run, tracker, (3,))
        assert self.epochs(record) == [1, 2, 3]

    def test_a_run_that_could_not_be_opened_is_left_alone(self, run):
        tracker = Fake(run.path, record := [], broken := ["open"])
        with pytest.warns(UserWarning, match="not tracked"):
            tracker.on_train_begin()
        broken.clear()
        self.train(run, tracker, (1,))
        tracker.on_train_end()
        tracker.interrupt()
        assert record == []

    def test_a_damaged_file_is_a_warning(self, run):
        (run.path / "trackers.json").write_text("[1]")
        with pytest.warns(UserWarning, match="Remove it to track the run as a new one"):
            Fake(run.path, []).on_train_begin()

    def test_a_server_that_is_gone_is_a_warning(self, run, monkeypatch):
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
        with pytest.warns(UserWarning, match="not tracked by mlflow: MlflowException"):
            MLflowTracker(run.path).on_train_begin()

    @pytest.mark.parametrize("error", [Stop, ConnectionError])
    @pytest.mark.parametrize(
        ("is_new", "method"), [(True, "log_batch"), (False, "get_metric_history")]
    )
    def test_a_run_of_mlflow_that_cannot_be_opened_does_not_stay_running(
        self, run, database, monkeypatch, is_new, method, error
    ):
        if not is_new:
            first = MLflowTracker(run.path)
            first.on_train_begin()
            first.interrupt()
        client, seen = mlflow.MlflowClient(), []

        def status():
            experiment = client.get_experiment_by_name("keras-fcn")
            (found,) = client.search_runs([experiment.experiment_id])
            return found.info.status

        def fails(*args, **kwargs):
            seen.append(status())
            raise error

        monkeypatch.setattr(mlflow.MlflowClient, method, fails)
        told = pytest.raises(Stop) if error is Stop else pytest.warns(UserWarning, match="mlflow")
        with told, tracking([MLflowTracker(run.path)]):
            pass
        assert seen == ["RUNNING"]
        assert status() == "KILLED"

    @pytest.mark.parametrize("name", ["..", "a//b", "road/", "/road", ".", "x" * 300])
    def test_a_class_name_that_is_no_path_of_mlflow(self, run, database, name):
        tracker = MLflowTracker(run.path)
        tracker.on_train_begin()
        run.write_history([{"epoch": 1, "loss": 0.5, f"val_iou/{name}": 0.25}])
        tracker.on_epoch_end(0)
        metrics = mlflow.MlflowClient().get_run(tracker.tracked.id).data.metrics
        assert sorted(metrics.values()) == [0.25, 0.5]

    def test_a_class_name_that_mlflow_refuses(self, run, database, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        names = [f"val_iou/{name}" for name in ("sign symbol", "wall (brick)", "나무", "x+y")]
        run.write_history([{"epoch": 1, "loss": 1.0, **dict.fromkeys(names, 0.5)}])
        tracker = MLflowTracker(run.path)
        tracker.on_train_begin()
        metrics = mlflow.MlflowClient().get_run(tracker.tracked.id).data.metrics
        expected = ["sign symbol", "wall _brick_", "나무", "x_y"]
        assert metrics.keys() == {"loss", *(f"val_iou/{name}" for name in expected)}

    def test_classes_whose_names_mlflow_would_mix_up_have_a_metric_each(
        self, run, tmp_path, monkeypatch
    ):
        monkeypatch.chdir(tmp_path)
        values = {"a?b": 0.1, "a_b": 0.2, "a*b": 0.3, "y" * 300: 0.4, "y" * 301: 0.5}
        first = {f"val_iou/{name}": value for name, value in values.items()}
        # A class that the first epoch did not see shifts no name.
        rows = [{"epoch": 1, **first, "val_iou/a?b": float("nan")}, {"epoch": 2, **first}]
        run.write_history(rows)
        tracker = MLflowTracker(run.path)
        tracker.on_train_begin()
        client, run_id = mlflow.MlflowClient(), tracker.tracked.id
        metrics = client.get_run(run_id).data.metrics
        assert sorted(metrics.values()) == list(values.values())
        assert metrics["val_iou/a_b"] == 0.2
        for name, value in metrics.items():
            assert {each.value for each in client.get_metric_history(run_id, name)} == {value}


@pytest.mark.usefixtures("three_layers", "blank_plots")
class TestTrainings:
    @pytest.fixture(scope="class")
    @classmethod
    def folder(cls, tmp_path_factory):
        return tmp_path_factory.mktemp("tracked")

    @pytest.fixture(scope="class")
    @classmethod
    def interrupted(cls, folder, empty_database, three_layers, blank_plots):
        """What `trackers.json` held when a run of two epochs was interrupted in the second."""
        patch = pytest.MonkeyPatch()
        patch.chdir(folder)
        shutil.copy(empty_database, folder)
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
        patch.setenv("WANDB_MODE", "offline")
        patch.setenv("WANDB_SILENT", "true")
        recipe, run = small_recipe(folder), folder / "run"
        with pytest.raises(Stop):
            trainer.train(recipe, run, name="small", callbacks=[Interrupts(1)], track=ALL)
        yield json.loads((run / "trackers.json").read_text())
        patch.undo()

    @pytest.fixture(scope="class")
    @classmethod
    def client(cls, folder, interrupted):
        return mlflow.MlflowClient(f"sqlite:///{folder}/mlflow.db")

    @pytest.fixture(scope="class")
    @classmethod
    def status(cls, client, interrupted):
        return client.get_run(interrupted["mlflow"]["id"]).info.status

    @pytest.fixture(scope="class")
    @classmethod
    def run(cls, folder, interrupted, status):
        """The run, resumed to its end."""
        # As if the process had ended before it wrote that the epoch was logged.
        stored = {**interrupted, "mlflow": {**interrupted["mlflow"], "epoch": 0}}
        (folder / "run" / "trackers.json").write_text(json.dumps(stored))
        return trainer.resume(folder / "run", callbacks=[Interrupts(None)], track=ALL)

    def test_what_the_run_stores(self, run, interrupted):
        assert {name: each["epoch"] for name, each in interrupted.items()} == dict.fromkeys(ALL, 1)
        stored = json.loads((run.path / "trackers.json").read_text())
        assert {name: each["epoch"] for name, each in stored.items()} == dict.fromkeys(ALL, 2)
        for name in ALL:
            assert stored[name]["id"] == interrupted[name]["id"]
        # Callbacks of a resume must be those of before; trackers need not be given.
        assert run.user_code_names() == {"callbacks": ["Interrupts"]}

    def test_mlflow_has_one_run_with_each_epoch_once(self, run, client, status):
        assert status == "KILLED"
        (experiment,) = [e for e in client.search_experiments() if e.name == "keras-fcn"]
        (tracked,) = client.search_runs([experiment.experiment_id])
        assert tracked.info.status == "FINISHED"
        assert tracked.info.run_name == "small: run"
        assert tracked.data.tags["keras_fcn.run"] == str(run.path)
        settings = as_settings(run.recipe()[1])
        assert tracked.data.params == {name: str(value) for name, value in settings.items()}
        history = run.history()
        names = {name for row in history for name, value in row.items() if value == value}
        assert "val_iou/class 0" in names
        assert tracked.data.metrics.keys() == names - {"epoch"}
        for name in names - {"epoch"}:
            logged = client.get_metric_history(tracked.info.run_id, name)
            expected = [(row["epoch"], row[name]) for row in history if row[name] == row[name]]
            assert [(metric.step, metric.value) for metric in logged] == expected

    def test_mlflow_has_report_model_and_pictures(self, run, client, interrupted, tmp_path):
        folder = client.download_artifacts(interrupted["mlflow"]["id"], "", str(tmp_path))
        for name in ("best.keras", "report.html"):
            with open(os.path.join(folder, name), "rb") as file:
                assert file.read() == (run.path / name).read_bytes()
        names = sorted(os.listdir(os.path.join(folder, "pictures")))
        assert [name[:7] for name in names] == ["best_1_", "best_2_", "confusi"]
        assert {name[7] for name in names[:2]} == {"d", "e"}

    def test_wandb_offline_has_each_epoch_once(self, run, interrupted):
        paths = sorted((run.path / "wandb").glob("offline-run-*/*.wandb"))
        assert [path.stem for path in paths] == [f"run-{interrupted['wandb']['id']}"] * 2
        records = [record for path in paths for record in wandb_records(path)]
        rows = [
            {
                "/".join(item.nested_key) or item.key: json.loads(item.value_json)
                for item in record.history.item
            }
            for record in records
            if record.WhichOneof("record_type") == "history"
        ]
        *epochs, pictures = rows
        for row, expected in zip(epochs, run.history(), strict=True):
            assert row["_step"] == row["epoch"]
            received = {name: value for name, value in row.items() if name[0] != "_"}
            assert received == {name: v for name, v in expected.items() if v == v}
        assert pictures["confusion_matrix/_type"] == "image-file"
        assert pictures["overlays/count"] == 2
        config = {
            item.key: json.loads(item.value_json)
            for record in records
            for item in record.run.config.update
        }
        assert config["epochs"] == 2
        assert config["run_folder"] == str(run.path)
        artifacts = {r.artifact.type: r.artifact.manifest for r in records if r.artifact.type}
        assert artifacts.keys() == {"model", "report"}
        (file,) = artifacts["model"].contents
        with open(file.local_path, "rb") as model:
            assert model.read() == (run.path / "best.keras").read_bytes()

    def test_tensorboard_has_settings_and_pictures(self, run):
        events = EventAccumulator(str(run.path / "tensorboard"), {"tensors": 0})
        events.Reload()
        tags = set(events.Tags()["tensors"])
        assert {"settings", "confusion_matrix", "loss", "val_mean_iou"} <= tags
        assert len([tag for tag in tags if tag.startswith("best_")]) == 2
        (text,) = events.Tensors("settings")
        assert "| batch_size | 2 |" in make_ndarray(text.tensor_proto).item().decode()
        (picture,) = events.Tensors("confusion_matrix")
        assert picture.step == 2
        assert [event.step for event in events.Tensors("val_mean_iou")] == [1, 2]
        content = events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
        start = HParamsPluginData.FromString(content).session_start_info
        assert start.hparams["batch_size"].number_value == 2
        assert start.hparams["model"].string_value == "fcn32s"

    def test_other_ranks_track_nothing(self, folder, tmp_path, run, monkeypatch):
        options = (run.recipe()[1], None, None, None, UserCode(), ["tensorboard"])
        first = loop.Training.begin(RunWriter(tmp_path / "run"), *options)
        assert [type(tracker).__name__ for tracker in first.trackers] == ["TensorBoardTracker"]
        monkeypatch.setattr(processes, "rank", lambda: 1)
        assert loop.Training.begin(RunWriter(tmp_path / "run"), *options).trackers == []

    def test_a_missing_package_leaves_no_run(self, tmp_path, monkeypatch):
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
        with pytest.raises(ImportError, match="mlflow must be installed for 'mlflow' in `track`"):
            trainer.train("folder", tmp_path / "run", track=["mlflow"])
        assert not (tmp_path / "run").exists()

    def test_the_command_tracks(self, folder, tmp_path, capsys):
        recipe = replace(small_recipe(tmp_path), epochs=1)
        names = ("images", "labels", "val_images", "val_labels")
        folders = [f"--{name.replace('_', '-')}={getattr(recipe, name)}" for name in names]
        options = ["--num-classes=3", "--ignore-class=255", "--model=fcn32s", "--epochs=1"]
        run, track = str(tmp_path / "run"), ["--track", "tensorboard"]
        assert main(["train", *folders, *options, "--out", run, *track]) == 0
        assert (tmp_path / "run" / "trackers.json").is_file()
        assert main(["train", "--resume", run, *track, "--epochs", "2"]) == 1
        assert "--keep-state or --track" in capsys.readouterr().err
        assert main(["train", "--resume", run, *track]) == 0


def test_names_of_trackers():
    assert check_names(["mlflow", "wandb", "mlflow"]) == ("mlflow", "wandb")
    with pytest.raises(ValueError, match=r"must hold mlflow, wandb, tensorboard\. Received: 'nep"):
        check_names(["neptune"])


def wandb_records(path):
    """The records of a file of W&B, whose package has no reader in Python any more.

    It is a log in the format of LevelDB: blocks of 32 KiB, in which each part of a record has a
    checksum, a length and a type: whole, first, middle or last. Seven bytes of W&B come first.
    """
    data, place, record = path.read_bytes(), 7, b""
    while place + 7 <= len(data):
        if (left := -place % 2**15) < 7 and left:
            place += left
            continue
        length, kind = int.from_bytes(data[place + 4 : place + 6], "little"), data[place + 6]
        record += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):
            yield wandb_internal_pb2.Record.FromString(record)
            record = b""
