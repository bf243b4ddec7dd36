"""The paper's rows: how far our runs came towards each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.core.metrics import metric_named
from harness.report.columns import (
    NOT_APPLICABLE,
    difference_text,
    interval_text,
    params_text,
    profile_text,
    seeds_text,
    value_text,
)
from harness.report.paper import PaperLine, paper_lines
from harness.report.row import FINISHED
from harness.results.published import dataset_title

if TYPE_CHECKING:
    from harness.report.leaderboard import Leaderboard
    from harness.report.table import Table

REPRODUCED, WITHIN, MISSED, SMALLER, NOT_RUN = (
    "reproduced",
    "within interval",
    "not reproduced",
    "smaller run only",
    "not run",
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """A row of the paper with ours; `state` is one of the above or the status of a run that did not finish."""

    line: PaperLine
    state: str
    why: str

    @property
    def cells(self) -> dict[str, str]:
        """The texts of the row, by heading."""
        row, best = self.line.published, self.line.best
        ours = (
            dict.fromkeys(
                ("Ours", "95 % interval", "Difference from paper", "Params", "Seeds", "Profile"), NOT_APPLICABLE
            )
            if best is None
            else {
                "Ours": value_text(best),
                "95 % interval": interval_text(best),
                "Difference from paper": difference_text(best),
                "Params": params_text(best),
                "Seeds": seeds_text(best),
                "Profile": profile_text(best),
            }
        )
        return {
            "Dataset": dataset_title(row.dataset),
            "Model": row.model,
            "Metric": metric_named(row.metric).heading_for(row.split),
            "Paper": f"{row.value:.{row.decimals}f}",
            **ours,
        }


def verdicts(board: Leaderboard, table: Table) -> list[Verdict]:
    """Judge the paper's rows.

    Args:
        board: whose published rows and suites are used.
        table: of the board.

    Returns:
        One verdict per row of the paper. Only a run of the full recipe can reproduce one: by a value that is at least
        as good in the digits that the paper prints, or by an interval that holds the paper's value.
    """
    return [Verdict(line, *_state(line)) for line in paper_lines(table, board.published, board.suites)]


def _state(line: PaperLine) -> tuple[str, str]:
    best, row = line.best, line.published
    if best is None or best.value is None:
        return (NOT_RUN if line.status in ("none yet", FINISHED) else line.status), line.remark
    if not line.is_full:
        return SMALLER, line.remark
    gain = round(best.value, row.decimals) - row.value
    if gain == 0 or (gain > 0) == metric_named(row.metric).higher_is_better:
        return REPRODUCED, "full recipe; at least as good as the paper in the digits it prints"
    if best.ci95_low is not None and best.ci95_high is not None and best.ci95_low <= row.value <= best.ci95_high:
        return WITHIN, "full recipe; the paper's value is inside our 95 % interval"
    return MISSED, "full recipe; the paper's value is outside our 95 % interval"
