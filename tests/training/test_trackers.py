import functools
import json
import os

import mlflow
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
from tensorboard.util.tensor_util import make_ndarray
from training.test_run_callbacks import Interrupts
from training.test_trainer import Stop, small_recipe
from wandb.proto import wandb_internal_pb2

from keras_fcn.cli import main
from keras_fcn.distribution import processes
from keras_fcn.training import StagedRecipe, loop, trainer
from keras_fcn.training.recipe import as_settings, replace
from keras_fcn.training.trackers import Tracker, check_names

pytestmark = [
    pytest.mark.any_backend,
    pytest.mark.filterwarnings("ignore:.*random initial values:UserWarning"),
    pytest.mark.usefixtures("three_layers", "blank_plots"),
]
train = functools.partial(trainer.train, name="small")


@pytest.fixture
def recipe(tmp_path):
    """Three epochs of two steps."""
    return replace(small_recipe(tmp_path), epochs=3)


def interrupted(recipe, out, epoch, **options):
    """Trains until the first step of an epoch, from 0."""
    with pytest.raises(Stop):
        train(recipe, out, callbacks=[Interrupts(epoch)], **options)


def resume(out, **options):
    return trainer.resume(out, callbacks=[Interrupts(None)], **options)


class Fake(Tracker):
    """Records what it is told, and fails where `broken` says so."""

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
        self.settings = settings

    def log_scores(self, epoch, scores):
        self._add("scores", epoch, dict(scores))

    def log_pictures(self, epoch, pictures):
        assert all(path.is_file() for path in pictures.values())
        self._add("pictures", epoch, list(pictures))

    def log_files(self, files):
        self._add("files", [path.name for path in files])

    def close(self, is_finished):
        self._add("close", is_finished)


class TestEveryTracker:
    @pytest.fixture
    def record(self):
        return []

    @pytest.fixture
    def tracker(self, monkeypatch, record):
        """Runs have a `Fake`; a list of the methods that fail, to change."""
        broken = []
        monkeypatch.setattr(
            loop, "open_trackers", lambda names, run: [Fake(run.path, record, broken)]
        )
        return broken

    def epochs(self, record):
        return [call[1] for call in record if call[0] == "scores"]

    def test_a_run_is_logged_from_begin_to_end(self, recipe, tmp_path, tracker, record):
        run = train(recipe, tmp_path / "run")
        names = [call[0] for call in record]
        assert names == ["open", *["scores"] * 3, "pictures", "files", "close"]
        for (_, epoch, scores), row in zip(record[1:4], run.history(), strict=True):
            # The history has NaN for a class that does not occur.
            assert {"epoch": epoch, **scores} == {k: v for k, v in row.items() if v == v}
            assert "val_iou/class 0" in scores
        assert record[-2:] == [("files", ["report.html", "best.keras"]), ("close", True)]
        titles = record[-3][2]
        assert titles[-1] == "confusion matrix"
        assert sorted(title.split(":")[0] for title in titles[:-1]) == ["best 1", "best 2"]
        assert json.loads((run.path / "trackers.json").read_text()) == {
            "fake": {"id": "first", "epoch": 3}
        }

    def test_a_resumed_run_logs_no_epoch_twice(self, recipe, tmp_path, tracker, record):
        interrupted(recipe, tmp_path / "run", 2)
        assert record[-1] == ("close", False)
        assert self.epochs(record) == [1, 2]
        resume(tmp_path / "run")
        assert self.epochs(record) == [1, 2, 3]
        assert [call for call in record if call[0] == "open"] == [("open", None), ("open", "first")]

    def test_a_tracker_that_joins_late_logs_all_epochs(self, recipe, tmp_path, monkeypatch, record):
        interrupted(recipe, tmp_path / "run", 2)
        monkeypatch.setattr(loop, "open_trackers", lambda names, run: [Fake(run.path, record)])
        resume(tmp_path / "run", track=["mlflow"])
        assert self.epochs(record) == [1, 2, 3]

    @pytest.mark.parametrize("where", ["open", "pictures", "close"])
    def test_a_failure_is_one_warning(self, recipe, tmp_path, tracker, record, where):
        tracker.append(where)
        with pytest.warns(UserWarning, match="not tracked by fake: ConnectionError") as warnings:
            run = train(recipe, tmp_path / "run")
        (line,) = [str(w.message) for w in warnings if "tracked" in str(w.message)]
        assert line.endswith("the server is gone The run goes on.")
        assert run.is_finished
        assert (where == "open") == (record == [])

    def test_epochs_that_could_not_be_logged_are_logged_later(
        self, recipe, tmp_path, tracker, record, monkeypatch
    ):
        tracker.append("scores")
        append = tracker.append
        original = loop.Training._finish_epoch

        def heals(self):
            if self.state.epoch == 3:
                tracker.clear()
            original(self)

        monkeypatch.setattr(loop.Training, "_finish_epoch", heals)
        with pytest.warns(UserWarning, match="not tracked"):
            train(recipe, tmp_path / "run")
        assert append is not None
        assert self.epochs(record) == [1, 2, 3]

    def test_a_damaged_file_is_a_warning(self, recipe, tmp_path, tracker, record):
        interrupted(recipe, tmp_path / "run", 2)
        (tmp_path / "run" / "trackers.json").write_text("[1]")
        with pytest.warns(UserWarning, match="Remove it to track the run as a new one"):
            resume(tmp_path / "run")

    def test_other_ranks_track_nothing(self, recipe, tmp_path, tracker, record, monkeypatch):
        monkeypatch.setattr(processes, "rank", lambda: 1)
        trained = loop.Training.begin(
            loop.Run(tmp_path / "run"), recipe, None, None, None, loop.UserCode(), ["mlflow"]
        )
        assert trained.trackers == []

    def test_each_stage_is_a_run(self, recipe, tmp_path, tracker, record):
        recipe = replace(recipe, epochs=1)
        staged = StagedRecipe(
            stages={"32s": recipe, "16s": replace(recipe, model="fcn16s", weights="fcn32s")}
        )
        train(staged, tmp_path / "run")
        assert self.epochs(record) == [1, 1]
        assert (tmp_path / "run" / "16s" / "trackers.json").is_file()


def test_names_of_trackers(monkeypatch):
    assert check_names(["mlflow", "wandb", "mlflow"]) == ("mlflow", "wandb")
    with pytest.raises(ValueError, match="must hold mlflow, wandb, tensorboard. Received: 'neptu"):
        check_names(["neptune"])
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"wandb must be installed .*pip install 'keras-fcn\[wan"):
        check_names(["wandb"])


def test_a_missing_package_leaves_no_run(recipe, tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ImportError, match="for 'mlflow'"):
        train(recipe, tmp_path / "run", track=["mlflow"])
    assert not (tmp_path / "run").exists()


# MLflow uses what SQLAlchemy 2.1 deprecates.
@pytest.mark.filterwarnings("default")
class TestMLflow:
    @pytest.fixture
    def client(self, tmp_path, monkeypatch):
        """MLflow's own client of a database."""
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
        return mlflow.MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")

    def only_run(self, client):
        (experiment,) = [e for e in client.search_experiments() if e.name == "keras-fcn"]
        (run,) = client.search_runs([experiment.experiment_id])
        return run

    def test_a_run_that_resumes_is_one_run(self, client, recipe, tmp_path, monkeypatch):
        interrupted(recipe, tmp_path / "run", 1, track=["mlflow"])
        begun = self.only_run(client)
        assert begun.info.status == "KILLED"
        # As if the process had ended between the tracker and the file.
        stored = json.loads((tmp_path / "run" / "trackers.json").read_text())
        assert stored == {"mlflow": {"id": begun.info.run_id, "epoch": 1}}
        stored["mlflow"]["epoch"] = 0
        (tmp_path / "run" / "trackers.json").write_text(json.dumps(stored))

        run = resume(tmp_path / "run", track=["mlflow"])
        tracked = self.only_run(client)
        assert tracked.info.run_id == begun.info.run_id
        assert tracked.info.status == "FINISHED"
        assert tracked.info.run_name == "small: run"
        assert tracked.data.tags["keras_fcn.run"] == str(tmp_path / "run")
        settings = as_settings(run.recipe()[1])
        assert tracked.data.params == {name: str(value) for name, value in settings.items()}
        history = run.history()
        names = {name for row in history for name, value in row.items() if value == value}
        assert tracked.data.metrics.keys() == names - {"epoch"}
        for name in names - {"epoch"}:
            logged = client.get_metric_history(tracked.info.run_id, name)
            received = [(metric.step, metric.value) for metric in logged]
            expected = [(row["epoch"], row[name]) for row in history if row[name] == row[name]]
            assert received == expected

        folder = client.download_artifacts(tracked.info.run_id, "", str(tmp_path))
        for name in ("best.keras", "report.html"):
            with open(os.path.join(folder, name), "rb") as file:
                assert file.read() == (run.path / name).read_bytes()
        pictures = sorted(os.listdir(os.path.join(folder, "pictures")))
        assert pictures == ["best_1_e.jpg", "best_2_d.jpg", "confusion_matrix.png"] or pictures == [
            *("best_1_d.jpg", "best_2_e.jpg", "confusion_matrix.png")
        ]

    def test_a_class_name_that_mlflow_refuses(self, client, recipe, tmp_path):
        space = tmp_path / "space.json"
        names = ["sign symbol", "wall (brick)", "x+y"]
        space.write_text(json.dumps({"class_names": names, "ignore_class": 255}))
        recipe = replace(
            recipe, num_classes=None, ignore_class=None, label_space=str(space), epochs=1
        )
        train(recipe, tmp_path / "run", track=["mlflow"])
        metrics = self.only_run(client).data.metrics
        assert {"val_iou/sign symbol", "val_iou/wall _brick_", "val_iou/x_y"} <= metrics.keys()

    def test_a_server_that_is_gone_does_not_end_the_run(self, recipe, tmp_path, monkeypatch):
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
        with pytest.warns(UserWarning, match="not tracked by mlflow: MlflowException"):
            run = train(recipe, tmp_path / "run", track=["mlflow"])
        assert run.is_finished


# What W&B uses of pydantic and protobuf is its own matter.
@pytest.mark.filterwarnings("default")
def test_wandb_offline_holds_the_run(recipe, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    recipe = replace(recipe, epochs=2)
    interrupted(recipe, tmp_path / "run", 1, track=["wandb"])
    run = resume(tmp_path / "run", track=["wandb"])
    (first, second) = sorted((run.path / "wandb").glob("offline-run-*/*.wandb"))
    identifier = json.loads((run.path / "trackers.json").read_text())["wandb"]["id"]
    assert [path.stem for path in (first, second)] == [f"run-{identifier}"] * 2
    records = [*wandb_records(first), *wandb_records(second)]
    history = []
    for record in records:
        if record.WhichOneof("record_type") == "history":
            items = record.history.item
            row = {"/".join(i.nested_key) or i.key: json.loads(i.value_json) for i in items}
            history.append((record.history.step.num, row))
    pictures = [row for _, row in history if "overlays" in row]
    steps = [(step, row) for step, row in history if "overlays" not in row]
    assert [step for step, _ in steps] == [1, 2]
    for (_, row), expected in zip(steps, run.history(), strict=True):
        assert {k: v for k, v in row.items() if k[0] != "_"} == {
            k: v for k, v in expected.items() if v == v
        }
    assert pictures[0]["overlays"]["count"] == 2
    assert pictures[0]["confusion_matrix"]["_type"] == "image-file"
    config = {
        item.key: json.loads(item.value_json)
        for record in records
        for item in (*record.run.config.update, *record.config.update)
    }
    assert config["epochs"] == 2
    assert config["run_folder"] == str(run.path)
    artifacts = {
        record.request.log_artifact.artifact.type or record.artifact.type for record in records
    }
    assert {"model", "report"} <= artifacts


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


def test_tensorboard_has_settings_and_pictures(recipe, tmp_path):
    run = train(recipe, tmp_path / "run", track=["tensorboard"])
    events = EventAccumulator(str(run.path / "tensorboard"), {"tensors": 0})
    events.Reload()
    tags = set(events.Tags()["tensors"])
    assert {"settings", "confusion_matrix", "loss", "val_mean_iou"} <= tags
    assert len([tag for tag in tags if tag.startswith("best_")]) == 2
    (text,) = events.Tensors("settings")
    assert "| batch_size | 2 |" in make_ndarray(text.tensor_proto).item().decode()
    (picture,) = events.Tensors("confusion_matrix")
    assert picture.step == 3
    assert len(events.Tensors("val_mean_iou")) == 3
    content = events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    start = HParamsPluginData.FromString(content).session_start_info
    assert start.hparams["batch_size"].number_value == 2
    assert start.hparams["model"].string_value == "fcn32s"


def test_the_command_tracks_and_resumes(recipe, tmp_path, capsys):
    folders = [f"--{name.replace('_', '-')}={getattr(recipe, name)}" for name in FOLDERS]
    options = ["--num-classes=3", "--ignore-class=255", "--model=fcn32s", "--epochs=1"]
    run = str(tmp_path / "run")
    assert main(["train", *folders, *options, "--out", run, "--track", "tensorboard"]) == 0
    assert (tmp_path / "run" / "trackers.json").is_file()
    assert main(["train", "--resume", run, "--track", "tensorboard", "--epochs", "2"]) == 1
    assert "--keep-state or --track" in capsys.readouterr().err
    assert main(["train", "--resume", run, "--track", "tensorboard"]) == 0


FOLDERS = ("images", "labels", "val_images", "val_labels")
