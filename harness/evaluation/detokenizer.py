"""Undo the spaces of WikiText's tokens, by the rules of lm-evaluation-harness's task wikitext.

>>> wikitext(" = Rain = \\n It fell 1 @,@ 200 mm ( or more ) , he said . \\n")
' = Rain =\\nIt fell 1,200 mm (or more), he said.\\n'
"""

from __future__ import annotations

import re

# A page begins at a heading of the first level that follows other text. Brackets and quotes are paired within a page.
_PAGE = re.compile(r"(?m)(?<=\n \n)^(?= = [^=\n]+ = $)")

_SEPARATORS = tuple((f" @{sign}@ ", sign) for sign in "-,.")
_PUNCTUATION = tuple((f" {sign} ", f"{sign} ") for sign in ":;.!?,")
_PAIRS = tuple(
    re.compile(rf"({first})\s*([^{last}]*?)\s*({last})")
    for first, last in ((r"\(", r"\)"), (r"\[", r"\]"), (r"\{", r"\}"), ('"', '"'), ("'", "'"))
)
_REST = (
    ("= = = =", "===="), ("= = =", "==="), ("= =", "=="), (" \N{DEGREE SIGN} ", "\N{DEGREE SIGN}"),
    (" \n", "\n"), ("\n ", "\n"), (" N ", " 1 "), (" 's", "'s"),
)  # fmt: skip


def wikitext(text: str) -> str:
    """A text as it may have been before it was cut into tokens. The order of the rules is part of the convention."""
    return "".join(map(_page, _PAGE.split(text)))


def _page(text: str) -> str:
    for old, new in (("s '", "s'"), *_SEPARATORS, *_PUNCTUATION):
        text = text.replace(old, new)
    for pair in _PAIRS:
        text = pair.sub(r"\1\2\3", text)
    for old, new in _REST:
        text = text.replace(old, new)
    return text
