"""Pictures of a study's importance: shares with intervals, and joint plots of pairs of parameters."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from harness.core.errors import HarnessError
from harness.core.messages import near
from harness.core.metrics import metric_named
from harness.report.figures import saved_figure
from harness.runs.search.importance import RANDOM, Importances
from harness.statistics.importance import Pair, surface

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Of the paper's analysis; each is drawn if the study has both.
JOINT = (("recipe.lr", "recipe.clip"), ("model.dropout.weight", "model.dropout.hidden"))
TICKS = 5


def draw(found: Importances, out: Path, pairs: Sequence[str] = ()) -> None:
    """Draw importances and joint plots. The same study gives the same bytes.

    Args:
        found: the analysis.
        out: file to write.
        pairs: `A,B` each, names of parameters; those of JOINT by default, or else the strongest pair.

    Raises:
        HarnessError: an unknown parameter or ending, or matplotlib is missing.
        StoreError: the file cannot be written.
    """
    joint = _joint(found, pairs)
    num_columns = 1 + len(joint)
    with saved_figure(out, (4.2 * num_columns, 0.34 * len(found.names) + 2.2)) as figure:
        bars, *others = figure.subplots(1, num_columns, squeeze=False)[0]
        _bars(bars, found)
        for axes, pair in zip(others, joint, strict=True):
            _surface(axes, found, pair)


def _joint(found: Importances, pairs: Sequence[str]) -> list[Pair]:
    if not pairs:
        known = [pair for pair in JOINT if set(pair) <= set(found.names)]
        if known:
            return [(found.names.index(one), found.names.index(other)) for one, other in known]
        return list(found.analysis.interactions)[:1]
    chosen = []
    for text in pairs:
        names = [name.strip() for name in text.split(",")]
        if len(names) != 2 or names[0] == names[1]:
            raise HarnessError(f"--pair {text}: is not NAME,NAME of two parameters")
        for name in names:
            if name not in found.names:
                raise HarnessError(f"--pair {text}: '{name}' is no parameter of the study.{near(name, found.names)}")
        chosen.append((found.names.index(names[0]), found.names.index(names[1])))
    return chosen


def _bars(axes: Axes, found: Importances) -> None:
    rows = found.rows()[::-1]
    for place, row in enumerate(rows):
        colour = "0.75" if row["parameter"] == RANDOM or row["verdict"] == "noise" else "C0"
        axes.barh(place, row["fanova"], color=colour, height=0.7)
        axes.plot([row["fanova_low"], row["fanova_high"]], [place, place], color="0.2", linewidth=1)
        axes.plot(row["impurity"], place, marker="|", color="C1", markersize=9)
    axes.set_yticks(range(len(rows)), [row["parameter"] for row in rows])
    axes.set_xlabel("share of variance")
    axes.set_title("bar: fANOVA, 95 %; tick: impurity; grey: noise", loc="left", fontsize=8)
    axes.grid(axis="x", alpha=0.25)


def _surface(axes: Axes, found: Importances, pair: Pair) -> None:
    one, other = pair
    values = surface(found.analysis.forest, pair)
    metric = metric_named(found.metric)
    image = axes.imshow(values.T, origin="lower", extent=(0, 1, 0, 1), aspect="auto", cmap="viridis")
    axes.scatter(found.x[:, one], found.x[:, other], c=found.y, s=12, edgecolors="white", linewidths=0.5,
                 vmin=values.min(), vmax=values.max())  # fmt: skip
    ticks = [step / (TICKS - 1) for step in range(TICKS)]
    for d, set_ticks, set_label in ((one, axes.set_xticks, axes.set_xlabel), (other, axes.set_yticks, axes.set_ylabel)):
        set_ticks(ticks, [found.scales[d].from_unit(min(tick, math.nextafter(1, 0))) for tick in ticks])
        set_label(found.names[d])
    axes.tick_params(labelsize=7)
    assert axes.figure is not None
    axes.figure.colorbar(image, ax=axes, label=f"{metric.title}, {metric.unit}")
