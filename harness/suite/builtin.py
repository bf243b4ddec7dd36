"""The suites that come with the harness."""

from __future__ import annotations

import difflib
from pathlib import Path

from harness.core.errors import SuiteError
from harness.core.specs import Suite
from harness.system.source import ROOT

SUITES = ROOT / "suites"


def suite_files() -> list[Path]:
    """The suites that come with the harness, by name."""
    return sorted(SUITES.glob("*.yaml"))


def suite_path(name: str) -> Path:
    """A path as given, or a suite that comes with the harness: `enwik8`, `suites/enwik8.yaml`.

    Raises SuiteError with the near name where there is neither.
    """
    given = Path(name)
    if given.exists():
        return given
    for shipped in (SUITES / f"{name}.yaml", ROOT / given):
        if not given.is_absolute() and shipped.is_file():
            return shipped
    known = [path.stem for path in suite_files()]
    matches = difflib.get_close_matches(given.stem, known, n=1)
    hint = f"Did you mean '{matches[0]}'?" if matches else f"Suites that come with the harness: {', '.join(known)}"
    raise SuiteError(f"{name}: there is no such file. {hint}")


def readable_suites() -> tuple[list[Suite], list[str]]:
    """The suites that come with the harness, and one line for each that cannot be loaded."""
    from harness.suite import load

    found, problems = [], []
    for path in suite_files():
        try:
            found.append(load(path))
        except SuiteError as problem:
            problems.append(f"suite skipped: {problem}")
    return found, problems
