"""The checks of an audit, as a record holds them. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass

from harness.core.json_values import FILE_BLOCK


@dataclass(frozen=True, slots=True)
class Check:
    """One check.

    Attributes:
        name: of the check.
        catches: what a model or a tally that fails it does.
        figure: what was measured; None if it is not finite.
        bound: largest figure that passes.
        unit: of both, in words.
        passed: the verdict.
        detail: what was compared, and where it failed.
    """

    __pydantic_config__ = FILE_BLOCK

    name: str
    catches: str
    figure: float | None
    bound: float
    unit: str
    passed: bool
    detail: str


@dataclass(frozen=True, slots=True)
class ScoreAudit:
    """The checks of one score of a run.

    Attributes:
        checks: in the order in which they ran.
        num_coded: targets that were encoded and decoded.
        code: version and checksum of the harness that made them.
        seconds: time they took.
    """

    __pydantic_config__ = FILE_BLOCK

    checks: tuple[Check, ...]
    num_coded: int
    code: dict[str, str]
    seconds: float

    @property
    def failed(self) -> tuple[str, ...]:
        """Names of the checks that failed."""
        return tuple(check.name for check in self.checks if not check.passed)

    @property
    def passed(self) -> bool:
        """Whether every check passed, and there is one."""
        return bool(self.checks) and not self.failed
