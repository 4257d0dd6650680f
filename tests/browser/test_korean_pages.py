"""Each page of the documentation in Korean, in a real browser."""

import pytest
from browser.visits import EachPage, each_page

pytestmark = pytest.mark.browser


@each_page(korean=True)
class TestKoreanPages(EachPage):
    """Pages in Korean."""
