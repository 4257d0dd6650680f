"""The parts of an FCN on AlexNet and on ResNet50, from the coordinate maps of their layers."""

from pathlib import Path

import keras
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

import keras_fcn
from keras_fcn.alignment import coordinate_maps, transposed_convolution, vgg16_pool_maps

alexnet = keras_fcn.FCNAlexNet(num_classes=21, fc_units=16)
resnet = keras.applications.ResNet50(
    include_top=False, weights=None, input_shape=(None, None, 3), name="resnet50"
)
fcn8s = keras_fcn.FCN8s(num_classes=21, backbone=resnet, fc_units=16)
fcn4s = keras_fcn.FCN4s(num_classes=21, backbone=resnet, fc_units=16)
scored = fcn4s.get_layer("backbone").output_names[::-1]  # The layer scored at each stride.
layers = ["conv1", "pool1", "pool2", "pool5", "fc6"]
shown = {"AlexNet": (alexnet, layers), "ResNet50": (resnet, scored)}
maps = {}
for network, (model, names) in shown.items():
    found = coordinate_maps(model)
    maps[network] = {name: found[name].height for name in names}
    print(f"{network:<18} stride  offset  receptive field")
    for name, path in maps[network].items():
        print(f"  {name:<16} {path.stride!s:>6} {path.offset!s:>7} {path.receptive_field:>16}")
print("AlexNet's fc6 has a kernel of the shape", tuple(alexnet.get_layer("fc6").kernel.shape))

print("pixel 0 in the image, upsampled by 32 with a kernel of size")
scores = {"VGG-16, pool5": vgg16_pool_maps(input_padding=0)["pool5"]}
scores |= {f"{network}, {(last := list(m)[-1])}": m[last] for network, m in maps.items()}
for name, path in scores.items():
    even, odd = (path.then(transposed_convolution(k, stride=32)).offset for k in (64, 63))
    print(f"  {name:<27} 64: {float(even):5g}   63: {float(odd):5g}")

for model in (alexnet, fcn8s, fcn4s):
    print(type(model).__name__ + ("" if model is alexnet else " on ResNet50"))
    for layer in (layer for layer in model.layers if layer.name.startswith("upscore")):
        crop = model.get_layer("crop_logits" if model is alexnet else f"crop_{layer.name}").offset
        kernel, stride = layer.kernel_size[0], layer.strides[0]
        print(f"  {layer.name:<20} stride {stride:2}, kernel {kernel:2}, crop {crop:2}")

photo = Image.open(Path(__file__).parent / "street.jpg").convert("L")
figure = Figure(figsize=(10, 5.9), layout="constrained")
both = figure.subplots(1, 2, subplot_kw={"facecolor": "#eeeeee", "anchor": "N"})
for axes, (network, found) in zip(both, maps.items(), strict=True):
    axes.imshow(photo, cmap="gray", vmin=-200, vmax=255)
    for number, (name, path) in enumerate(found.items()):
        size = path.receptive_field
        corner = (239.5 - size / 2, 179.5 - size / 2)
        box = Rectangle(corner, size, size, fill=False, ec=f"C{number}", lw=2.5)
        axes.add_patch(box).set_label(f"{name}: {size}×{size}")
    axes.text(240, 382, "outside the image: zeros", ha="center", fontsize=11)
    axes.set(xlim=(-12, 491), ylim=(431, -72), xticks=[], yticks=[], title=network)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, 0), ncols=2, handlelength=1)
figure.savefig("made-of.png", dpi=90)
Image.open("made-of.png").convert("RGB").quantize(100).save("made-of.png")
