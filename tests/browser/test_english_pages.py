"""Each page of the documentation in English, in a real browser."""

import pytest
from browser.visits import EachPage, each_page

pytestmark = pytest.mark.browser


@each_page(korean=False)
class TestEnglishPages(EachPage):
    """Pages in English."""
