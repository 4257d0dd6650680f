"""Searches learning rate and weight decay with Optuna, and prunes trials that start badly.

pip install optuna
python tune.py

Writes drawn shapes as a data set, and a run folder for each trial, into the folder tuning.
"""

from pathlib import Path

import keras
import optuna
from PIL import Image

from keras_fcn.data.drawn_shapes import draw_shapes
from keras_fcn.training import Recipe, train

folder = Path("tuning")
for split, number, seed in (("train", 8, 0), ("val", 4, 1)):
    for part in ("images", "labels"):
        (folder / split / part).mkdir(parents=True)
    for index, (image, label_map) in enumerate(zip(*draw_shapes(number, 48, seed), strict=True)):
        Image.fromarray(image.astype("uint8")).save(folder / split / f"images/{index}.png")
        Image.fromarray(label_map.astype("uint8")).save(folder / split / f"labels/{index}.png")


# --8<-- [start:search]
class Prune(keras.callbacks.Callback):
    """Reports each epoch's score to a trial, and ends the trial that falls behind the others."""

    def __init__(self, trial):
        super().__init__()
        self.trial = trial

    def on_epoch_end(self, epoch, logs=None):
        self.trial.report(logs["val_mean_iou"], epoch)
        if self.trial.should_prune():
            raise optuna.TrialPruned


def score(trial):
    """Trains with the settings that a trial suggests and returns the best score."""
    recipe = Recipe(
        images=str(folder / "train/images"),
        labels=str(folder / "train/labels"),
        val_images=str(folder / "val/images"),
        val_labels=str(folder / "val/labels"),
        num_classes=4,
        model="fcn8s",
        weights="camvid",
        padding="same",
        fc_units=384,
        fc6_kernel_size=5,
        batch_size=4,
        epochs=3,
        learning_rate=trial.suggest_float("learning_rate", 1e-6, 1e-2, log=True),
        weight_decay=trial.suggest_float("weight_decay", 1e-5, 1e-1, log=True),
    )
    run = train(recipe, folder / f"trial-{trial.number}", callbacks=[Prune(trial)])
    return max(row["val_mean_iou"] for row in run.history())


# --8<-- [end:search]
if __name__ == "__main__":
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        direction="maximize",
        sampler=optuna.samplers.TPESampler(seed=0),
        # From the third trial and the second epoch on: the worse half ends early.
        pruner=optuna.pruners.MedianPruner(n_startup_trials=2, n_warmup_steps=1),
    )
    study.optimize(score, n_trials=5)
    for trial in study.trials:
        values = ", ".join(f"{name} {value:.2g}" for name, value in trial.params.items())
        epochs = len(trial.intermediate_values)
        print(f"trial {trial.number}: {values}: {trial.state.name.lower()} after {epochs} epochs")
    best = ", ".join(f"{name}={value:.2g}" for name, value in study.best_params.items())
    print(f"best: {best}, val_mean_iou {study.best_value:.4f}")
