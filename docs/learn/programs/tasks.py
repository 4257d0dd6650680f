"""Semantic, instance and panoptic segmentation of one drawn scene."""

import numpy as np
from matplotlib.figure import Figure

CLASSES = ("sky", "grass", "ball", "box")
COLOURS = np.array([(135, 190, 235), (110, 170, 90), (230, 130, 40), (130, 90, 170)]) / 255
THINGS = (2, 3)  # Countable classes ("things"); sky and grass are "stuff".

y, x = np.mgrid[:120, :160]
label_map = np.where(y < 55, 0, 1)  # Semantic: the class of every pixel.
instances = np.zeros_like(label_map)  # Instance id of every pixel, 0 for stuff.
shapes = (
    (2, (y - 70) ** 2 + (x - 40) ** 2 < 26**2),
    (2, (y - 78) ** 2 + (x - 70) ** 2 < 22**2),  # Touches the first ball and occludes part of it.
    (3, (abs(y - 72) < 22) & (abs(x - 122) < 20)),
)
for number, (class_id, inside) in enumerate(shapes, start=1):
    label_map[inside], instances[inside] = class_id, number

image = COLOURS[label_map] + np.random.default_rng(0).normal(0, 0.02, (*label_map.shape, 3))
for number in (1, 2, 3):  # A dark rim that separates the balls visually.
    inside = instances == number
    core = np.all([np.roll(inside, d, axis) for d in (-2, 2) for axis in (0, 1)], axis=0)
    image[inside & ~core] *= 0.75

# One colour per instance.
shades = np.array([(1, 1, 1), (0.95, 0.45, 0.15), (0.2, 0.55, 0.85), (0.6, 0.4, 0.75)])
panoptic = np.where(instances[..., None] > 0, shades[instances], COLOURS[label_map])
panels = {
    "image": np.clip(image, 0, 1),
    "semantic": COLOURS[label_map],
    "instance": shades[instances],
    "panoptic": panoptic,
}
figure = Figure(figsize=(10, 2.2), layout="constrained")
for axes, (title, panel) in zip(figure.subplots(1, 4), panels.items(), strict=True):
    axes.imshow(panel)
    axes.set(title=title, xticks=[], yticks=[])
figure.savefig("tasks.png", dpi=90)

for row, column in ((70, 30), (78, 80), (100, 5)):
    class_id, number = label_map[row, column], instances[row, column]
    thing = f"thing {number}" if number else "no thing"
    print(f"pixel ({row}, {column}): class {class_id} {CLASSES[class_id]}, {thing}")
print("semantic segments:", len(np.unique(label_map)))
print("instances:", len(np.unique(instances[np.isin(label_map, THINGS)])))
print("panoptic segments:", len(np.unique(label_map * 10 + instances)))
