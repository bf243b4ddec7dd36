"""Learning curves of records as a picture: one panel per dataset and metric, published rows as lines across it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

from harness.core.errors import HarnessError
from harness.core.metrics import Metric, metric_named
from harness.report.figures import saved_figure
from harness.results.published import PublishedRow, dataset_title, match

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from harness.core.specs import Label
    from harness.results.record import RunRecord

# Inches; a page is about 8 wide.
_PANEL_SIZE_IN = (8.0, 4.0)


@dataclass(frozen=True, slots=True)
class Line:
    """One run in one panel: x in millions of tokens, valid and train in the panel's metric, shape (n,); NaN is unknown.

    `best` is the index of the validation whose weights were kept, `averaged` of the first one of averaged weights;
    `test` is the exact score, `published` the row that the run is compared with.
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


def panels(
    records: Sequence[tuple[RunRecord, Sequence[Label]]], rows: Sequence[PublishedRow]
) -> dict[tuple[str, str], list[Line]]:
    """Assign the curves of records to panels.

    Args:
        records: each with its labels; the first label names dataset and metrics.
        rows: published rows.

    Returns:
        Title of the dataset and name of the metric -> lines. Only validations with a number of tokens are drawn.
        Curves hold nats per scored target, so a metric is that of those targets.
    """
    drawn: dict[tuple[str, str], list[Line]] = {}
    for record, labels in records:
        label = labels[0]
        validations = [
            row for row in record.curve if all(_is_number(row.get(key)) for key in ("valid_nll_nats", "tokens"))
        ]
        if not validations:
            continue
        # A curve has no bytes to divide by.
        for name in (each for each in label.metrics if not metric_named(each).crosses_units):
            line = _line(record, label, validations, metric_named(name), rows)
            drawn.setdefault((dataset_title(label.dataset), name), []).append(line)
    return drawn


def draw(drawn: Mapping[tuple[str, str], Sequence[Line]], out: Path) -> None:
    """Write the picture. The same records give the same bytes.

    Args:
        drawn: lines by panel.
        out: file to write; its ending is one of `figures.ENDINGS`.

    Raises:
        HarnessError: no curve, unknown ending, or matplotlib is missing.
        StoreError: the file cannot be written.
    """
    if not drawn:
        raise HarnessError("no curve to draw: none of these records has a row of a validation")
    with saved_figure(out, (_PANEL_SIZE_IN[0], _PANEL_SIZE_IN[1] * len(drawn))) as figure:
        for axes, (title, lines) in zip(figure.subplots(len(drawn), squeeze=False)[:, 0], drawn.items(), strict=True):
            _panel(axes, title, lines)


def _line(
    record: RunRecord,
    label: Label,
    validations: Sequence[Mapping[str, Any]],
    metric: Metric,
    rows: Sequence[PublishedRow],
) -> Line:
    exact = (score for score in record.scores if (score.split, score.protocol.name) == ("test", "exact"))
    score = next(exact, None)
    return Line(
        run_id=record.run_id,
        # The hash of the run distinguishes seeds and settings of one title.
        name=f"{label.title} ({record.run_id.rpartition('-')[2]})",
        x=[float(row["tokens"]) / 1e6 for row in validations],
        valid=[metric.of_rate(row["valid_nll_nats"]) for row in validations],
        train=[
            metric.of_rate(rate) if _is_number(rate := row.get("train_nll_nats")) else math.nan for row in validations
        ],
        best=max((place for place, row in enumerate(validations) if row.get("is_best")), default=None),
        averaged=next((place for place, row in enumerate(validations) if row.get("averaged")), None),
        test=score.metrics.get(metric.name) if score else None,
        published=match(rows, label.published, metric=metric.name, split="test"),
    )


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _panel(axes: Axes, title: tuple[str, str], lines: Sequence[Line]) -> None:
    for place, line in enumerate(lines):
        # matplotlib's cycle has ten colours.
        colour = f"C{place % 10}"
        scored = "" if line.test is None else f", test {line.test:.4g}"
        # matplotlib leaves a line whose name begins with an underscore out of the legend.
        name = f" {line.name}" if line.name.startswith("_") else line.name
        axes.plot(line.x, line.valid, color=colour, marker=".", markersize=4, label=name + scored)
        axes.plot(line.x, line.train, color=colour, linewidth=0.7, linestyle=":")
        if line.best is not None:
            axes.plot(line.x[line.best], line.valid[line.best], color=colour, marker="o", fillstyle="none")
        if line.averaged is not None:
            axes.plot(line.x[line.averaged], line.valid[line.averaged], color=colour, marker="|", markersize=14)
    rows = {line.published.id: line.published for line in lines if line.published is not None}
    for place, row in enumerate(sorted(rows.values(), key=lambda row: row.value)):
        axes.axhline(row.value, color="0.4", linewidth=0.8, linestyle="--")
        words = f"{row.model}, {row.source}: test {row.value:.{row.decimals}f}"
        # Left and middle in turn, and the lowest text below its line: texts of close values would overlap.
        side = "top" if place == 0 and len(rows) > 1 else "bottom"
        x, transform = 0.01 + 0.5 * (place % 2), axes.get_yaxis_transform()
        axes.text(x, row.value, words, fontsize=7, color="0.4", va=side, transform=transform, parse_math=False)
    metric = metric_named(title[1])
    # Names come from files: no dollar sign in them starts a formula.
    axes.set_title(title[0], loc="left", parse_math=False)
    axes.set_xlabel("tokens trained on, in millions")
    if metric.log_axis:
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter("{x:g}")
        axes.tick_params(axis="y", which="minor", labelsize=6)
    axes.set_ylabel(f"{metric.title}, {metric.unit}", parse_math=False)
    axes.grid(alpha=0.25)
    words = "solid: validation, dotted: training, ring: best, bar: averaging"
    for text in axes.legend(fontsize=7, title=words, title_fontsize=7).get_texts():
        text.set_parse_math(False)
