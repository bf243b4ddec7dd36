"""Shapes, dtypes and tolerances for the tests of every backend; benchmarks time the same list.

Letters: T time, B stream, I input, H hidden, G gates; of a weight, R rows and C columns.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Tolerance:
    """Largest accepted difference from the reference, for outputs and gradients alike."""

    absolute: float
    relative: float

    def allowed(self, reference: Tensor) -> float:
        """Largest accepted |fast - reference| of any entry. Errors of long sums scale with the tensor's maximum."""
        return self.absolute + self.relative * reference.abs().max().item()


TOLERANCES = {
    torch.float32: Tolerance(absolute=1e-5, relative=1e-5),
    torch.float64: Tolerance(absolute=1e-13, relative=1e-13),
}

# For tensors stored in half precision: the carry is float32, so the error is little more than one rounding.
HALF_TOLERANCES = {
    torch.bfloat16: Tolerance(absolute=4e-3, relative=8e-3),
    torch.float16: Tolerance(absolute=5e-4, relative=1e-3),
}


def tolerance(dtype: torch.dtype) -> Tolerance:
    """Tolerance for tensors of a dtype. Raises KeyError for a dtype without one."""
    return {**TOLERANCES, **HALF_TOLERANCES}[dtype]


# Roundings that one step of an LSTM layer may add in full: of both products, of their sum, and of a gate.
_ROUNDINGS_OF_A_STEP = 4


@dataclass(frozen=True, slots=True)
class FoPoolCase:
    """One call of fo_pool: T steps, B streams, H hidden units.

    keep: probability that zoneout keeps a gate; 1 for no zoneout. slow: too large for the default test run. timed:
    benchmarks time it.
    """

    steps: int
    streams: int
    hidden: int
    keep: float = 1.0
    slow: bool = False
    timed: bool = False

    @property
    def name(self) -> str:
        """`T150-B128-H1024`"""
        zoneout = "" if self.keep == 1 else f"-K{self.keep:g}"
        return f"T{self.steps}-B{self.streams}-H{self.hidden}{zoneout}"


@dataclass(frozen=True, slots=True)
class LstmCase:
    """One call of lstm: T steps, B streams, I inputs, H hidden units. slow and timed as in `FoPoolCase`."""

    steps: int
    streams: int
    inputs: int
    hidden: int
    slow: bool = False
    timed: bool = False

    @property
    def name(self) -> str:
        """`T150-B128-H1000`, or `T33-B4-I64-H32` if the numbers of inputs and hidden units differ."""
        inputs = "" if self.inputs == self.hidden else f"-I{self.inputs}"
        return f"T{self.steps}-B{self.streams}{inputs}-H{self.hidden}"


@dataclass(frozen=True, slots=True)
class WeightDropCase:
    """One call of weight_drop: a weight of R rows and C columns, dropped with probability p."""

    rows: int
    columns: int
    p: float = 0.5
    slow: bool = False
    timed: bool = False

    @property
    def name(self) -> str:
        """`R4000-C1000-P0.5`"""
        return f"R{self.rows}-C{self.columns}-P{self.p:g}"


Case: TypeAlias = FoPoolCase | LstmCase | WeightDropCase

# The slow cases are the sizes of Merity et al. 2018, arXiv:1803.08240 (Penn Treebank characters and WikiText-103 for
# the QRNN, Penn Treebank characters and enwik8 for the LSTM), models for a CPU, and one stream of a long text.
FO_POOL_CASES = (
    FoPoolCase(1, 1, 1),
    FoPoolCase(5, 3, 7),
    FoPoolCase(5, 3, 7, keep=0.6),
    FoPoolCase(20, 4, 64, timed=True),
    FoPoolCase(33, 4, 64),
    FoPoolCase(150, 10, 129, keep=0.9),
    FoPoolCase(100, 32, 256, slow=True, timed=True),
    FoPoolCase(70, 32, 1024, slow=True),
    FoPoolCase(150, 128, 1024, slow=True, timed=True),
    FoPoolCase(140, 60, 2500, slow=True, timed=True),
    FoPoolCase(32768, 1, 1024, slow=True, timed=True),
)
LSTM_CASES = (
    LstmCase(1, 1, 1, 1),
    LstmCase(5, 3, 4, 7),
    LstmCase(20, 4, 64, 64, timed=True),
    LstmCase(33, 4, 64, 32),
    LstmCase(20, 10, 17, 129),
    LstmCase(100, 32, 256, 256, slow=True, timed=True),
    LstmCase(70, 32, 1000, 1000, slow=True),
    LstmCase(150, 128, 1000, 1000, slow=True, timed=True),
    LstmCase(200, 128, 1840, 1840, slow=True, timed=True),
)

# Recurrent matrices of the LSTMs above, and the linear map of an upper layer of Penn Treebank's QRNN
WEIGHT_DROP_CASES = (
    WeightDropCase(1, 1),
    WeightDropCase(0, 5),
    WeightDropCase(3, 43, p=0.3),
    WeightDropCase(28, 7, p=0.9),
    WeightDropCase(256, 64, timed=True),
    WeightDropCase(1024, 256, timed=True),
    WeightDropCase(3072, 1024, p=0.1, slow=True, timed=True),
    WeightDropCase(4000, 1000, slow=True, timed=True),
    WeightDropCase(7360, 1840, p=0.2, slow=True, timed=True),
)

CASES: dict[str, tuple[Case, ...]] = {
    "fo_pool": FO_POOL_CASES,
    "lstm": LSTM_CASES,
    "weight_drop": WEIGHT_DROP_CASES,
}


@dataclass(frozen=True, slots=True)
class Inputs:
    """Arguments of one call in order: leaves, which get a gradient, then constants. Names are for error messages."""

    leaves: tuple[Tensor, ...]
    constants: tuple[Tensor | float | None, ...]
    leaf_names: tuple[str, ...]
    output_names: tuple[str, ...]

    def call(self, function: Callable[..., Any]) -> tuple[Tensor, ...]:
        """Call a backend and return its outputs; an op with a single output returns it without a tuple."""
        outputs = function(*self.leaves, *self.constants)
        return outputs if isinstance(outputs, tuple) else (outputs,)

    def widened(self, dtype: torch.dtype = torch.float64, device: torch.device | str = "cpu") -> Inputs:
        """The same values in more bits, to judge results in fewer bits by.

        `inputs` in another dtype would draw different values: a generator's numbers depend on the dtype.

        Args:
            dtype: of the leaves; constants keep theirs.
            device: where the arguments go.
        """
        constants = tuple(part.to(device) if isinstance(part, Tensor) else part for part in self.constants)
        leaves = tuple(leaf.detach().to(device, dtype, copy=True) for leaf in self.leaves)
        return replace(self, leaves=_with_gradient(leaves), constants=constants)


def half_tolerance(case: Case, dtype: torch.dtype) -> Tolerance:
    """Tolerance for a backend that computes in half precision, against the reference in float32 on the same inputs.

    An LSTM layer may round every operation, as torch's layers do. A rounding changes a value by at most the fraction
    u = eps / 2. Within a step the roundings of both products, of their sum and of a gate may add up in full. The
    carried cell is rounded once more per step; these roundings are independent, and a sum of T of them, like one of a
    weight's T gradients, grows with the square root of T. Together (4 + sqrt(T)) u of the tensor's maximum. H does not
    enter: a product sums in float32, and the roundings of its H terms, each of the size H^-1/2, are independent.

    Args:
        case: op and sizes.
        dtype: bfloat16 or float16.
    """
    if isinstance(case, LstmCase):
        unit = torch.finfo(dtype).eps / 2
        return Tolerance(absolute=0.0, relative=(_ROUNDINGS_OF_A_STEP + case.steps**0.5) * unit)
    return tolerance(dtype)


def inputs(case: Case, dtype: torch.dtype, device: torch.device | str = "cpu") -> Inputs:
    """Draw random arguments on the CPU from a fixed seed: the same on every device.

    Args:
        case: shapes.
        dtype: of the arguments; with half precision the carried cell is float32, as in the kernels.
        device: where the arguments go.
    """
    draw = torch.Generator().manual_seed(1)
    if isinstance(case, FoPoolCase):
        return _fo_pool_inputs(case, dtype, torch.device(device), draw)
    if isinstance(case, WeightDropCase):
        return _weight_drop_inputs(case, dtype, torch.device(device), draw)
    return _lstm_inputs(case, dtype, torch.device(device), draw)


def _fo_pool_inputs(case: FoPoolCase, dtype: torch.dtype, device: torch.device, draw: torch.Generator) -> Inputs:
    wide = torch.promote_types(dtype, torch.float32)
    gates_TBG = 2 * torch.randn(case.steps, case.streams, 3 * case.hidden, generator=draw, dtype=wide)
    c0_BH = torch.randn(case.streams, case.hidden, generator=draw, dtype=wide)
    keep_TBH = None
    if case.keep != 1:
        mask_TBH = torch.empty(case.steps, case.streams, case.hidden, dtype=wide)
        keep_TBH = mask_TBH.bernoulli_(case.keep, generator=draw).to(device)
    leaves = (gates_TBG.to(device, dtype), c0_BH.to(device))
    return Inputs(_with_gradient(leaves), (keep_TBH,), ("gates", "c0"), ("h", "c"))


def _lstm_inputs(case: LstmCase, dtype: torch.dtype, device: torch.device, draw: torch.Generator) -> Inputs:
    t, b, i, h = case.steps, case.streams, case.inputs, case.hidden
    shapes = [(t, b, i), (b, h), (b, h), (4 * h, i), (4 * h, h), (4 * h,), (4 * h,)]
    scales = [1, 1, 1, i**-0.5, h**-0.5, 1, 1]
    wide = torch.promote_types(dtype, torch.float32)
    leaves = tuple(
        (scale * torch.randn(shape, generator=draw, dtype=wide)).to(device, dtype)
        for scale, shape in zip(scales, shapes, strict=True)
    )
    names = ("x", "h0", "c0", "weight_ih", "weight_hh", "bias_ih", "bias_hh")
    return Inputs(_with_gradient(leaves), (), names, ("h_TBH", "h", "c"))


def _weight_drop_inputs(
    case: WeightDropCase, dtype: torch.dtype, device: torch.device, draw: torch.Generator
) -> Inputs:
    wide = torch.promote_types(dtype, torch.float32)
    raw = torch.randn(case.rows, case.columns, generator=draw, dtype=wide).to(device, dtype)
    seed = torch.empty((), dtype=torch.int64).random_(-(2**63), None, generator=draw).to(device)
    return Inputs(_with_gradient((raw,)), (case.p, seed), ("raw",), ("dropped",))


def _with_gradient(leaves: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return tuple(leaf.requires_grad_() for leaf in leaves)
