"""How the crop offsets of FCN-8s follow from its layers, with the paper's padding."""

from matplotlib.figure import Figure

from keras_fcn.alignment import (
    CoordinateMap,
    convolution,
    crop_offset,
    transposed_convolution,
    vgg16_pool_maps,
)

# The paper's 100 is 99 here plus the 1 of conv1_1.
pools = vgg16_pool_maps(input_padding=99)
rows = {"image": CoordinateMap(1, 0), **pools}
rows["fc6, fc7, score_fr"] = fr = pools["pool5"].then(convolution(7))
rows["upscore2"] = upscore2 = fr.then(transposed_convolution(4, stride=2))
rows["upscore_pool4"] = upscore_pool4 = upscore2.then(transposed_convolution(4, stride=2))
rows["upscore8"] = upscore8 = upscore_pool4.then(transposed_convolution(16, stride=8))

print("pixel o of a layer lies at    a · o + b  of the image")
for name, path in rows.items():
    print(f"{name:<20} {float(path.stride):12g} · o + {float(path.offset):g}")
print("FCN-8s  score_pool4:", crop_offset(upscore2, pools["pool4"]))
print("FCN-8s  score_pool3:", crop_offset(upscore_pool4, pools["pool3"]))
print("FCN-8s  logits:     ", -crop_offset(upscore8, rows["image"]))
for name, scores, stride in (("FCN-32s", fr, 32), ("FCN-16s", upscore2, 16)):
    upscore = scores.then(transposed_convolution(2 * stride, stride=stride))
    print(f"{name} logits:     ", -crop_offset(upscore, rows["image"]))

shown = ("image", "pool3", "upscore_pool4", "pool4", "upscore2", "fc6, fc7, score_fr")
figure = Figure(figsize=(10, 3.4), layout="constrained")
axes = figure.subplots()
axes.axvspan(-100, -0.5, color="#eeeeee")
axes.text(-97, len(shown) - 0.75, "padding of 100 (cropped away)", fontsize=9)
for row, name in enumerate(shown):
    path, height = rows[name], len(shown) - 1 - row
    places = [float(path.stride * o + path.offset) for o in range(200)]
    inside = [(o, x) for o, x in enumerate(places) if x <= 126]
    axes.plot([x for _, x in inside], [height] * len(inside), "|", ms=14 if path.stride > 1 else 6)
    for o, x in inside:
        if path.stride >= 8:
            axes.text(x, height + 0.24, o, ha="center", fontsize=7, clip_on=True)
axes.set(xlim=(-100, 127), ylim=(-0.6, len(shown) - 0.2), xlabel="pixel of the image")
axes.set_yticks(range(len(shown)), shown[::-1])
figure.savefig("alignment.png", dpi=90)
