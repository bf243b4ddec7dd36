"""The importance of a study's parameters: its finished trials as a matrix, the analysis as rows."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.core.errors import HarnessError
from harness.core.messages import count
from harness.runs.search.study import bias_of, read_study
from harness.statistics import importance

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

RANDOM = "(random)"
NO_SAMPLE = "these shares may be wrong, they need trials drawn by random without --prune"


@dataclass(frozen=True, slots=True)
class Importances:
    """The analysis of a study.

    Attributes:
        suite, metric: what was searched.
        names: of the parameters, without the random one.
        scales: of each parameter, for axes of pictures.
        x, y: the trials, parameters scaled to [0, 1], shapes (N, D) and (N,).
        analysis: its columns are the parameters and the random one.
        remarks: why the trials are no random sample, and which trials and parameters are left out, one line each.
    """

    suite: str
    metric: str
    names: list[str]
    scales: list[Scale]
    x: importance.Array
    y: importance.Array
    analysis: importance.Analysis
    remarks: list[str]

    def rows(self) -> list[dict[str, Any]]:
        """A row per parameter, the most important by fANOVA first; the random one shows the floor."""
        rows = [
            {
                "parameter": name,
                **_cells("fanova", each.fanova),
                **_cells("impurity", each.impurity),
                "beats_random": each.beats_random if name != RANDOM else None,
                "verdict": None if name == RANDOM else self._verdict(d),
            }
            for d, (name, each) in enumerate(zip([*self.names, RANDOM], self.analysis.parameters, strict=True))
        ]
        return sorted(rows, key=lambda row: -row["fanova"])

    def interactions(self) -> list[dict[str, Any]]:
        """A row per pair, the strongest first: its share of variance beyond the parameters alone. Last, the floor."""
        rows = [
            {
                "pair": f"{self.names[one]} x {self.names[other]}",
                **_cells("fanova", each.fanova),
                "beats_random": each.beats_random,
            }
            for (one, other), each in self.analysis.interactions.items()
        ]
        floor = {"pair": f"{RANDOM} x any", **_cells("fanova", self.analysis.random_pair), "beats_random": None}
        return [*rows, floor] if rows else []

    def _verdict(self, d: int) -> str:
        if not self.analysis.parameters[d].is_noise:
            return "matters"
        # The strongest first.
        for pair, each in self.analysis.interactions.items():
            if d in pair and not each.is_noise:
                return f"in a pair with {self.names[sum(pair) - d]}"
        return "noise"


@dataclass(frozen=True, slots=True)
class Scale:
    """From values of a parameter to [0, 1] and back, uniform in its distribution; a choice has cells of equal width."""

    distribution: BaseDistribution

    def to_unit(self, value: Any) -> float:
        choices = getattr(self.distribution, "choices", None)
        if choices is not None:
            return (list(choices).index(value) + 0.5) / len(choices)
        low, high = self._edges()
        return (self._measure(value) - low) / (high - low)

    def from_unit(self, unit: float) -> str:
        """The value at a place, as text."""
        choices = getattr(self.distribution, "choices", None)
        if choices is not None:
            return str(choices[min(int(unit * len(choices)), len(choices) - 1)])
        low, high = self._edges()
        place = low + unit * (high - low)
        return f"{math.exp(place) if self._is_log else place:.3g}"

    def _edges(self) -> tuple[float, float]:
        # A whole number has the cell around it.
        margin = 0.5 if type(self.distribution).__name__ == "IntDistribution" else 0.0
        bounds: Any = self.distribution
        return self._measure(bounds.low - margin), self._measure(bounds.high + margin)

    def _measure(self, value: float) -> float:
        return math.log(value) if self._is_log else value

    @property
    def _is_log(self) -> bool:
        return bool(getattr(self.distribution, "log", False))


def importances(path: Path, *, num_trees: int, num_resamples: int) -> Importances:
    """Analyse a study.

    Args:
        path: its journal.
        num_trees: of the forest.
        num_resamples: of the trials, for intervals.

    Returns:
        The analysis of the finished trials, over the parameters that all of them have.

    Raises:
        HarnessError: no study, too few trials, or scikit-learn is missing.
    """
    study = read_study(path)
    trials = study.get_trials(deepcopy=False)
    finished = [trial for trial in trials if trial.state.name == "COMPLETE"]
    space = study.user_attrs["space"]
    names = [
        name
        for name in space
        if all(name in t.params for t in finished) and len({t.params[name] for t in finished}) > 1
    ]
    if not names:
        raise HarnessError(f"{path}: no parameter varies over its {count(len(finished), 'finished trial')}")
    scales = [Scale(finished[0].distributions[name]) for name in names]
    x = np.array([[scale.to_unit(t.params[n]) for n, scale in zip(names, scales, strict=True)] for t in finished])
    y = np.array([trial.value for trial in finished], dtype=np.float64)
    try:
        analysis = importance.analyse(x, y, num_trees=num_trees, num_resamples=num_resamples)
    except ImportError:
        raise HarnessError("importance needs scikit-learn: pip install 'lm-harness[search]'") from None
    except ValueError as error:
        raise HarnessError(f"{path}: {error}") from None
    remarks = [f"{study.user_attrs['suite']}: {count(len(finished), 'finished trial')}"]
    if bias := bias_of(study):
        remarks.append(f"{NO_SAMPLE}: {bias}")
    if len(trials) > len(finished):
        remarks.append(f"left out: {count(len(trials) - len(finished), 'trial')} that did not finish or were pruned")
    remarks += [f"left out: {name}, which not all trials have or vary" for name in space if name not in names]
    return Importances(study.user_attrs["suite"], study.user_attrs["metric"], names, scales, x, y, analysis, remarks)


def _cells(name: str, share: importance.Share) -> dict[str, float]:
    return {name: share.value, f"{name}_low": share.low, f"{name}_high": share.high}
