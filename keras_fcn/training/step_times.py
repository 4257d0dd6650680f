"""Measured times of training steps, and the hours of a run that follow from them."""

import dataclasses

from keras_fcn.training.recipe import Recipe

SOURCE = "docs/results/speed.md"
"""Page with the measurements: FCN-8s, images of 500x500, `padding="paper"`, 4096 units."""
_PRECISIONS = {"float32": "float32", "mixed_bfloat16": "bfloat16", "mixed_float16": "float16"}


@dataclasses.dataclass(frozen=True)
class StepTime:
    """Measured time of a training step.

    Args:
        card: Name of the GPU, as the backend calls it.
        backend: Name of the backend.
        precision: `"float32"` or `"bfloat16"`.
        batch_size: Images in the step.
        seconds: Median duration of the step.
    """

    card: str
    backend: str
    precision: str
    batch_size: int
    seconds: float

    def hours(self, recipe: Recipe) -> float:
        """Returns the hours of all steps of a recipe, in proportion to the images of a step.

        With fewer images than were measured, a step takes longer than in proportion.
        """
        images = (recipe.steps or 0) * recipe.batch_size
        return images * self.seconds / self.batch_size / 3600


STEP_TIMES = (
    StepTime("NVIDIA H200", "jax", "float32", 8, 0.188),
    StepTime("NVIDIA H200", "jax", "bfloat16", 8, 0.0271),
    StepTime("NVIDIA H200", "jax", "bfloat16", 1, 0.0121),
    StepTime("NVIDIA H200", "torch", "float32", 8, 0.222),
    StepTime("NVIDIA H200", "torch", "bfloat16", 8, 0.0809),
)
"""All measured GPUs."""


def step_times(recipe: Recipe) -> list[StepTime]:
    """Returns the time for each GPU and backend in a recipe's precision, of the closest batch size.

    Examples:
        >>> [time.batch_size for time in step_times(Recipe(precision="mixed_bfloat16"))]
        [1, 8]
    """
    closest: dict[tuple[str, str], StepTime] = {}
    for time in STEP_TIMES:
        if time.precision != _PRECISIONS[recipe.precision]:
            continue
        key = time.card, time.backend
        if key not in closest or _distance(time, recipe) < _distance(closest[key], recipe):
            closest[key] = time
    return list(closest.values())


def _distance(time, recipe):
    return abs(time.batch_size - recipe.batch_size)
