"""Early stopping: the end of a run that does not get better."""


def has_lost_patience(history: list[dict], patience: int | None) -> bool:
    """Whether the last epochs, `patience` of them, brought no better validation mean IoU.

    An epoch without validation never ends a run: its weights may be better.

    Args:
        history: A row for each epoch.
        patience: Number of epochs, `None` for any number.
    """
    if patience is None or "val_mean_iou" not in history[-1]:
        return False
    scores = {row["epoch"]: row["val_mean_iou"] for row in history if "val_mean_iou" in row}
    best = max(scores, key=lambda epoch: scores[epoch])
    return history[-1]["epoch"] - best >= patience
