"""FCN-32s, FCN-16s and FCN-8s as in figure 3 of the paper, drawn from the models of the package.

    python docs/programs/networks.py docs/learn/pictures

A grid shows the same 32 × 32 pixels in every feature map. A column has one output stride: above the
network, below its scores on their way back to the image. Writes `networks.svg` and its Korean
version `networks.ko.svg`, in the colours of docs/stylesheets/extra.css.
"""

import sys
from pathlib import Path

import keras_fcn
from keras_fcn.alignment import coordinate_maps
from keras_fcn.layers import FCNConv2DTranspose

PATCH = 32  # Pixels of the image that each grid shows.
SIDE, PITCH, LEFT, TOP, ROW = 36, 53, 6, 2, 90
BUS = 9  # From a grid to the line of its skip connection.
WORDS = {
    "en": {
        "title": "FCN-32s, FCN-16s and FCN-8s",
        "image": "image",
        "grid": "{} at output stride {}",
        "×": "upsampled by {}",
        "+": "plus the scores of {} at output stride {}",
    },
    "ko": {
        "title": "FCN-32s, FCN-16s, FCN-8s",
        "image": "이미지",
        "grid": "{}(출력 스트라이드 {})",
        "×": "{}배로 업샘플링",
        "+": "{}의 점수를 더함(출력 스트라이드 {})",
    },
}


def networks() -> dict:
    """Returns the three models by name, as narrow as can be: their layers and strides are those."""
    models = keras_fcn.FCN32s, keras_fcn.FCN16s, keras_fcn.FCN8s
    narrow = {"num_classes": 2, "filters": (1, 1, 1, 1, 1), "fc_units": 1}
    return {model.__name__.replace("FCN", "FCN-"): model(**narrow) for model in models}


def trunk(model) -> list[tuple[str, int, int]]:
    """Returns the name, output stride and convolutions of the image, of each pool and of fc7."""
    found, convolutions = [("image", 1, 0)], 0
    maps = coordinate_maps(model)
    for layer in model.layers:
        convolutions += "_conv" in layer.name or layer.name in ("fc6", "fc7")
        if layer.name.endswith("_pool") or layer.name == "fc7":
            name = layer.name.replace("block", "pool").removesuffix("_pool")
            found.append((name, int(maps[layer.name].height.stride), convolutions))
            convolutions = 0
    return found


def steps(model) -> list[tuple[str, str, int]]:
    """Returns what happens to the scores of fc7: "×" or "+", a factor or a pool, output stride."""
    found, maps = [], coordinate_maps(model)
    for layer in model.layers:
        if isinstance(layer, FCNConv2DTranspose):
            found.append(("×", str(layer.strides[0]), int(maps[layer.name].height.stride)))
        if layer.name.startswith("fuse_"):
            pool = layer.name.removeprefix("fuse_")
            found.append(("+", pool, int(maps[layer.name].height.stride)))
    return found


def grid(x: int, y: int, stride: int, kind: str) -> str:
    """Returns a square with a line between its cells where they are large enough to be seen."""
    cells = PATCH // stride
    square = f'<rect x="{x}" y="{y}" width="{SIDE}" height="{SIDE}" class="fcn-{kind}"/>'
    if cells == 1 or cells > 16:
        return square
    at = [round(SIDE * n / cells, 2) for n in range(1, cells)]
    lines = "".join(f"M{x + a:g} {y}v{SIDE}M{x} {y + a:g}h{SIDE}" for a in at)
    return f'{square}<path d="{lines}" class="fcn-cells"/>'


def text(x: float, y: float, words: str, kind: str = "name") -> str:
    """Returns words, centred at x."""
    return f'<text x="{x:g}" y="{y:g}" class="fcn-{kind}">{words}</text>'


def arrow(points: str, head: str, kind: str) -> str:
    """Returns a line and its head."""
    return f'<path d="{points}" class="fcn-{kind}"/><path d="{head}" class="fcn-{kind}-head"/>'


def skip(x: int, y: int, start: int) -> str:
    """Returns the line from the label of a column at `start` to the grid below it at `y`."""
    middle, bus = x + SIDE // 2, x + SIDE + BUS
    line = f"M{middle} {start}v8H{bus}V{y - 12}H{middle}V{y - 4}"
    return arrow(line, f"M{middle} {y}l-4 -7h8z", "skip")


def draw(models: dict, language: str) -> str:
    """Returns the SVG."""
    words = WORDS[language]
    columns = trunk(next(iter(models.values())))
    place = {name: LEFT + PITCH * n for n, (name, _, _) in enumerate(columns)}
    at_stride = {stride: place[name] for name, stride, _ in columns}  # The last of each stride.
    labels = TOP + SIDE + 13
    parts, about = [], []
    for name, stride, convolutions in columns:
        x = place[name]
        lines = "".join(
            f"M{x - (PITCH - SIDE) / 2 + 3 * n - 1.5 * (convolutions - 1):g} {TOP + 5}v{SIDE - 10}"
            for n in range(convolutions)
        )
        parts += [f'<path d="{lines}" class="fcn-convolutions"/>'] if lines else []
        label = words.get(name, name)
        kind = "image" if stride == 1 else "features"
        parts += [grid(x, TOP, stride, kind), text(x + SIDE / 2, labels, label)]
        parts.append(text(x + SIDE / 2, labels + 14, str(stride), "stride"))
        about.append(words["grid"].format(label, stride))
    sentences = [f"VGG-16: {', '.join(about)}."]
    for row, (name, model) in enumerate(models.items()):
        y = TOP + SIDE + 60 + ROW * row
        drawn, said = _row(steps(model), y, place, at_stride, labels + 20, words)
        end = place["image"]
        label = text(end + SIDE / 2, y + SIDE + 14, name, "network")
        parts += [*drawn, grid(end, y, 1, "logits"), label]
        sentences.append(f"{name}: {', '.join(said)}.")
    width, height = LEFT + PITCH * len(columns), TOP + SIDE + 60 + ROW * len(models) - 30
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" '
        'aria-labelledby="fcn-networks-title fcn-networks-desc">\n'
        f'<title id="fcn-networks-title">{words["title"]}</title>\n'
        f'<desc id="fcn-networks-desc">{" ".join(sentences)}</desc>\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )


def _row(found, y, place, at_stride, start, words):
    """Returns the parts of one network from fc7 to the image, and the same in words."""
    x, middle = place["fc7"], y + SIDE // 2
    parts = [grid(x, y, PATCH, "scores"), text(x + SIDE / 2, y + SIDE + 14, "score_fr", "code")]
    skips, said = [skip(x, y, start)], [words["grid"].format("score_fr", PATCH)]
    for kind, what, stride in found:
        if kind == "×":
            end = at_stride[stride] + SIDE
            parts.append(arrow(f"M{x} {middle}H{end + 6}", f"M{end} {middle}l7 -4v8z", "up"))
            parts.append(text((x + end) / 2, middle - 6, f"×{what}", "factor"))
            x = at_stride[stride]
            said.append(words[kind].format(what))
        else:
            parts += [grid(x, y, stride, "scores"), text(x + SIDE / 2, y + SIDE + 14, f"+ {what}")]
            skips.append(skip(x, y, start))
            said.append(words[kind].format(what, stride))
    return [*parts, *skips], said


if __name__ == "__main__":
    models = networks()
    for language, name in (("en", "networks.svg"), ("ko", "networks.ko.svg")):
        (Path(sys.argv[1]) / name).write_text(draw(models, language), encoding="utf-8")
