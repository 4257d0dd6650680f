"""The scores of a model on the validation split, as columns of a run's history."""

from collections.abc import Callable, Mapping

import keras
import numpy as np

from keras_fcn.distribution import processes
from keras_fcn.training.evaluate import Scores, evaluate
from keras_fcn.training.progress import progress_bar, say
from keras_fcn.training.splits import Split


def validate(
    models: Mapping[str, keras.Model],
    split: Split,
    loss_of: Callable[[Split], keras.losses.Loss],
    shard: tuple[int, int],
    epoch: int,
) -> dict[str, float]:
    """Returns `val_loss`, the scores (`val_mean_iou` ...) and the IoU of each class.

    Those of further tasks have the name of the task in theirs: `val_geometric_mean_iou`. With
    several processes, each evaluates its shard, and all must call this.

    Args:
        models: Dictionary from each task to the model of its logits.
        split: The validation split.
        loss_of: Function that returns the loss of (label maps, logits) for the split of a task.
        shard: (rank, world_size).
        epoch: Number of the epoch for the line on standard error.
    """
    row: dict[str, float] = {}
    for task, model in models.items():
        of_task = split.of_task(task)
        scores = _scores(model, of_task, loss_of(of_task), shard)
        say(
            f"epoch {epoch}: {task + ' ' if row else ''}validation loss {scores.loss:.4g}, "
            + ", ".join(f"{name} {value:.4f}" for name, value in scores.as_dict().items())
        )
        prefix = f"val_{task}" if row else "val"
        row[f"{prefix}_loss"] = scores.loss
        row |= {f"{prefix}_{name}": value for name, value in scores.as_dict().items()}
        names = of_task.label_space.class_names
        for name, iou in zip(names, scores.class_iou, strict=True):
            row[f"{prefix}_iou/{name}"] = float(iou)
    return row


def _scores(model, split, loss, shard):
    batches = split.batches(shard)
    # Batches of one image, of which a rank may have none.
    count = int(batches.cardinality())
    with progress_bar("validation", count) as advance:
        scores = evaluate(model, batches, **split.classes, loss=loss, progress=advance)
    sums = processes.sum_of_all(np.array([count * (scores.loss or 0.0), count]))
    return Scores(processes.sum_of_all(scores.matrix), loss=float(sums[0] / sums[1]))
