import base64
import io
import itertools
import math
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from keras_fcn.label_spaces import LabelSpace
from keras_fcn.training.evaluate import Scores
from keras_fcn.training.report import ReportImage, write_report

pytestmark = pytest.mark.any_backend

SPACE = LabelSpace(
    ("<b>", "car & bike", "tree", "pole"), ((200, 0, 0), (0, 200, 0), (0, 0, 200), (9, 8, 7)), 255
)
# Rows are the truth. "tree" is nowhere, "pole" only in the prediction.
MATRIX = np.array([[6, 2, 0, 0], [1, 4, 0, 1], [0, 0, 0, 0], [0, 0, 0, 0]])
PERFECT = np.diag([8, 6, 0, 0])
HISTORY = [
    {"epoch": 1, "loss": 3.0},
    {"epoch": 2, "loss": 2.0, "val_mean_iou": 0.25, "val_pixel_accuracy": 0.5},
    {"epoch": 3, "loss": 1.5},
    {"epoch": 4, "loss": 1.25, "val_mean_iou": 0.125, "val_pixel_accuracy": 0.5},
    {"epoch": 5, "loss": 1.0},
]
SECTIONS = ["Scores", "Curves", "Classes", "Confusion matrix", "Images", "Settings", "Environment"]
NO_VALIDATION = "Nothing to show: the run had no validation set."


class Page(HTMLParser):
    """The tags of a page, and by the heading above them its texts, tables and images."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.headings, self.title = [], [], ""
        self.texts, self.tables, self.images = {"": ""}, {}, {}
        self._section, self._open = "", []
        self.feed(html)
        self.close()
        assert self._open == [], "every tag that opens must close"

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.tags.append((tag, attributes))
        if tag == "img":
            self.images.setdefault(self._section, []).append(attributes)
        if tag not in ("img", "meta"):
            self._open.append(tag)
        if tag in ("h1", "h2", "h3"):
            self.headings.append((int(tag[1]), ""))
        if tag == "tr":
            self.tables.setdefault(self._section, []).append([])
        if tag in ("td", "th"):
            self.tables[self._section][-1].append("")

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        inside = self._open[-1] if self._open else None
        if inside == "title":
            self.title += data
        if inside in ("h1", "h2", "h3"):
            level, text = self.headings.pop()
            self.headings.append((level, text + data))
        if inside == "h2":
            self._section = data
            self.texts[data] = ""
        elif inside != "style":
            self.texts[self._section] += data
        if "td" in self._open or "tbody" in self._open or "thead" in self._open:
            rows = self.tables.get(self._section)
            if rows and rows[-1]:
                rows[-1][-1] += data.removesuffix("\n")


def example(name, prediction=1):
    """A grey image, all of it "<b>" but for an ignored right half."""
    label_map = np.zeros((300, 600), int)
    label_map[:, 300:] = 255
    return ReportImage(
        name=name,
        pixel_accuracy=0.75,
        mean_iou=math.nan,
        image=np.full((300, 600, 3), 100, "uint8"),
        label_map=label_map,
        prediction=np.full((300, 600), prediction),
    )


def written(tmp_path, **changes):
    arguments = {
        "title": "A run",
        "settings": {"model": "fcn8s"},
        "history": HISTORY,
        "scores": Scores(MATRIX),
        "view_scores": None,
        "label_space": SPACE,
        "best": [example("good.png", prediction=0)],
        "worst": [example("bad.png")],
        "environment": {"python": "3.11"},
    }
    write_report(tmp_path / "report.html", **arguments | changes)
    return Page((tmp_path / "report.html").read_text(encoding="utf-8"))


def decoded(image):
    header, data = image["src"].split(",")
    assert re.fullmatch("data:image/(png|jpeg);base64", header)
    return Image.open(io.BytesIO(base64.b64decode(data, validate=True)))


class TestPage:
    def test_nothing_refers_to_anything_outside_of_the_file(self, tmp_path):
        page = written(tmp_path, notes=["https://example.org is text, not a reference"])
        tags = {tag for tag, _ in page.tags}
        assert not tags & {"script", "link", "iframe", "object", "embed", "base", "form", "a"}
        for _, attributes in page.tags:
            for name in ("src", "href", "srcset", "poster", "action", "data", "background"):
                assert attributes.get(name, "#").startswith(("data:", "#"))
            assert "url(" not in attributes.get("style", "")
        html = (tmp_path / "report.html").read_text(encoding="utf-8")
        assert "url(" not in html
        assert "@import" not in html
        assert [path.name for path in tmp_path.iterdir()] == ["report.html"]

    def test_page_has_a_language_a_title_and_headings_in_order(self, tmp_path):
        page = written(tmp_path)
        assert ("html", {"lang": "en"}) in page.tags
        assert page.title == "A run"
        assert [text for level, text in page.headings if level == 1] == ["A run"]
        assert [text for level, text in page.headings if level == 2] == SECTIONS
        assert [text for level, text in page.headings if level == 3] == ["Best", "Worst"]
        levels = [level for level, _ in page.headings]
        assert all(below <= above + 1 for above, below in itertools.pairwise(levels))

    def test_notes_are_a_section_of_their_own(self, tmp_path):
        page = written(tmp_path, notes=["First.", "Second."])
        assert [text for level, text in page.headings if level == 2] == [
            "Scores",
            "Notes",
            *SECTIONS[1:],
        ]
        assert page.texts["Notes"].strip() == "First.Second."

    def test_all_text_is_escaped(self, tmp_path):
        nasty = "\"><script>alert('&amp;')</script>$title"
        page = written(
            tmp_path,
            title=nasty,
            settings={nasty: nasty, "list": [nasty]},
            environment={nasty: nasty},
            notes=[nasty],
            best=[example(nasty)],
        )
        assert "script" not in {tag for tag, _ in page.tags}
        assert page.title == nasty
        assert page.headings[0] == (1, nasty)
        assert page.tables["Settings"][1:] == [[nasty, nasty], ["list", f"[{nasty}]"]]
        assert page.tables["Environment"][1:] == [[nasty, nasty]]
        assert nasty in page.texts["Notes"]
        assert page.images["Images"][0]["alt"] == f"{nasty}: image"

    def test_settings_read_as_in_toml(self, tmp_path):
        settings = {"weights": None, "jitter": True, "crop": (256, 128), "rate": 1e-05, "seed": 0}
        page = written(tmp_path, settings=settings)
        assert page.tables["Settings"] == [
            ["setting", "value"],
            ["weights", "–"],
            ["jitter", "true"],
            ["crop", "[256, 128]"],
            ["rate", "1e-05"],
            ["seed", "0"],
        ]


@pytest.mark.usefixtures("blank_plots")
class TestScores:
    def test_headline_is_that_of_the_matrix(self, tmp_path):
        assert written(tmp_path).tables["Scores"] == [
            ["score", "validation"],
            ["pixel accuracy", "0.7143"],  # 10 / 14
            ["mean accuracy", "0.7083"],  # (6/8 + 4/6) / 2
            ["mean IoU", "0.3889"],  # (6/9 + 4/8 + 0/1) / 3
            ["frequency weighted IoU", "0.5952"],  # (8 * 6/9 + 6 * 4/8) / 14
        ]

    def test_classes_have_iou_accuracy_and_share_of_the_truth(self, tmp_path):
        assert written(tmp_path).tables["Classes"] == [
            ["class", "IoU", "accuracy", "share of pixels"],
            ["<b>", "0.6667", "0.7500", "57.14 %"],  # 6/9, 6/8, 8/14
            ["car & bike", "0.5000", "0.6667", "42.86 %"],  # 4/8, 4/6, 6/14
            ["tree", "–", "–", "0.00 %"],
            ["pole", "0.0000", "–", "0.00 %"],
        ]

    def test_numbers_are_aligned_right(self, tmp_path):
        page = written(tmp_path)
        classes = [attributes.get("class", "") for tag, attributes in page.tags if tag == "table"]
        assert ["numbers" in names for names in classes] == [True, True, False, False]
        assert ".numbers td, .numbers th:not(:first-child) { text-align: right;" in (
            tmp_path / "report.html"
        ).read_text(encoding="utf-8")

    def test_classes_have_the_colours_of_the_palette(self, tmp_path):
        page = written(tmp_path, best=[], worst=[])
        swatches = [tag["style"] for _, tag in page.tags if tag.get("class") == "swatch"]
        assert swatches == [
            f"background:rgb({colour})" for colour in ("200,0,0", "0,200,0", "0,0,200", "9,8,7")
        ]

    def test_scores_over_views_and_near_boundaries_are_further_columns(self, tmp_path):
        page = written(tmp_path, scores=Scores(MATRIX, Scores(PERFECT)))
        assert page.tables["Scores"][0] == ["score", "validation", "near boundaries"]
        assert page.tables["Scores"][1] == ["pixel accuracy", "0.7143", "1.0000"]
        page = written(tmp_path, view_scores=Scores(PERFECT))
        assert page.tables["Scores"][0] == ["score", "validation", "test-time augmentation"]
        assert page.tables["Scores"][3] == ["mean IoU", "0.3889", "1.0000"]
        assert page.tables["Classes"][0][:3] == ["class", "IoU", "IoU, test-time augmentation"]
        assert page.tables["Classes"][2][:3] == ["car & bike", "0.5000", "1.0000"]
        assert page.tables["Classes"][4][:3] == ["pole", "0.0000", "–"]

    def test_a_run_without_validation_set_says_so(self, tmp_path):
        history = [{"epoch": 1, "loss": 2.0}, {"epoch": 2, "loss": 1.0}]
        page = written(tmp_path, history=history, scores=None, best=[], worst=[])
        assert [text for level, text in page.headings if level == 2] == SECTIONS
        for section in SECTIONS:
            without = section in ("Scores", "Classes", "Confusion matrix", "Images")
            assert (NO_VALIDATION in page.texts[section]) == without
        assert set(page.tables) == {"Settings", "Environment"}
        assert set(page.images) == {"Curves"}
        assert "Last epoch: 2, training loss 1.0000." in page.texts["Scores"]
        assert "Best epoch" not in page.texts["Scores"]


class TestPictures:
    def test_every_picture_is_whole_and_has_an_alternative_text(self, tmp_path):
        page = written(tmp_path)
        counts = {section: len(images) for section, images in page.images.items()}
        assert counts == {"Curves": 1, "Confusion matrix": 1, "Images": 6}
        images = [image for images in page.images.values() for image in images]
        assert len({image["alt"] for image in images}) == len(images)
        for image in images:
            assert image["alt"]
            width, height = decoded(image).size
            assert int(image["width"]) / int(image["height"]) == pytest.approx(
                width / height, rel=0.01
            )
            decoded(image).load()  # Raises if the data end too early.

    def test_examples_are_image_truth_and_prediction_the_best_ones_first(self, tmp_path):
        images = written(tmp_path).images["Images"]
        assert [image["alt"] for image in images] == [
            f"{name}.png: {what}"
            for name in ("good", "bad")
            for what in ("image", "truth", "prediction")
        ]
        assert {decoded(image).size for image in images} == {(480, 240)}
        grey, red, green = (100, 100, 100), (150, 50, 50), (50, 150, 50)
        left = [decoded(image).getpixel((120, 120)) for image in images]
        right = [decoded(image).getpixel((360, 120)) for image in images]
        np.testing.assert_allclose(left, [grey, red, red, grey, red, green], atol=4)
        np.testing.assert_allclose(right, [grey, grey, red, grey, grey, green], atol=4)

    def test_small_images_keep_their_size(self, tmp_path):
        labels = np.zeros((9, 12), int)
        small = ReportImage("small", 1.0, 1.0, np.zeros((9, 12, 3), "uint8"), labels, labels)
        images = written(tmp_path, best=[small], worst=[]).images["Images"]
        assert {decoded(image).size for image in images} == {(12, 9)}

    def test_the_legend_names_the_classes_that_are_to_be_seen(self, tmp_path):
        text = written(tmp_path).texts["Images"]
        assert "<b>" in text
        assert "car & bike" in text
        assert "tree" not in text
        assert "mean IoU –, pixel accuracy 0.7500" in text

    def test_a_report_without_examples_says_so(self, tmp_path):
        page = written(tmp_path, best=[], worst=[])
        assert "no images were kept" in page.texts["Images"]
        assert 3 not in {level for level, _ in page.headings}

    def test_epochs_without_validation_leave_no_hole(self, tmp_path):
        page = written(tmp_path)
        assert "Best epoch: 2, validation mean IoU 0.2500." in page.texts["Scores"]
        assert "validation" in page.images["Curves"][0]["alt"]
        plain = written(tmp_path, history=[{"epoch": 1, "loss": 2.0}])
        assert "validation" not in plain.images["Curves"][0]["alt"]
        validated, plain = (decoded(each.images["Curves"][0]) for each in (page, plain))
        assert validated.width > plain.width

    def test_epochs_read_from_a_table_are_shown_as_integers(self, tmp_path):
        page = written(tmp_path, history=[row | {"epoch": float(row["epoch"])} for row in HISTORY])
        assert "Last epoch: 5, training loss 1.0000." in page.texts["Scores"]
        assert "Best epoch: 2, " in page.texts["Scores"]

    def test_a_run_without_epochs_has_no_curves(self, tmp_path):
        page = written(tmp_path, history=[])
        assert "no epoch has ended" in page.texts["Curves"]
        assert "Curves" not in page.images
