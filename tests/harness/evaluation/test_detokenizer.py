"""WikiText's tokens back to text. The expected texts follow from the rules of lm-evaluation-harness's task, by hand."""

from __future__ import annotations

import pytest

from harness.evaluation.detokenizer import wikitext


@pytest.mark.parametrize(
    ("tokens", "text"),
    [
        ("1 @,@ 200 @.@ 5 two @-@ part", "1,200.5 two-part"),
        ("one , two ; three : four ! five ? six . seven", "one, two; three: four! five? six. seven"),
        ("( a ) [ b ] { c }", "(a) [b] {c}"),
        ('he said " yes " and " no "', 'he said "yes" and "no"'),
        ("the dogs ' bowl", "the dogs' bowl"),
        ("the cat 's bowl", "the cat's bowl"),
        (" = Title = \n \n = = Part = = \n Text . \n", " = Title =\n\n== Part ==\nText.\n"),
        ("20 ° C", "20°C"),
    ],
)
def test_the_spaces_of_tokens_are_undone(tokens: str, text: str) -> None:
    assert wikitext(tokens) == text


def test_a_quote_that_is_not_closed_ends_with_its_page() -> None:
    pages = ' \n = A = \n \n one " two \n \n = B = \n \n " three " \n'
    assert wikitext(pages) == '\n= A =\n\none " two\n\n = B =\n\n"three"\n'
