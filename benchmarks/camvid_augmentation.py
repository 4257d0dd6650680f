"""The augmentation of `benchmarks.camvid`: functions of one image, for JAX to compile."""

import jax
import jax.numpy as jnp
import numpy as np

from keras_fcn.label_spaces import CAMVID

RARE_CLASSES = (2, 6, 7, 9, 10)
"""Pole, sign symbol, fence, pedestrian and bicyclist."""
RARE_PIXELS_PER_IMAGE = 512


def rare_pixels(label_maps, rng):
    """Returns (N, RARE_PIXELS_PER_IMAGE, 2) rows and columns of rare classes, any if none."""
    chosen = []
    for label_map in label_maps:
        present = [np.argwhere(label_map == c) for c in RARE_CLASSES]
        present = [pixels for pixels in present if len(pixels)]
        if not present:
            present = [np.argwhere(label_map >= 0)]
        # The classes have equal shares, however many pixels each has.
        share = [present[i % len(present)] for i in range(RARE_PIXELS_PER_IMAGE)]
        chosen.append([pixels[rng.integers(len(pixels))] for pixels in share])
    return np.asarray(chosen, np.float32)


def window(key, image, label_map, pixels, size, s):
    """Returns a random window of an image and its label map, scaled, rotated and mirrored."""
    height, width = label_map.shape
    keys = iter(jax.random.split(key, 12))
    uniform = lambda low, high, shape=(): jax.random.uniform(  # noqa: E731
        next(keys), shape, minval=low, maxval=high
    )
    scale = jnp.exp(uniform(jnp.log(s["smallest"]), jnp.log(s["largest"])))
    stretch = jnp.exp(uniform(-0.1, 0.1))
    scales = jnp.stack([scale * stretch, scale / stretch])
    half = jnp.asarray(size) / scales / 2
    full = jnp.asarray([height, width], jnp.float32)
    low, high = jnp.minimum(half, full - half), jnp.maximum(half, full - half)
    anywhere = low + uniform(0.0, 1.0, (2,)) * (high - low)
    around = pixels[jax.random.randint(next(keys), (), 0, len(pixels))]
    around = jnp.clip(around + uniform(-0.5, 0.5, (2,)) * half, low, high)
    centre = jnp.where(uniform(0.0, 1.0) < s["rare"], around, anywhere)
    angle = jnp.deg2rad(uniform(-1.0, 1.0) * s["rotation"])
    mirror = jnp.where(uniform(0.0, 1.0) < 0.5, -1.0, 1.0)

    rows = (jnp.arange(size[0]) + 0.5 - size[0] / 2)[:, None] / scales[0]
    columns = mirror * (jnp.arange(size[1]) + 0.5 - size[1] / 2)[None] / scales[1]
    y = centre[0] + jnp.cos(angle) * rows - jnp.sin(angle) * columns - 0.5
    x = centre[1] + jnp.sin(angle) * rows + jnp.cos(angle) * columns - 0.5

    inside = (y > -0.5) & (y < height - 0.5) & (x > -0.5) & (x < width - 0.5)
    near_y = jnp.clip(jnp.round(y), 0, height - 1).astype(int)
    near_x = jnp.clip(jnp.round(x), 0, width - 1).astype(int)
    labels = jnp.where(inside, label_map[near_y, near_x], CAMVID.ignore_class).astype(jnp.int32)

    y, x = jnp.clip(y, 0, height - 1), jnp.clip(x, 0, width - 1)
    y0 = jnp.minimum(jnp.floor(y), height - 2).astype(int)
    x0 = jnp.minimum(jnp.floor(x), width - 2).astype(int)
    dy, dx = (y - y0)[..., None], (x - x0)[..., None]
    corner = lambda i, j: image[y0 + i, x0 + j].astype(jnp.float32)  # noqa: E731
    sampled = (1 - dy) * ((1 - dx) * corner(0, 0) + dx * corner(0, 1)) + dy * (
        (1 - dx) * corner(1, 0) + dx * corner(1, 1)
    )
    return sampled, labels


def recolour(key, image, strength):
    """Returns an RGB image in [0, 255] with random exposure, contrast, colours, noise and blur."""
    keys = iter(jax.random.split(key, 12))
    uniform = lambda low, high, shape=(): jax.random.uniform(  # noqa: E731
        next(keys), shape, minval=low, maxval=high
    )
    x = image / 255
    x = x ** (2 ** (strength * uniform(-0.6, 0.6)))
    x = x * jnp.exp(strength * uniform(-0.4, 0.4)) * jnp.exp(strength * uniform(-0.08, 0.08, (3,)))
    mean = x.mean()
    x = mean + (x - mean) * jnp.exp(strength * uniform(-0.35, 0.35))
    grey = x @ jnp.asarray([0.299, 0.587, 0.114])
    saturation = jnp.where(
        uniform(0.0, 1.0) < 0.05 * strength, 0.0, 1 + strength * uniform(-0.6, 0.6)
    )
    x = grey[..., None] + (x - grey[..., None]) * saturation
    noise = jnp.where(uniform(0.0, 1.0) < 0.3 * strength, uniform(0.0, 0.03), 0.0)
    x = x + noise * jax.random.normal(next(keys), x.shape)
    padded = jnp.pad(x, ((1, 1), (1, 1), (0, 0)), mode="edge")
    blurred = sum(
        weight * padded[i : i + x.shape[0], j : j + x.shape[1]]
        for i, row in enumerate(((1, 2, 1), (2, 4, 2), (1, 2, 1)))
        for j, weight in enumerate(row)
    )
    x = jnp.where(uniform(0.0, 1.0) < 0.2 * strength, blurred / 16, x)
    return 255 * jnp.clip(x, 0, 1)
