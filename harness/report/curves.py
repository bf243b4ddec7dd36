"""Learning curves of records as a picture: one panel per dataset and metric, published rows as lines across it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

from harness.core.errors import HarnessError, StoreError
from harness.core.metrics import METRICS, Metric
from harness.results.published import PublishedRow, dataset_title, match

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from harness.core.specs import Label
    from harness.results.record import RunRecord

FORMATS = (".svg", ".png", ".pdf")
AXES = {
    "tokens": ("tokens", 1e-6, "tokens trained on, in millions"),
    "minutes": ("train_seconds", 1 / 60, "minutes of training, validations left out"),
    "updates": ("step", 1.0, "updates of the weights"),
}
"""What lies along a picture -> the column of a curve, what it is multiplied by, and the words under it."""

SIZE_IN = (8.0, 4.0)
"""Of one panel."""


@dataclass(frozen=True, slots=True)
class Line:
    """One run in one panel: x, valid and train (n,), the latter in the panel's metric and NaN where unknown.

    best: place of the validation whose weights were kept. averaged: place of the first under averaged weights.
    test: exact score of the test split. published: the row the run is set beside. Each None where there is none.
    """

    run_id: str
    name: str
    x: Sequence[float]
    valid: Sequence[float]
    train: Sequence[float]
    best: int | None
    averaged: int | None
    test: float | None
    published: PublishedRow | None


Panels = Mapping[tuple[str, str], Sequence[Line]]


def panels(
    records: Sequence[tuple[RunRecord, Sequence[Label]]], rows: Sequence[PublishedRow], along: str
) -> dict[tuple[str, str], list[Line]]:
    """Dataset's title and metric's name -> the runs to draw there, by the record's own label.

    A run whose curve has no row of a validation is left out, as is a row that does not say where it stands. Metrics
    are the label's; a rate of the curve is nats per scored target, so a metric stands for those targets.
    """
    found: dict[tuple[str, str], list[Line]] = {}
    for record, labels in records:
        label = labels[0]
        seen = [
            row for row in record.curve if all(_is_number(row.get(key)) for key in ("valid_nll_nats", AXES[along][0]))
        ]
        if not seen:
            continue
        for name in label.metrics:
            line = _line(record, label, seen, METRICS[name], rows, along)
            found.setdefault((dataset_title(label.dataset), name), []).append(line)
    return found


def draw(found: Panels, out: Path, along: str) -> None:
    """Write the picture; its format is the name's ending. The same records give the same bytes.

    Raises HarnessError where matplotlib is missing, nothing is to be drawn, or the format is none of FORMATS, and
    StoreError where the file cannot be written.
    """
    if out.suffix not in FORMATS:
        raise HarnessError(f"{out}: a picture's name ends in {', '.join(FORMATS[:-1])} or {FORMATS[-1]}")
    if not found:
        raise HarnessError("no curve to draw: none of these records has a row of a validation")
    try:
        import matplotlib
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise HarnessError("pictures need matplotlib: pip install 'lm-harness[plot]'") from None
    with matplotlib.rc_context({"svg.hashsalt": "harness", "svg.fonttype": "none"}):
        figure = Figure(figsize=(SIZE_IN[0], SIZE_IN[1] * len(found)), layout="constrained")
        FigureCanvasAgg(figure)
        for axes, (title, lines) in zip(figure.subplots(len(found), squeeze=False)[:, 0], found.items(), strict=True):
            _panel(axes, title, lines, along)
        try:
            out.parent.mkdir(parents=True, exist_ok=True)
            # Formats put the date into their metadata by different names; without it the bytes are repeatable.
            dated = {".svg": "Date", ".pdf": "CreationDate"}.get(out.suffix)
            figure.savefig(out, metadata={dated: None} if dated else None, dpi=150)
        except OSError as error:
            raise StoreError(f"{out}: cannot be written: {error.strerror or error}") from error


def _line(
    record: RunRecord,
    label: Label,
    seen: Sequence[Mapping[str, Any]],
    metric: Metric,
    rows: Sequence[PublishedRow],
    along: str,
) -> Line:
    column, scale, _ = AXES[along]
    exact = (score for score in record.scores if (score.split, score.protocol.name) == ("test", "exact"))
    score = next(exact, None)
    return Line(
        run_id=record.run_id,
        name=f"{label.title} ({record.run_id.rpartition('-')[2]})",
        x=[scale * float(row[column]) for row in seen],
        valid=[metric.of_rate(row["valid_nll_nats"]) for row in seen],
        train=[metric.of_rate(rate) if _is_number(rate := row.get("train_nll_nats")) else math.nan for row in seen],
        best=max((place for place, row in enumerate(seen) if row.get("is_best")), default=None),
        averaged=next((place for place, row in enumerate(seen) if row.get("averaged")), None),
        test=score.metrics.get(metric.name) if score else None,
        published=match(rows, label.published, metric=metric.name, split="test"),
    )


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _panel(axes: Axes, title: tuple[str, str], lines: Sequence[Line], along: str) -> None:
    for place, line in enumerate(lines):
        colour = f"C{place % 10}"
        scored = "" if line.test is None else f", test {line.test:.4g}"
        axes.plot(line.x, line.valid, color=colour, marker=".", markersize=4, label=line.name + scored)
        axes.plot(line.x, line.train, color=colour, linewidth=0.7, linestyle=":")
        if line.best is not None:
            axes.plot(line.x[line.best], line.valid[line.best], color=colour, marker="o", fillstyle="none")
        if line.averaged is not None:
            axes.plot(line.x[line.averaged], line.valid[line.averaged], color=colour, marker="|", markersize=14)
    beside = {line.published.id: line.published for line in lines if line.published is not None}
    for place, row in enumerate(sorted(beside.values(), key=lambda row: row.value)):
        axes.axhline(row.value, color="0.4", linewidth=0.8, linestyle="--")
        words = f"{row.model}, {row.source}: test {row.value:.{row.decimals}f}"
        # In turn at the left and in the middle, the lowest below its line: rows that are close would overlap.
        side = "top" if place == 0 and len(beside) > 1 else "bottom"
        x, transform = 0.01 + 0.5 * (place % 2), axes.get_yaxis_transform()
        axes.text(x, row.value, words, fontsize=7, color="0.4", va=side, transform=transform)
    _, _, words = AXES[along]
    metric = METRICS[title[1]]
    axes.set_title(title[0], loc="left")
    axes.set_xlabel(words)
    if metric.name == "perplexity":  # falls by factors
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter("{x:g}")
        axes.tick_params(axis="y", which="minor", labelsize=6)
    axes.set_ylabel(f"{metric.title}, {metric.unit}")
    axes.grid(alpha=0.25)
    axes.legend(fontsize=7, title="solid: validation, dotted: training, ring: kept, bar: averaging", title_fontsize=7)
