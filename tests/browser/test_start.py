"""The start page: two pictures under a slider, and three cards."""

import pytest

pytestmark = pytest.mark.browser

CLIPPED = "(e) => getComputedStyle(e).clipPath"
LANGUAGES = pytest.mark.parametrize("start", ["", "ko/"])
# What a visitor sees of the start page at first.
PARTS = ".fcn-hero h1", ".fcn-hero pre", ".fcn-compare", ".fcn-doors", "article table"


@LANGUAGES
def test_one_screen_shows_name_pictures_cards_and_results(start, tab):
    page = tab(start)
    for part in PARTS:
        box = page.locator(part).first.bounding_box()
        assert box["y"] >= 0, part
        assert box["y"] + box["height"] <= 900, part


@LANGUAGES
def test_keys_move_the_boundary_between_the_pictures(start, tab):
    page = tab(start)
    slider = page.get_by_role("slider")
    first, second = (page.locator(".fcn-compare img").nth(n) for n in (0, 1))
    assert slider.get_attribute("aria-label")
    assert first.bounding_box() == second.bounding_box()
    slider.focus()
    for key, clipped in (("Home", "0%"), ("ArrowRight", "1%"), ("End", "100%")):
        page.keyboard.press(key)
        assert second.evaluate(CLIPPED) == f"inset(0px 0px 0px {clipped})"


def test_the_pointer_sets_the_boundary_where_it_presses(tab):
    page = tab("")
    box = page.locator(".fcn-compare img").first.bounding_box()
    page.mouse.click(box["x"] + 0.25 * box["width"], box["y"] + 20)
    assert page.get_by_role("slider").input_value() == "25"


def test_without_scripts_the_pictures_stand_side_by_side(chromium, root_url):
    context = chromium.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(root_url)
    left, right = (page.locator(".fcn-compare img").nth(n).bounding_box() for n in (0, 1))
    assert left["x"] + left["width"] <= right["x"]
    assert left["y"] == right["y"]
    assert not page.locator(".fcn-compare input").is_visible()
    context.close()


@LANGUAGES
def test_each_card_is_one_link(start, tab):
    cards = tab(start).locator(".fcn-doors li")
    assert cards.count() == 3
    for card in cards.all():
        link = card.locator("a").bounding_box()
        assert link == card.bounding_box()


def test_pictures_are_small(site):
    pictures = list((site / "pictures").glob("*.*g"))
    assert len(pictures) == 5
    assert all(picture.stat().st_size < 150_000 for picture in pictures)
