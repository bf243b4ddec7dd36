"""The kernels of a run's own model, at the shapes the run works at."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from harness.core.specs import RunSpec
from harness.timing.backends import Bench
from harness.timing.clocks import Budget
from harness.timing.ops import case_for
from kernels.cases import Case, WeightDropCase

WEIGHT_DROP = "weight_drop"
BUDGET = Budget(seconds=2.0, minimum=3, maximum=20, warmup=2)


def cases_of(spec: RunSpec, model: Any) -> list[tuple[str, str, Case]]:
    """(op, backend, case) of every op the spec asks for and the model runs, once per distinct layer width and backend.

    T and B are the recipe's BPTT and batch; a model that is only scored reads windows of one stream. A weight is
    dropped whole, whatever the window.
    """
    running: Mapping[str, str] = getattr(model, "kernels", {})
    steps, streams = spec.evaluation.window, 1
    if spec.recipe is not None:
        steps, streams = spec.recipe.bptt, spec.recipe.batch
    found: dict[tuple[str, str, Case], None] = {}
    for op in spec.kernels:
        if op not in running:
            continue
        if op == WEIGHT_DROP:
            for layer in model.layers:
                rows, columns = layer.raw_weight().shape
                found[op, running[op], WeightDropCase(rows, columns, layer.weight_drop)] = None
            continue
        for layer, (inputs, hidden) in zip(model.layers, model.config.widths, strict=True):
            keep = 1 - getattr(model.config, "zoneout", 0.0)
            case = case_for(op, steps=steps, streams=streams, inputs=inputs, hidden=hidden, keep=keep)
            found[op, layer.backend, case] = None
    return list(found)


def time_case(spec: RunSpec, op: str, backend: str, case: Case) -> list[dict[str, object]]:
    """Rows of the backend beside the plain way and the reference, in the run's dtype.

    16 bits train under autocast: the gates of fo_pool come in them from the product before it, an LSTM casts what it is
    given itself, and a weight is dropped in float32, before the product that rounds it.
    """
    dtype: torch.dtype = getattr(torch, spec.dtype)
    autocast = None
    if spec.dtype in ("bfloat16", "float16") and op != "fo_pool":
        dtype, autocast = torch.float32, dtype
    bench = Bench(device=spec.device, dtype=dtype, budget=BUDGET, backends=(backend,), warm=False, autocast=autocast)
    return [row.to_json() for row in bench.case(op, case)]
