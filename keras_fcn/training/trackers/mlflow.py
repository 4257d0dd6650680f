"""Tracks a run with MLflow."""

import contextlib
import os
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from keras_fcn.training.trackers.base import Tracker

_EXPERIMENT = "keras-fcn"
_MOST_AT_ONCE = 100  # Parameters or metrics in a request.
_MOST_CHARACTERS = 6000  # In the value of a parameter.
_MOST_CHARACTERS_OF_A_NAME = 250


class MLflowTracker(Tracker):
    """Logs settings as parameters, scores as metrics, and report, pictures and model as artifacts.

    MLflow's own environment variables apply: `MLFLOW_TRACKING_URI` for the server or the database,
    `MLFLOW_EXPERIMENT_NAME` for the experiment, which is `keras-fcn` by default. The tag
    `keras_fcn.run` is the path of the run folder. A run that was stopped has the status KILLED
    until it resumes.

    Args:
        path: The run folder.
    """

    name = "mlflow"

    def open(self, title, settings):
        # By default, a request to a server that is gone is repeated for minutes.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
        # Standard output is for the results.
        os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
        from mlflow import MlflowClient
        from mlflow.entities import Metric, Param

        self._client, self._metric, self._param = MlflowClient(), Metric, Param
        try:
            self._open_run(title, settings)
        except BaseException:
            # An interruption, or a server that has gone: the run would stay "RUNNING".
            if self.tracked.id is not None:
                with contextlib.suppress(Exception):
                    self.close(is_finished=False)
            raise

    def _open_run(self, title, settings):
        if self.tracked.id is not None:
            self._client.update_run(self.tracked.id, status="RUNNING")
            # An epoch may have been logged just before the process ended.
            logged = self._client.get_metric_history(self.tracked.id, "loss")
            self.tracked.epoch = max((metric.step for metric in logged), default=0)
            return
        run = self._client.create_run(
            self._experiment(),
            run_name=title,
            tags={"keras_fcn.run": str(self.run.path.absolute())},
        )
        self.tracked.id = run.info.run_id
        params = [
            self._param(name, _shortened(str(value), _MOST_CHARACTERS))
            for name, value in settings.items()
        ]
        for part in _parts(params):
            self._client.log_batch(self.tracked.id, params=part)

    def _experiment(self):
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", _EXPERIMENT)
        found = self._client.get_experiment_by_name(name)
        return self._client.create_experiment(name) if found is None else found.experiment_id

    def log_scores(self, epoch: int, scores: Mapping[str, float]) -> None:
        now = int(time.time() * 1000)
        # Of all epochs: a score that is not finite in one of them keeps its name in the others.
        names = _metric_names(name for row in self.run.history() for name in row)
        metrics = [self._metric(names[name], value, now, epoch) for name, value in scores.items()]
        for part in _parts(metrics):
            self._client.log_batch(self.tracked.id, metrics=part)

    def log_pictures(self, epoch: int, pictures: Mapping[str, Path]) -> None:
        for path in pictures.values():
            self._client.log_artifact(self.tracked.id, str(path), "pictures")

    def log_files(self, files: list[Path]) -> None:
        for path in files:
            self._client.log_artifact(self.tracked.id, str(path))

    def close(self, is_finished: bool) -> None:
        self._client.set_terminated(self.tracked.id, "FINISHED" if is_finished else "KILLED")


def _parts(values: list) -> Iterator[list]:
    for first in range(0, len(values), _MOST_AT_ONCE):
        yield values[first : first + _MOST_AT_ONCE]


def _shortened(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"


def _metric_names(names: Iterable[str]) -> dict[str, str]:
    """Returns MLflow's name of each score; those that would be equal get numbers."""
    accepted: dict[str, str] = {}
    # A name that MLflow accepts stays as it is.
    for name in sorted(dict.fromkeys(names), key=lambda name: _metric_name(name) != name):
        base = metric = _metric_name(name)
        number = 1
        while metric in accepted.values():
            number += 1
            metric = f"{base[: _MOST_CHARACTERS_OF_A_NAME - 6]} {number}"
        accepted[name] = metric
    return accepted


def _metric_name(name: str) -> Any:
    """Returns the name with underscores for what MLflow refuses, in the length that it accepts.

    It refuses some characters, and names that are no plain paths, such as `a//b` and `a/..`.
    """
    parts = re.sub(r"[^/\w.\- ]", "_", name).split("/")
    name = "/".join("_" if part in ("", ".", "..") else part for part in parts)
    return _shortened(name, _MOST_CHARACTERS_OF_A_NAME).replace("…", "_")
