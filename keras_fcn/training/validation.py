"""The scores of a model on the validation split, as columns of a run's history."""

import keras
import numpy as np

from keras_fcn.distribution import processes
from keras_fcn.training.evaluate import Scores, evaluate
from keras_fcn.training.progress import progress_bar, say
from keras_fcn.training.splits import Split


def validate(
    model: keras.Model, split: Split, loss: keras.losses.Loss, shard: tuple[int, int], epoch: int
) -> dict[str, float]:
    """Returns `val_loss`, the scores (`val_mean_iou` ...) and the IoU of each class.

    With several processes, each evaluates its shard, and all must call this.

    Args:
        model: The model.
        split: The validation split.
        loss: Loss of (label maps, logits).
        shard: (rank, world_size).
        epoch: Number of the epoch for the line on standard error.
    """
    space = split.label_space
    batches = split.batches(shard)
    # Batches of one image, of which a rank may have none.
    count = int(batches.cardinality())
    with progress_bar("validation", count) as advance:
        scores = evaluate(
            model,
            batches,
            num_classes=space.num_classes,
            ignore_class=space.ignore_class,
            loss=loss,
            progress=advance,
        )
    sums = processes.sum_of_all(np.array([count * (scores.loss or 0.0), count]))
    scores = Scores(processes.sum_of_all(scores.matrix), loss=float(sums[0] / sums[1]))
    say(
        f"epoch {epoch}: validation loss {scores.loss:.4g}, "
        + ", ".join(f"{name} {value:.4f}" for name, value in scores.as_dict().items())
    )
    row = {"val_loss": float(sums[0] / sums[1])}
    row |= {f"val_{name}": value for name, value in scores.as_dict().items()}
    for name, iou in zip(space.class_names, scores.class_iou, strict=True):
        row[f"val_iou/{name}"] = float(iou)
    return row
