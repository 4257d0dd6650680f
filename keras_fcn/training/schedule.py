"""The learning-rate schedule of a recipe: constant or cosine, after a linear warm-up."""

import keras

from keras_fcn.training.recipe import Recipe


def schedule(
    recipe: Recipe, num_steps: int
) -> float | keras.optimizers.schedules.LearningRateSchedule:
    """Returns the learning rate, or its schedule over batches.

    Keras also counts the batches that only accumulate gradients.

    Args:
        recipe: The recipe.
        num_steps: Number of batches of the whole training.
    """
    warmup = round(recipe.warmup * num_steps)
    if recipe.schedule == "constant" and not warmup:
        return recipe.learning_rate
    warming = {"warmup_target": recipe.learning_rate, "warmup_steps": warmup} if warmup else {}
    return keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=recipe.learning_rate / max(1, warmup),
        decay_steps=max(1, num_steps - warmup),
        # The final rate as a fraction of the peak: 1 keeps the rate constant.
        alpha=0.0 if recipe.schedule == "cosine" else 1.0,
        **warming,
    )


def learning_rate(recipe: Recipe, num_steps: int, step: int) -> float:
    """Returns the learning rate of a batch.

    Args:
        recipe: The recipe.
        num_steps: As in `schedule`.
        step: Number of the batch, from 0.
    """
    rate = schedule(recipe, num_steps)
    return float(rate(step) if callable(rate) else rate)
