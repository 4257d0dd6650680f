"""Tracks a run with Weights & Biases."""

import os
import uuid
from collections.abc import Mapping
from pathlib import Path

from keras_fcn.training.trackers.base import Tracker

_PROJECT = "keras-fcn"


class WandbTracker(Tracker):
    """Logs settings as config, scores as history, pictures as media, report and model as artifacts.

    The environment variables of W&B apply: `WANDB_PROJECT`, which is `keras-fcn` by default,
    `WANDB_ENTITY`, `WANDB_MODE=offline` and so on. Without `WANDB_DIR`, its files are written into
    the folder `wandb` of the run. `run_folder` of the config is the path of the run folder.

    Args:
        path: The run folder.
    """

    name = "wandb"

    def open(self, title, settings):
        import wandb

        self._wandb = wandb
        self.tracked.id = self.tracked.id or uuid.uuid4().hex[:8]
        options = {} if "WANDB_DIR" in os.environ else {"dir": str(self.run.path)}
        self._tracked_run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", _PROJECT),
            id=self.tracked.id,
            resume="allow",
            name=title,
            config={**settings, "run_folder": str(self.run.path.absolute())},
            # One process may train several runs, such as the stages of a recipe.
            reinit="create_new",
            **options,
        )

    def log_scores(self, epoch: int, scores: Mapping[str, float]) -> None:
        self._tracked_run.log({"epoch": epoch, **scores}, step=epoch, commit=True)

    def log_pictures(self, epoch: int, pictures: Mapping[str, Path]) -> None:
        overlays = dict(pictures)
        matrix = overlays.pop("confusion matrix")
        image = self._wandb.Image
        self._tracked_run.log(
            {
                "epoch": epoch,
                "overlays": [image(str(path), caption=title) for title, path in overlays.items()],
                "confusion_matrix": image(str(matrix)),
            },
            step=epoch + 1,
            commit=True,
        )

    def log_files(self, files: list[Path]) -> None:
        for path in files:
            artifact = self._wandb.Artifact(
                f"{path.stem}-{self.tracked.id}", "model" if path.suffix == ".keras" else "report"
            )
            artifact.add_file(str(path))
            self._tracked_run.log_artifact(artifact)

    def close(self, is_finished: bool) -> None:
        self._tracked_run.finish(exit_code=0 if is_finished else 1)
