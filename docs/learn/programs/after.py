"""The receptive field of one output pixel: three 3x3 convolutions, plain, strided and dilated."""

import keras
import numpy as np
from matplotlib.figure import Figure

SIZE = 33
stacks = {
    "plain": [{}, {}, {}],
    "stride 2 between": [{"strides": 2}, {"strides": 2}, {}],
    "dilated by 1, 2, 4": [{}, {"dilation_rate": 2}, {"dilation_rate": 4}],
}
figure = Figure(figsize=(9, 3.1), layout="constrained")
for axes, (name, layers) in zip(figure.subplots(1, 3), stacks.items(), strict=True):
    model = keras.Sequential([keras.Input((SIZE, SIZE, 1))])
    for options in layers:
        convolution = keras.layers.Conv2D(
            1, 3, padding="same", kernel_initializer="ones", data_format="channels_last", **options
        )
        model.add(convolution)
    # Set one input pixel at a time to 1 and record which ones change the middle output.
    inputs = np.eye(SIZE * SIZE, dtype="float32").reshape(-1, SIZE, SIZE, 1)
    outputs = keras.ops.convert_to_numpy(model(inputs))
    rows = outputs.shape[1]
    seen = outputs[:, rows // 2, rows // 2, 0].reshape(SIZE, SIZE) > 0
    side = int(seen.any(axis=0).sum())
    print(f"{name}: sees {side}x{side} pixels, gives {rows}x{rows} outputs for {SIZE}x{SIZE}")
    axes.imshow(seen, cmap="Blues", vmax=1.4)
    places = np.linspace(0, SIZE - 1, rows)  # Positions of the output pixels.
    axes.plot(*(grid.ravel() for grid in np.meshgrid(places, places)), "k.", ms=1.5)
    axes.set(title=f"{name}\nsees {side}×{side}, gives {rows}×{rows}", xticks=[], yticks=[])
figure.savefig("after.png", dpi=90)
