"""An empty folder of results is refused by every command that takes one."""

from __future__ import annotations

import pytest
from invoking import call


@pytest.mark.parametrize(
    "arguments",
    [
        ("table", ""),
        ("check", "", "--baseline", "b.json"),
        ("curves", "", "--out", "x.svg"),
        ("compare", "a", "b", "--results", ""),
        ("run", "calibration", "--results", ""),
    ],
    ids=lambda arguments: arguments[0],
)
def test_an_empty_folder_is_refused(arguments: tuple[str, ...]) -> None:
    done = call(*arguments)
    assert (done.exit_code, "empty text; name a folder" in done.output) == (2, True)
