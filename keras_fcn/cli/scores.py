"""Scores as a table."""


def print_scores(title: str, scores: dict[str, float], class_iou: dict[str, float]) -> None:
    """Prints scores by name, then the IoU of each class by its name."""
    from keras_fcn.training.evaluate import score_title

    lines = {score_title(name): score for name, score in scores.items()}
    lines |= {f"IoU of {name}": iou for name, iou in class_iou.items()}
    print(f"{title}:")
    for name, value in lines.items():
        print(f"  {name:<26} {value:.4f}")
