"""What this installation knows: suites, models, datasets, metrics; and where a suite of a given name lies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness.suite import readable_suites

if TYPE_CHECKING:
    pass


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
    from harness.core.metrics import METRICS

    return [
        {
            "name": metric.name,
            "title": metric.title,
            "unit": metric.unit,
            "better": "higher" if metric.higher_is_better else "lower",
        }
        for metric in METRICS.values()
    ]
