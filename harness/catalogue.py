"""What this installation knows: suites, models, datasets, metrics; and where a suite of a given name lies."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.code import ROOT
from harness.errors import SuiteError

if TYPE_CHECKING:
    from harness.types import Suite

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


def rows(what: str) -> list[dict[str, Any]]:
    """One mapping per suite, model, dataset or metric; a suite that cannot be loaded says so under `problem`."""
    return {"suites": _suites, "models": _models, "datasets": _datasets, "metrics": _metrics}[what]()


def _suites() -> list[dict[str, Any]]:
    suites, problems = readable_suites()
    found: list[dict[str, Any]] = [
        {
            "name": suite.name,
            "dataset": suite.dataset_title,
            "metrics": ", ".join(suite.metrics),
            "entries": ", ".join(entry.name for entry in suite.entries),
            "profiles": ", ".join(suite.profiles),
            "file": str(suite.path),
        }
        for suite in suites
    ]
    return [*found, *({"name": None, "problem": problem} for problem in problems)]


def _models() -> list[dict[str, Any]]:
    from dataclasses import fields

    import models

    found = []
    for name in models.BUILDERS:
        config = models.config_class(name)
        summary = (config.__doc__ or "").strip().split("\n")[0]
        found.append({"name": name, "what": summary, "keys": ", ".join(field.name for field in fields(config))})
    return found


def _datasets() -> list[dict[str, Any]]:
    from harness import data

    found = []
    for name in (*data.DATASETS, *data.ALIASES):
        facts = data.facts({"name": name})
        found.append(
            {
                "name": name,
                "title": facts.title,
                "unit": facts.unit,
                "vocabulary": facts.vocab_size,
                **{f"{split} tokens": count for split, count in (facts.num_tokens or {}).items()},
            }
        )
    return found


def _metrics() -> list[dict[str, Any]]:
    from harness.metrics import METRICS

    return [
        {
            "name": metric.name,
            "title": metric.title,
            "unit": metric.unit,
            "better": "higher" if metric.higher_is_better else "lower",
        }
        for metric in METRICS.values()
    ]
