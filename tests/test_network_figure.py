"""The figure of learn/skips.md shows the networks as they are."""

from pathlib import Path
from xml.etree import ElementTree

import programs
import pytest

pytestmark = [pytest.mark.any_backend, pytest.mark.gate]

DOCS = Path(__file__).parents[1] / "docs"
SVG = "{http://www.w3.org/2000/svg}"
LANGUAGES = pytest.mark.parametrize(
    ("language", "suffix"), [("en", ""), ("ko", ".ko")], ids=["en", "ko"]
)


@pytest.fixture(scope="module")
def program():
    return programs.load("docs/programs/networks.py")


@pytest.fixture(scope="module")
def models(program):
    return program.networks()


@LANGUAGES
def test_it_is_what_the_models_are_today(language, suffix, program, models):
    """Otherwise run `python docs/programs/networks.py docs/learn/pictures`."""
    drawn = (DOCS / "learn" / "pictures" / f"networks{suffix}.svg").read_text("utf-8")
    assert program.draw(models, language) == drawn


@LANGUAGES
def test_its_page_shows_it(language, suffix):
    page = (DOCS / "learn" / f"skips{suffix}.md").read_text("utf-8")
    assert f'--8<-- "docs/learn/pictures/networks{suffix}.svg"' in page


@LANGUAGES
def test_it_has_a_title_and_a_description_for_screen_readers(language, suffix):
    picture = ElementTree.parse(DOCS / "learn" / "pictures" / f"networks{suffix}.svg").getroot()
    names = picture.get("aria-labelledby").split()
    assert [picture.find(f"{SVG}{tag}").get("id") for tag in ("title", "desc")] == names
    for network in ("FCN-32s", "FCN-16s", "FCN-8s"):
        assert f"{network}: score_fr" in picture.findtext(f"{SVG}desc")


def test_the_convolutions_and_pools_are_those_of_vgg16(program, models):
    # Simonyan & Zisserman, table 1, D; fc6 and fc7 as convolutions: Long et al., section 3.1.
    assert program.trunk(models["FCN-8s"]) == [
        ("image", 1, 0),
        ("pool1", 2, 2),
        ("pool2", 4, 2),
        ("pool3", 8, 3),
        ("pool4", 16, 3),
        ("pool5", 32, 3),
        ("fc7", 32, 2),
    ]


@pytest.mark.parametrize(
    ("network", "steps"),
    [
        ("FCN-32s", [("×", "32", 1)]),
        ("FCN-16s", [("×", "2", 16), ("+", "pool4", 16), ("×", "16", 1)]),
        (
            "FCN-8s",
            [("×", "2", 16), ("+", "pool4", 16), ("×", "2", 8), ("+", "pool3", 8), ("×", "8", 1)],
        ),
    ],
)
def test_the_scores_are_upsampled_and_summed_as_in_figure_3(network, steps, program, models):
    assert program.steps(models[network]) == steps
