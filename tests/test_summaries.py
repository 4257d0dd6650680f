import programs
import pytest

pytestmark = pytest.mark.any_backend


summaries = programs.load(".mkdocs/summaries.py")


class TestDescription:
    @pytest.mark.parametrize(
        ("content", "expected"),
        [
            ("<h1>Cats</h1>\n<p>A <em>cat</em>\nsleeps.</p><p>It eats.</p>", "A cat sleeps."),
            ('<p><img src="cat.png" alt="a cat"></p><p>A cat.</p>', "A cat."),
            ("<h1>Cats</h1><ul><li>Cats &amp; <code>dogs</code><ul><li>All", "Cats & dogs"),
            ('<p>Let <math alttext="a=b"><mi>a</mi><mi>b</mi></math> be.</p>', "Let a=b be."),
            ("<p>A cat eats. It eats:</p>", "A cat eats."),
            ("<p>A cat eats:</p>", "A cat eats"),
            ("<p>고양이는 잡니다. 그리고</p>", "고양이는 잡니다."),
            ("<pre>print()</pre><p></p>", ""),
        ],
    )
    def test_it_is_the_beginning_of_the_text(self, content, expected):
        assert summaries.description(content) == expected

    def test_it_has_as_many_whole_sentences_as_fit(self):
        sentence = "x" * 98 + "."
        assert summaries.description(f"<p>{sentence} {sentence} y.</p>") == f"{sentence} {sentence}"
        assert (
            summaries.description(f"<p>{sentence} x{sentence} y.</p>") == f"{sentence} x{sentence}"
        )
        assert summaries.description(f"<p>{sentence} xx{sentence} y.</p>") == sentence

    def test_a_long_sentence_ends_after_a_word(self):
        text = summaries.description(f"<p>{'cats, ' * 50}</p>")
        assert text == "cats, " * 32 + "cats…"
        assert len(text) <= 200
