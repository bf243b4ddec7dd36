"""The kernels of a run's own model, timed at the shapes of the run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from harness.core.specs import RunSpec
from harness.timing.backends import Bench, KernelTiming
from harness.timing.clocks import Budget
from lm_kernels.cases import Case, FoPoolCase, LstmCase, WeightDropCase

WEIGHT_DROP = "weight_drop"
BUDGET = Budget(seconds=2.0, minimum=3, maximum=20, warmup=2)


def cases_of(spec: RunSpec, model: Any) -> list[tuple[str, str, Case]]:
    """The cases to time: each op that the run asks for and the model uses, once per distinct layer.

    T and B are the recipe's BPTT and batch; a model that is only scored reads windows of one stream. The size of a
    dropped weight does not depend on the window.

    Args:
        spec: ops, recipe and evaluation.
        model: its `kernels`, `layers` and `config` are read; a model without `kernels` has no cases.

    Returns:
        (op, backend, case) in the order of the layers.
    """
    backends: Mapping[str, str] = getattr(model, "kernels", {})
    steps, streams = spec.evaluation.window, 1
    if spec.recipe is not None:
        steps, streams = spec.recipe.bptt, spec.recipe.batch
    cases: dict[tuple[str, str, Case], None] = {}  # a set that keeps the order
    for op in spec.kernels:
        if op not in backends:
            continue
        if op == WEIGHT_DROP:
            for layer in model.layers:
                rows, columns = layer.raw_weight().shape
                cases[op, backends[op], WeightDropCase(rows, columns, layer.weight_drop)] = None
            continue
        for layer, (inputs, hidden) in zip(model.layers, model.config.widths, strict=True):
            case: Case = LstmCase(steps, streams, inputs, hidden)
            if op == "fo_pool":
                case = FoPoolCase(steps, streams, hidden, keep=1 - getattr(model.config, "zoneout", 0.0))
            cases[op, layer.backend, case] = None
    return list(cases)


def time_case(spec: RunSpec, op: str, backend: str, case: Case) -> list[KernelTiming]:
    """Time a backend with its comparison and the reference, in the dtype in which the run trains.

    Returns:
        One row per backend and direction.
    """
    dtype: torch.dtype = getattr(torch, spec.dtype)
    autocast = None
    # 16 bits train under autocast: weights stay in float32, an LSTM casts its inputs itself, and a weight is dropped
    # before the product that rounds it. Only the gates of fo_pool come in 16 bits, from the product before.
    if spec.dtype in ("bfloat16", "float16") and op != "fo_pool":
        dtype, autocast = torch.float32, dtype
    bench = Bench(device=spec.device, dtype=dtype, budget=BUDGET, backends=(backend,), warm=False, autocast=autocast)
    return bench.case(op, case)
