"""The interactive figures of the documentation, with the numbers of the package."""

import itertools
import random
import re

import pytest
from helpers import NARROW_FILTERS

pytestmark = pytest.mark.browser

SIZES = (1, 1), (33, 64), (375, 500), (224, 217), (1000, 7)
# Of each block the last convolution.
SHOWN_LAYERS = re.compile(
    r"(input_padding|block[12]_conv2|block[345]_conv3|block\d_pool|fc\d|score_|upscore|crop_|fuse_)"
)
MODELS = {"fcn32s": (), "fcn16s": ("pool4",), "fcn8s": ("pool4", "pool3")}


@pytest.mark.parametrize("padding", ["paper", "same"])
@pytest.mark.parametrize("model_name", MODELS)
def test_the_alignment_figure_has_the_sizes_and_offsets_of_the_model(model_name, padding, tab):
    import keras_fcn
    from keras_fcn import alignment

    input_padding, fc6_padding = (99, 0) if padding == "paper" else (0, 3)
    skips = MODELS[model_name]
    offsets = alignment.fcn_crop_offsets(
        skips, input_padding=input_padding, fc6_kernel_size=7, fc6_padding=fc6_padding
    )
    pools = alignment.vgg16_pool_maps(input_padding)
    model_class = getattr(keras_fcn, model_name.replace("fcn", "FCN"))

    page = tab("learn/figure-alignment/")
    page.get_by_label("Padding").select_option(padding)
    page.get_by_label("Model").select_option(model_name)
    for height, width in SIZES:
        page.get_by_label("Image height").fill(str(height))
        page.get_by_label("Image width").fill(str(width))
        rows = table_rows(page, "layer")
        shown = {name: cells[0] for name, cells in rows.items()}
        model = model_class(
            2,
            input_shape=(height, width, 3),
            padding=padding,
            filters=NARROW_FILTERS,
            fc_units=1,
        )
        assert shown == expected_sizes(model, f"{height} × {width}")
        for pool, path in pools.items():
            cells = rows[f"block{pool[-1]}_pool"]
            assert [number(cell) for cell in cells[1:3]] == [path.stride, path.offset]
        crops = table_rows(page, "crop")
        assert list(crops) == [*(f"fuse_{skip}" for skip in skips), "logits"]
        assert tuple(number(cells[0]) for cells in crops.values()) == offsets
        assert crops["logits"][3] == f"{height} × {width}"
        said = page.locator(".fcn-alignment output").inner_text()
        assert said.endswith(
            f"{height} × {width}: crop offsets {', '.join(map(str, offsets))}.".replace("-", "−")
        )


def expected_sizes(model, image):
    """The height and width of the image and of the layers that the figure has to show."""
    import keras

    first = 2 if keras.backend.backend() == "torch" else 1
    sizes = {"image": image}
    for layer in model.layers:
        if SHOWN_LAYERS.match(layer.name):
            height, width = layer.output.shape[first : first + 2]
            sizes[layer.name] = f"{height} × {width}"
    if "input_padding" in sizes:
        # The model computes a part of these; the figure shows the maps of the whole padded image.
        whole = [int(side) + 198 for side in image.split(" × ")]
        sizes["input_padding"] = " × ".join(map(str, whole))
        for block, last in ((1, "conv2"), (2, "conv2"), (3, "conv3")):
            sizes[f"block{block}_{last}"] = " × ".join(map(str, whole))
            whole = [-(-side // 2) for side in whole]
            sizes[f"block{block}_pool"] = " × ".join(map(str, whole))
    return sizes


def table_rows(page, kind):
    """The texts of the cells of each row of the alignment figure's table, by name."""
    return page.evaluate(
        """(kind) => Object.fromEntries(
            [...document.querySelectorAll(`.fcn-alignment tr[data-${kind}]`)].map((row) => [
                row.dataset[kind], [...row.querySelectorAll("td")].map((cell) => cell.textContent),
            ]))""",
        kind,
    )


def number(text):
    return float(text.replace("−", "-"))


@pytest.mark.parametrize("value", ["0", "-3", "2.5", "", "5000"])
def test_the_alignment_figure_refuses_what_is_no_size(value, tab):
    page = tab("learn/figure-alignment/")
    height = page.get_by_label("Image height")
    height.fill(value)
    assert height.get_attribute("aria-invalid") == "true"
    assert "must be whole numbers" in page.locator(".fcn-alignment output").inner_text()
    assert page.locator(".fcn-alignment tr[data-layer]").count() == 0


def test_the_alignment_figure_works_by_keyboard(tab):
    page = tab("learn/figure-alignment/")
    page.get_by_label("Image height").focus()
    page.keyboard.press("Control+a")
    page.keyboard.type("240")
    page.keyboard.press("Tab")
    page.keyboard.type("320")
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowDown")
    said = page.locator(".fcn-alignment output")
    assert said.get_attribute("aria-live") == "polite"
    assert said.inner_text() == "FCN-8s, image 240 × 320: crop offsets −1, −1, 4."


def matrices():
    yield [[0] * 3] * 3
    yield [[50, 2, 0], [0, 0, 0], [1, 0, 9]]  # A class absent from the truth alone.
    yield [[50, 0, 2], [0, 0, 0], [1, 0, 9]]  # From truth and prediction.
    yield [[999_999_999, 0, 1], [3, 7, 0], [0, 0, 0]]
    draw = random.Random(0)
    for _ in range(5):
        yield [[draw.choice([0, draw.randrange(100)]) for _ in range(3)] for _ in range(3)]


def test_the_metrics_figure_has_the_scores_of_the_metrics(tab):
    from keras_fcn import metrics

    page = tab("learn/figure-metrics/")
    cells = page.locator(".fcn-metrics table input")
    assert cells.count() == 9
    for matrix in matrices():
        for index, value in enumerate(itertools.chain(*matrix)):
            cells.nth(index).fill(str(value))
        shown = scores(page)
        assert len(shown) == 4
        for name, value in shown.items():
            assert value == pytest.approx(float(getattr(metrics, name)(matrix)), abs=1e-12), matrix
        said = page.locator(".fcn-metrics output").inner_text()
        assert f"mean IoU {metrics.mean_iou(matrix):.4f}" in said
    page.get_by_label("Pixels labelled ignore_class").fill("77")
    assert scores(page) == shown
    cells.nth(4).fill("-1")
    assert scores(page) == {}
    assert "must be an integer" in page.locator(".fcn-metrics output").inner_text()


def scores(page):
    return page.evaluate(
        """() => Object.fromEntries([...document.querySelectorAll(".fcn-metrics tr[data-score]")]
            .map((row) => [row.dataset.score, Number(row.dataset.value)]))"""
    )


@pytest.mark.parametrize("padding", ["same", "paper"])
@pytest.mark.parametrize("layer", ["fc6", "pool5", "pool3"])
def test_the_receptive_field_figure_has_the_windows_of_the_coordinate_maps(layer, padding, tab):
    """Of each map, the window is what the layers after it reach from the chosen pixel."""
    from keras_fcn.alignment import IMAGE, convolution
    from keras_fcn.spec import VGG16_CONVOLUTIONS

    steps = {}
    for block, count in enumerate(VGG16_CONVOLUTIONS, start=1):
        steps[f"pool{block}"] = [convolution(3, padding=1)] * count + [convolution(2, stride=2)]
    steps["fc6"] = [convolution(7, padding=0 if padding == "paper" else 3)]
    if padding == "paper":
        steps["pool1"] = [convolution(1, padding=99), *steps["pool1"]]
    names = ["image", *steps]
    names = names[: names.index(layer) + 1]

    page = tab("learn/figure-receptive-field/")
    page.get_by_label("Padding").select_option(padding)
    page.get_by_label("Layer of").select_option(layer)
    for place in ((0, 0), (5, 9)):
        page.get_by_label("Row of").fill(str(place[0]))
        page.get_by_label("Column of").fill(str(place[1]))
        shown = page.evaluate(WINDOWS)
        assert list(shown) == names
        for index, name in enumerate(names):
            path = IMAGE
            for after in names[index + 1 :]:
                for step in steps[after]:
                    path = path.then(step)
            windows = [(path.stride * o + path.first, path.stride * o + path.last) for o in place]
            for cell, (first, last) in zip(shown[name][1:3], windows, strict=True):
                assert [number(part) for part in cell.split(" to ")] == [first, last], name
            assert shown[name][3] == f"{path.receptive_field} × {path.receptive_field}"


WINDOWS = """() => Object.fromEntries(
    [...document.querySelectorAll(".fcn-receptive-field tr[data-map]")].map((row) => [
        row.dataset.map, [...row.querySelectorAll("td")].map((cell) => cell.textContent),
    ]))"""


def test_the_receptive_field_figure_works_by_keyboard_and_by_click(tab):
    page = tab("learn/figure-receptive-field/")
    said = page.locator(".fcn-receptive-field output")
    assert said.get_attribute("aria-live") == "polite"
    page.get_by_label("Layer of").focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowUp")
    assert said.inner_text().startswith("Pixel (6, 7) of pool5 sees 212 × 212 pixels")
    first = page.locator(".fcn-panels svg").first
    box = first.bounding_box()
    first.click(position={"x": box["width"] / 2, "y": box["height"] / 2})
    assert not said.inner_text().startswith("Pixel (6, 7)")
    page.get_by_label("Row of").fill("12")
    assert "from 0 to 11" in said.inner_text()
    assert page.evaluate(WINDOWS) == {}
