"""A small synthetic data set that needs no files: textured shapes on a plain background."""

import numpy as np

from keras_fcn.label_spaces import LabelSpace

SHAPES = LabelSpace(
    class_names=("background", "disc", "square", "triangle"),
    palette=((0, 0, 0), (230, 159, 0), (86, 180, 233), (0, 158, 115)),
)


def draw_shapes(num_images: int, size: int = 64, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Draws images of striped discs, chequered squares and dotted triangles on a grey background.

    The bright colour of a shape is the colour of its class, with each channel changed by at most
    40; the dark colour is random. Later shapes cover earlier ones.

    Args:
        num_images: Number of images.
        size: Height and width in pixels.
        seed: Seed of the random generator.

    Returns:
        Images (num_images, size, size, 3), RGB, uint8, and label maps (num_images, size, size),
        int32, in the label space `SHAPES`.
    """
    generator = np.random.default_rng(seed)
    images = np.empty((num_images, size, size, 3), "uint8")
    label_maps = np.zeros((num_images, size, size), "int32")
    for image, label_map in zip(images, label_maps, strict=True):
        image[:] = generator.integers(60, 196)
        for shape in generator.permutation(3)[: generator.integers(1, 3)]:
            radius = generator.uniform(0.25, 0.38) * size
            centre = generator.uniform(0.2, 0.8, 2) * size
            y, x = np.mgrid[:size, :size] - centre[:, None, None]
            inside, texture = (_disc, _square, _triangle)[shape](y, x, radius)
            light = np.clip(SHAPES.palette[1 + shape] + generator.integers(-40, 41, 3), 0, 255)
            dark = generator.integers(0, 106, 3)
            image[inside] = np.where(texture[..., None], light, dark)[inside]
            label_map[inside] = 1 + shape
        noise = generator.normal(0, 6, image.shape)
        image[:] = np.clip(image + noise, 0, 255)
    return images, label_maps


def _disc(y, x, radius):
    return y**2 + x**2 < radius**2, y % 6 < 3


def _square(y, x, radius):
    side = 0.9 * radius
    return np.maximum(abs(y), abs(x)) < side, (y % 8 < 4) ^ (x % 8 < 4)


def _triangle(y, x, radius):
    inside = (y < 0.7 * radius) & (y > 2 * abs(x) - 1.2 * radius)
    return inside, (y % 6 - 3) ** 2 + (x % 6 - 3) ** 2 < 4
