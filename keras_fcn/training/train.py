"""Trains an FCN on pairs of images and label maps."""

import contextlib
import dataclasses
import math
import os
import shutil
import warnings
from collections.abc import Sequence

import keras

from keras_fcn.data.batches import evaluation_batches, training_batches
from keras_fcn.data.examples import check_pairs
from keras_fcn.data.files import Pair
from keras_fcn.data.transforms import photometric_jitter, random_crop, random_flip, random_scale
from keras_fcn.label_spaces import LabelSpace
from keras_fcn.models.fcn import FCN8s, FCN16s, FCN32s
from keras_fcn.training.evaluate import evaluate
from keras_fcn.training.progress import progress_bar
from keras_fcn.training.run import Run
from keras_fcn.weights import diagnose

MODELS = {"fcn32s": FCN32s, "fcn16s": FCN16s, "fcn8s": FCN8s}


@dataclasses.dataclass(frozen=True)
class Settings:
    """What a training run is made of, beside its data.

    Args:
        model: `"fcn32s"`, `"fcn16s"` or `"fcn8s"`.
        weights: As in the models: `None`, a name such as `"imagenet"`, or a path.
        padding: As in the models.
        fc_units: As in the models.
        precision: dtype policy, such as `"float32"` or `"mixed_bfloat16"`.
        epochs: Passes over the training pairs.
        batch_size: Images per step.
        learning_rate: Peak of the learning rate of AdamW; it is reached after a twentieth of the
            steps and falls to 0 along a cosine.
        weight_decay: Decoupled weight decay of the kernels; biases do not decay.
        seed: Seed of initial values, order, transforms and dropout.
        scale: Smallest and largest factor of a random resizing, or `None`.
        crop: Height and width of a random window, or `None` for whole images.
        jitter: Whether colours change at random.

    Raises:
        ValueError: If a setting is not as described.
    """

    model: str = "fcn8s"
    weights: str | None = None
    padding: str = "paper"
    fc_units: int = 4096
    precision: str = "float32"
    epochs: int = 10
    batch_size: int = 1
    learning_rate: float = 1e-4
    weight_decay: float = 1e-4
    seed: int = 0
    scale: tuple[float, float] | None = None
    crop: tuple[int, int] | None = None
    jitter: bool = False

    def __post_init__(self):
        self._require(self.model in MODELS, "model", f"one of {', '.join(MODELS)}")
        for name in ("epochs", "batch_size", "fc_units"):
            self._require(getattr(self, name) >= 1, name, "at least 1")
        self._require(self.learning_rate > 0, "learning_rate", "greater than 0")
        self._require(self.weight_decay >= 0, "weight_decay", "at least 0")
        self._require(self.seed >= 0, "seed", "at least 0")

    def _require(self, condition, name, rule):
        if not condition:
            raise ValueError(f"`{name}` must be {rule}. Received: {name}={getattr(self, name)!r}.")


def train(
    settings: Settings,
    train_pairs: Sequence[Pair],
    val_pairs: Sequence[Pair],
    label_space: LabelSpace,
    out: str | os.PathLike,
) -> list[dict]:
    """Trains a model and leaves a run folder behind.

    Every file is read and checked, and the weights are loaded, before the folder is made.

    Args:
        settings: `Settings`.
        train_pairs: As from `keras_fcn.data.find_pairs`.
        val_pairs: Likewise; empty to go without validation, and to keep the last epoch's model
            instead of the best one's.
        label_space: The `LabelSpace` of the label maps.
        out: Folder that is made; it must not exist.

    Returns:
        History: a dictionary for each epoch, with `loss` and, if validated, `val_` and the names of
        the four scores, and `val_iou/` and the name of each class.

    Raises:
        FileExistsError: If `out` exists.
        FileNotFoundError, ValueError: If a file cannot be used, or the weights do not fit.
    """
    run = Run(out)
    if run.path.exists():
        raise FileExistsError(
            f"`out` must not exist yet, so that no run is overwritten. Received: {out}. Remove it "
            "or name another one."
        )
    transforms = _transforms(settings, label_space.ignore_class)
    classes = {"num_classes": label_space.num_classes, "ignore_class": label_space.ignore_class}
    pairs = [*train_pairs, *val_pairs]
    with progress_bar("checking files", len(pairs)) as advance:
        check_pairs(pairs, **classes, progress=lambda done, of: advance())

    keras.utils.set_random_seed(settings.seed)
    model = MODELS[settings.model](
        num_classes=label_space.num_classes,
        weights=settings.weights,
        padding=settings.padding,
        fc_units=settings.fc_units,
        label_space=label_space,
        data_format="channels_last",
        dtype=settings.precision,
    )
    _warn_of_bad_start(model)
    batches = training_batches(
        train_pairs,
        **classes,
        batch_size=settings.batch_size,
        seed=settings.seed,
        transforms=transforms,
    )
    steps = math.ceil(len(train_pairs) / settings.batch_size) * settings.epochs
    model.compile(
        optimizer=_optimizer(settings, steps),
        loss=keras.losses.SparseCategoricalCrossentropy(
            from_logits=True, ignore_class=label_space.ignore_class
        ),
    )
    val_batches = evaluation_batches(val_pairs, **classes) if val_pairs else None
    progress = _Progress()
    epoch_end = _EpochEnd(run, label_space, val_batches, len(val_pairs))
    run.create(dataclasses.asdict(settings), label_space)
    try:
        model.fit(
            batches,
            epochs=settings.epochs,
            shuffle=False,  # The batches come shuffled.
            verbose=0,
            callbacks=[progress, epoch_end],
        )
    finally:
        progress.close()
        if not run.has_model:
            shutil.rmtree(run.path)
    return epoch_end.history


def _transforms(settings, ignore_class):
    chosen = []
    if settings.scale is not None:
        chosen.append(random_scale(*settings.scale))
    if settings.crop is not None:
        if ignore_class is None:
            raise ValueError(
                "`crop` must go with an ignored class for the padding of small images. "
                f"Received: crop={settings.crop}, ignore_class=None."
            )
        chosen.append(random_crop(*settings.crop, ignore_class))
    chosen.append(random_flip)
    if settings.jitter:
        chosen.append(photometric_jitter())
    return chosen


def _warn_of_bad_start(model):
    """Says in one line what keeps the model from learning; scores are zero at every start."""
    findings = [finding for finding in diagnose(model) if not _is_normal_at_start(finding)]
    if findings:
        warnings.warn("; ".join(str(finding) for finding in findings), stacklevel=3)


def _is_normal_at_start(finding):
    return finding.problem == "zero" and all(name.startswith("score_") for name in finding.layers)


def _optimizer(settings, steps):
    warmup = max(1, steps // 20)
    schedule = keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=settings.learning_rate / warmup,
        decay_steps=max(1, steps - warmup),
        warmup_target=settings.learning_rate,
        warmup_steps=warmup,
    )
    optimizer = keras.optimizers.AdamW(schedule, weight_decay=settings.weight_decay)
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    return optimizer


class _Progress(keras.callbacks.Callback):
    """Shows the steps of each epoch and the mean loss so far."""

    def __init__(self):
        super().__init__()
        self._bar = contextlib.ExitStack()

    def on_epoch_begin(self, epoch, logs=None):
        title = f"epoch {epoch + 1}/{self.params['epochs']}"
        self._advance = self._bar.enter_context(progress_bar(title, self.params["steps"]))

    def on_train_batch_end(self, batch, logs=None):
        self._advance(note=f"loss {logs['loss']:.4f}")

    def on_epoch_end(self, epoch, logs=None):
        self.close()

    def close(self):
        self._bar.close()


class _EpochEnd(keras.callbacks.Callback):
    """Validates, keeps the best model and writes the history."""

    def __init__(self, run, label_space, val_batches, num_val_images):
        super().__init__()
        self.history = []
        self._run = run
        self._label_space = label_space
        self._val_batches = val_batches
        self._num_val_images = num_val_images
        self._best = -1.0

    def on_epoch_end(self, epoch, logs=None):
        row = {"epoch": epoch + 1, "loss": float(logs["loss"])}
        if not math.isfinite(row["loss"]):
            raise ValueError(
                f"The loss must stay finite. Received: {row['loss']} in epoch {epoch + 1}. "
                "Train with a smaller learning rate."
            )
        score = float(epoch)
        if self._val_batches is not None:
            scores = self._validate()
            row |= {f"val_{name}": value for name, value in scores.as_dict().items()}
            for name, iou in zip(self._label_space.class_names, scores.class_iou, strict=True):
                row[f"val_iou/{name}"] = float(iou)
            score = row["val_mean_iou"]
            print(
                f"epoch {epoch + 1}: validation "
                + ", ".join(f"{name} {value:.4f}" for name, value in scores.as_dict().items()),
                flush=True,
            )
        self.history.append(row)
        self._run.write_history(self.history)
        if score > self._best:
            self._best = score
            self._run.save_model(self.model)

    def _validate(self):
        with progress_bar("validation", self._num_val_images) as advance:
            return evaluate(
                self.model,
                self._val_batches,
                num_classes=self._label_space.num_classes,
                ignore_class=self._label_space.ignore_class,
                progress=advance,
            )
