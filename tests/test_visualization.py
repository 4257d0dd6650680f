import io
import re

import numpy as np
import pytest
from matplotlib import font_manager
from matplotlib.figure import Figure
from PIL import Image, ImageDraw, ImageFont

from keras_fcn import visualization
from keras_fcn.data.label_map_files import read_label_map
from keras_fcn.label_spaces import LabelSpace, generic

pytestmark = pytest.mark.any_backend

SPACE = LabelSpace(("ground", "tree"), ((10, 20, 30), (40, 50, 60)), 255)
LABEL_MAP = np.array([[0, 1], [1, 255]])


def dejavu():
    """Matplotlib's font at the size of Pillow's."""
    return ImageFont.truetype(font_manager.findfont("DejaVu Sans"), 10)


def test_colours_are_those_of_the_palette_and_white_for_no_class():
    expected = [[[10, 20, 30], [40, 50, 60]], [[40, 50, 60], [255, 255, 255]]]
    np.testing.assert_array_equal(visualization.colorize(LABEL_MAP, SPACE), expected)


def test_overlay_blends_classes_and_leaves_other_pixels():
    image = np.full((2, 2, 3), 100, "uint8")
    blended = visualization.overlay(image, LABEL_MAP, SPACE, opacity=0.5)
    expected = [[[55, 60, 65], [70, 75, 80]], [[70, 75, 80], [100, 100, 100]]]
    np.testing.assert_array_equal(blended, expected)


@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_depth_in_millimetres_is_shown_from_black_to_white(dtype):
    depth = np.array([[800, 1800], [3300, 5900]], dtype)[..., None]
    shown = visualization.overlay(depth, np.full((2, 2), 255), generic(3))
    np.testing.assert_array_equal(shown[..., 0], [[0, 50], [125, 255]])
    assert (shown == shown[..., :1]).all()
    # Grey and colours of 8 bits stay as they are, also where they overflow a little.
    np.testing.assert_array_equal(visualization.as_rgb(depth / 100)[..., 2], [[8, 18], [33, 59]])
    np.testing.assert_array_equal(
        visualization.as_rgb(np.array([[[0.0, 9, 256]]])), [[[0, 9, 255]]]
    )


def test_outlines_are_drawn_on_both_sides_of_a_boundary():
    space = LabelSpace(("a", "b"), ((255, 0, 0), (0, 0, 255)))
    label_map = np.array([[0, 0, 0, 1, 1, 1, 1], [0, 0, 0, 1, 1, 1, 255]])
    image = np.full((2, 7, 3), 9, "uint8")
    drawn = visualization.outline(image, label_map, space, thickness=1)
    red, blue, same = (255, 0, 0), (0, 0, 255), (9, 9, 9)
    expected = [
        [same, same, red, blue, same, same, blue],
        [same, same, red, blue, same, blue, same],
    ]
    np.testing.assert_array_equal(drawn, expected)
    np.testing.assert_array_equal(
        visualization.outline(image, label_map, space, thickness=9)[label_map == 0], [red] * 6
    )


def test_saved_label_map_keeps_class_ids_and_shows_colours(tmp_path):
    visualization.save_label_map(tmp_path / "map.png", LABEL_MAP, SPACE)
    image = Image.open(tmp_path / "map.png")
    np.testing.assert_array_equal(np.asarray(image), LABEL_MAP)
    np.testing.assert_array_equal(
        np.asarray(image.convert("RGB")), visualization.colorize(LABEL_MAP, SPACE)
    )


@pytest.mark.parametrize(("num_classes", "label"), [(3, -1), (3, 256), (256, 300), (300, 65536)])
def test_a_label_that_the_file_cannot_hold_is_refused(tmp_path, num_classes, label):
    largest = 255 if num_classes <= 256 else 65535
    with pytest.raises(ValueError, match=rf"from 0 to {largest} .* Received: .*{label}"):
        visualization.save_label_map(
            tmp_path / "map.png", np.array([[0, label]]), generic(num_classes)
        )
    assert not list(tmp_path.iterdir())


def test_an_ignored_class_above_255_is_kept(tmp_path):
    label_map = np.array([[0, 400], [2, 1]])
    visualization.save_label_map(tmp_path / "map.png", label_map, generic(3, ignore_class=400))
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "map.png")), label_map)


def test_a_picture_of_one_column_is_shown():
    image, label_map = np.zeros((1000, 1, 3), "uint8"), np.zeros((1000, 1), "uint8")
    sheet = visualization.contact_sheet(
        {"a": {"image": image, "label_map": label_map}}, SPACE, height=90
    )
    assert sheet.height > 90


def test_a_confusion_matrix_of_small_weights_is_in_percent_of_its_rows(monkeypatch):
    drawn = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *args, **kwargs: drawn.append(figure))
    visualization.plot_confusion_matrix([[0.25, 0.25], [0, 0]], SPACE, io.BytesIO())
    assert [text.get_text() for text in drawn[0].axes[0].texts] == ["50", "50", "0", "0"]


def test_panels_stand_side_by_side_under_their_captions():
    red, blue = np.full((4, 6, 3), (255, 0, 0), "uint8"), np.full((4, 6, 3), (0, 0, 255), "uint8")
    picture = visualization.picture_row({"red": red, "blue": blue}, height=40)
    pixels = np.asarray(picture)
    assert (pixels == (255, 0, 0)).all(-1).sum() == 60 * 40
    assert (pixels == (0, 0, 255)).all(-1).sum() == 60 * 40
    both = visualization.stack_pictures([picture, picture])
    assert both.size == (picture.width, 2 * picture.height)


@pytest.mark.parametrize(
    ("caption", "shown"),
    [
        ("berlin/berlin_000000_000019_leftImg8bit", "...0000_000019_leftImg8bit"),
        ("한강 공원/park 1", "?? ??/park 1"),
    ],
)
def test_captions_end_before_the_next_panel_in_letters_of_the_font(caption, shown):
    panel = np.full((40, 130, 3), 255, "uint8")
    picture = visualization.picture_row({caption: panel, "overlay": panel})
    expected = Image.new("RGB", picture.size, "white")
    draw = ImageDraw.Draw(expected)
    font = dejavu() if "?" in shown else ImageFont.load_default()
    for left, text in ((6, shown), (142, "overlay")):
        draw.text((left, 3), text, fill="black", font=font)
    np.testing.assert_array_equal(np.asarray(picture), np.asarray(expected))


def test_curves_are_drawn_with_and_without_validation(tmp_path):
    history = [{"epoch": 1, "loss": 2.0}, {"epoch": 2, "loss": 1.0}]
    visualization.plot_curves(history, tmp_path / "plain.png")
    for row in history:
        row.update(val_mean_iou=0.5, val_pixel_accuracy=0.8)
    visualization.plot_curves(history, tmp_path / "validated.png")
    width = {}
    for name in ("plain", "validated"):
        with Image.open(tmp_path / f"{name}.png") as picture:
            width[name] = picture.width
    assert width["validated"] > width["plain"]


def test_validation_curves_go_through_the_validated_epochs_only(monkeypatch):
    drawn = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *args, **kwargs: drawn.append(figure))
    history = [{"epoch": epoch, "loss": 4.0 / epoch} for epoch in (1, 2, 3, 4, 5)]
    history[1].update(val_mean_iou=0.25, val_pixel_accuracy=0.5)
    history[3].update(val_mean_iou=0.5, val_pixel_accuracy=0.75)
    visualization.plot_curves(history, io.BytesIO())
    loss, validation = drawn[0].axes
    np.testing.assert_array_equal(loss.lines[0].get_xdata(), [1, 2, 3, 4, 5])
    for line, values in zip(validation.lines, ([0.25, 0.5], [0.5, 0.75]), strict=True):
        np.testing.assert_array_equal(line.get_xdata(), [2, 4])
        np.testing.assert_array_equal(line.get_ydata(), values)


def test_plots_are_written_into_a_file_object():
    for draw in (
        lambda file: visualization.plot_curves([{"epoch": 1, "loss": 2.0}], file),
        lambda file: visualization.plot_confusion_matrix(np.eye(2), SPACE, file),
    ):
        file = io.BytesIO()
        draw(file)
        assert Image.open(file).format == "PNG"


class TestManyClasses:
    def test_a_label_map_of_more_than_256_classes_has_16_bits(self, tmp_path):
        label_map = np.arange(600).reshape(20, 30) % 300
        visualization.save_label_map(tmp_path / "a.png", label_map, generic(300))
        np.testing.assert_array_equal(read_label_map(tmp_path / "a.png"), label_map)
        file = io.BytesIO()
        visualization.save_label_map(file, label_map, generic(300))
        assert file.getvalue() == (tmp_path / "a.png").read_bytes()

    @pytest.mark.parametrize("num_classes", [300, 1000])
    def test_pictures_stay_of_a_size_that_programs_open(self, tmp_path, num_classes):
        space, shares = generic(num_classes), np.full(num_classes, 1 / num_classes)
        visualization.plot_class_shares(shares, space, tmp_path / "shares.png")
        if num_classes == 300:
            visualization.plot_confusion_matrix(np.eye(num_classes), space, tmp_path / "matrix.png")
        for path in tmp_path.glob("*.png"):
            with Image.open(path) as picture:
                assert picture.width * picture.height < Image.MAX_IMAGE_PIXELS / 2


def test_an_overlay_names_the_classes_that_it_shows():
    space = LabelSpace(("road", "car", "tree"), ((255, 0, 0), (0, 255, 0), (0, 0, 255)))
    image, label_map = np.zeros((40, 200, 3), "uint8"), np.zeros((40, 200), "int32")
    label_map[:, 100:] = 2
    picture = np.asarray(visualization.overlay_picture(image, label_map, space))
    np.testing.assert_array_equal(picture[:40], visualization.overlay(image, label_map, space))
    legend_below = {tuple(colour) for colour in picture[40:].reshape(-1, 3).tolist()}
    assert {(255, 0, 0), (0, 0, 255)} < legend_below
    assert (0, 255, 0) not in legend_below
    without = visualization.overlay_picture(image, label_map, space, legend_classes=())
    np.testing.assert_array_equal(np.asarray(without), picture[:40])
    every = np.asarray(visualization.overlay_picture(image, label_map, space, legend_classes=[1]))
    assert (0, 255, 0) in {tuple(colour) for colour in every[40:].reshape(-1, 3).tolist()}


class TestLegend:
    def test_long_names_are_whole(self):
        names = ("traffic sign on the other side of the motorway", "road")
        picture = visualization.legend(LabelSpace(names, SPACE.palette), 150).convert("L")
        expected = Image.new("L", picture.size, 255)
        draw = ImageDraw.Draw(expected)
        for row, name in enumerate(names):
            draw.text((23, 18 * row + 2), name, fill=0)
        np.testing.assert_array_equal(np.asarray(picture)[:, 20:], np.asarray(expected)[:, 20:])
        blank = np.asarray(picture)[:, -4:]
        assert (blank == 255).all()  # The text ends before the border.

    @pytest.mark.parametrize(
        ("names", "shown"),
        [
            # The last one is an a with a separate umlaut, which the font has as one letter.
            (("улица", "ba\u0308r"), ("улица", "b\u00e4r")),
            (("도로", "car 차"), ("0", "1")),
        ],
    )
    def test_a_font_with_more_letters_or_class_ids_stand_for_what_pillow_lacks(self, names, shown):
        picture = visualization.legend(LabelSpace(names, SPACE.palette), 150)
        expected = Image.new("RGB", picture.size, "white")
        draw = ImageDraw.Draw(expected)
        for row, name in enumerate(shown):
            draw.text((23, 18 * row + 2), name, fill="black", font=dejavu())
        assert (np.asarray(expected) < 128).sum() > 30
        np.testing.assert_array_equal(np.asarray(picture)[:, 20:], np.asarray(expected)[:, 20:])


@pytest.mark.parametrize("name", [r"$\frac{a$", "US$ to A$", r"\$5 and $", "_first"])
def test_names_are_shown_as_they_are(name, tmp_path):
    space = LabelSpace((name, "other"), ((0, 0, 0), (9, 9, 9)))
    history = [{"epoch": 1, "loss": 1.0, "val_mean_iou": 0.5}]
    visualization.plot_confusion_matrix(np.eye(2), space, tmp_path / "matrix.svg")
    visualization.plot_class_shares(np.array([0.5, 0.5]), space, tmp_path / "shares.svg")
    visualization.plot_histories({name: history}, tmp_path / "histories.svg")
    for path in tmp_path.iterdir():
        # Matplotlib writes each text as a comment beside its outlines.
        assert re.search(f"<!-- +{re.escape(name)} -->", path.read_text()), path.name
