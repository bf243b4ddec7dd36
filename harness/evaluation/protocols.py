"""Stream a split through a model into a Tally, under a named protocol.

Shape letters: T time, B stream, N tokens of the split. Every sum is float64, in nats; nothing is divided here.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from harness.core.interfaces import LanguageModel
from harness.core.metrics import METRICS
from harness.core.scores import EvaluationProtocol, Score, Tally
from models.step import reset_streams, step_over

if TYPE_CHECKING:
    from harness.config.evaluation import Evaluation

OFFICIAL_BATCH = {"train": 10, "valid": 10, "test": 1}
"""awd-lstm-lm, main.py: eval_batch_size 10, test_batch_size 1."""

MAX_BLOCKS = 512
MIN_BLOCK_TARGETS = 256

Tick = Callable[[int], None]
"""Called with the number of targets scored since the last call; may raise to stop the evaluation."""


@dataclass(frozen=True, slots=True)
class Scored:
    """A Tally with the block sums behind its standard error, in text order."""

    tally: Tally
    block_targets: int
    block_nll_nats: list[float]


class Blocks:
    """Sums of nll over blocks of consecutive targets, filled by position."""

    def __init__(self, num_targets: int) -> None:
        self.size = max(MIN_BLOCK_TARGETS, math.ceil(num_targets / MAX_BLOCKS))
        self.sums = np.zeros(max(1, math.ceil(num_targets / self.size)))

    def add(self, first: int, nll: np.ndarray) -> None:
        """Add nll of targets first, first + 1, ... to the blocks they belong to."""
        which = (first + np.arange(len(nll))) // self.size
        self.sums += np.bincount(which, weights=nll, minlength=len(self.sums))


def exact(window: int) -> EvaluationProtocol:
    return EvaluationProtocol(
        name="exact",
        num_streams=1,
        warmup=0,
        window=window,
        carried_state=True,
        targets="every token but the first, which only conditions",
        denominator="targets",
    )


def streams(num_streams: int, warmup: int, window: int) -> EvaluationProtocol:
    return EvaluationProtocol(
        name="streams",
        num_streams=num_streams,
        warmup=warmup,
        window=window,
        carried_state=True,
        targets="every token but the first; each stream but the first reads `warmup` tokens unscored before its own",
        denominator="targets",
    )


def official(split: str, window: int) -> EvaluationProtocol:
    return official_streams(OFFICIAL_BATCH[split], window)


def official_streams(batch: int, window: int) -> EvaluationProtocol:
    return EvaluationProtocol(
        name="official",
        num_streams=batch,
        warmup=0,
        window=window,
        carried_state=True,
        targets=f"the split trimmed to {batch} equal streams, every token of each but its first",
        denominator="tokens of the trimmed split, first ones included",
    )


def protocol_for(name: str, split: str, evaluation: Evaluation) -> EvaluationProtocol:
    """The named protocol as the suite's evaluation block sets it. Raises KeyError for an unknown name."""
    builders: dict[str, Callable[[], EvaluationProtocol]] = {
        "exact": lambda: exact(evaluation.window),
        "official": lambda: official(split, evaluation.window),
        "streams": lambda: streams(evaluation.streams, evaluation.warmup, evaluation.window),
    }
    return builders[name]()


def allowed_by(num_targets: int, protocol: EvaluationProtocol) -> EvaluationProtocol:
    """The protocol with the streams and the warm-up that a text of so many targets has room for.

    Streams are pieces of equal length, so a short text may end before the last of them begins; a warm-up is no longer
    than a piece, and one stream alone has none. `official` trims the text instead and is returned as it is.
    """
    if protocol.name == "official":
        return protocol
    per_stream = math.ceil(num_targets / min(protocol.num_streams, num_targets))
    num_streams = math.ceil(num_targets / per_stream)
    warmup = min(protocol.warmup, per_stream) if num_streams > 1 else 0
    return replace(protocol, num_streams=num_streams, warmup=warmup)


@torch.no_grad()
def score(model: LanguageModel, ids: np.ndarray, protocol: EvaluationProtocol, *, tick: Tick | None = None) -> Scored:
    """Score ids (N,) under the protocol. The model is put into evaluation mode and back.

    Raises ValueError where the split is too short for the protocol.
    """
    module = module_of(model)
    was_training = module.training
    module.eval()
    try:
        if protocol.name == "official":
            return _trimmed_streams(model, ids, protocol, tick)
        return _all_targets(model, ids, protocol, tick)
    finally:
        module.train(was_training)


def to_score(scored: Scored, split: str, protocol: EvaluationProtocol, metrics: Sequence[str], seconds: float) -> Score:
    """A Score with the value and standard error of each metric, and the protocol as the split's length allowed it."""
    rate_error = rate_std_error(scored)
    return Score(
        split=split,
        protocol=allowed_by(scored.tally.num_targets, protocol),
        tally=scored.tally,
        metrics={name: METRICS[name].compute(scored.tally) for name in metrics},
        std_errors={name: METRICS[name].std_error(scored.tally, rate_error) for name in metrics},
        block_targets=scored.block_targets,
        block_nll_nats=scored.block_nll_nats,
        seconds=seconds,
    )


def score_splits(
    model: LanguageModel,
    splits: dict[str, np.ndarray],
    evaluation: Evaluation,
    metrics: Sequence[str],
    *,
    on_start: Callable[[str, str, int], Tick | None] = lambda split, protocol, targets: None,
) -> list[Score]:
    """Every split under every protocol of the suite, in order."""
    scores = []
    for name in evaluation.protocols:
        for split in evaluation.splits:
            protocol = protocol_for(name, split, evaluation)
            tick = on_start(split, name, len(splits[split]) - 1)
            started = time.perf_counter()
            scored = score(model, splits[split], protocol, tick=tick)
            scores.append(to_score(scored, split, protocol, metrics, time.perf_counter() - started))
    return scores


def rate_std_error(scored: Scored) -> float:
    """Standard error of nats per unit from batch means: blocks are long enough to be nearly independent.

    What correlation is left between neighbouring blocks is allowed for by the sample's own lag-one
    autocorrelation. NaN with fewer than two whole blocks.
    """
    whole = np.asarray(scored.block_nll_nats)
    if len(whole) > 1 and scored.tally.num_targets % scored.block_targets:
        whole = whole[:-1]
    if len(whole) < 2:
        return math.nan
    deviation = whole - whole.mean()
    variance = float(deviation @ deviation) / (len(whole) - 1)
    if variance == 0:
        return 0.0
    lag_one = float(deviation[1:] @ deviation[:-1]) / float(deviation @ deviation)
    inflation = (1 + lag_one) / (1 - lag_one) if 0 < lag_one < 1 else 1.0
    blocks = scored.tally.num_targets / scored.block_targets
    per_target = math.sqrt(variance * inflation / blocks) / scored.block_targets
    return per_target * scored.tally.num_targets / scored.tally.num_units


def _all_targets(model: LanguageModel, ids: np.ndarray, protocol: EvaluationProtocol, tick: Tick | None) -> Scored:
    """`exact` and `streams`: N - 1 targets, each scored once; stream s owns targets 1 + s L ... (s + 1) L."""
    num_targets = len(ids) - 1
    if num_targets < 1:
        raise ValueError(f"a split of {len(ids)} tokens has nothing to predict")
    allowed = allowed_by(num_targets, protocol)
    per_stream = math.ceil(num_targets / allowed.num_streams)
    starts_B = np.arange(allowed.num_streams) * per_stream
    blocks = Blocks(num_targets)
    total = 0.0
    state = _warm_state(model, ids, protocol, starts_B, allowed.warmup)
    for first in range(0, per_stream, protocol.window):
        length = min(protocol.window, per_stream - first)
        positions_TB = first + np.arange(length + 1)[:, None] + starts_B[None, :]
        tokens_TB = ids[np.minimum(positions_TB, num_targets)]
        nll_TB, state = _nll(model, tokens_TB, state)
        scored_TB = positions_TB[1:] <= num_targets
        for stream, start in enumerate(starts_B):
            column = nll_TB[scored_TB[:, stream], stream]
            if len(column):
                blocks.add(int(start) + first, column)
                total += math.fsum(column)
        if tick is not None:
            tick(int(scored_TB.sum()))
    tally = Tally(total, num_targets, num_targets, len(ids) - num_targets)
    return Scored(tally, blocks.size, blocks.sums.tolist())


def _warm_state(
    model: LanguageModel, ids: np.ndarray, protocol: EvaluationProtocol, starts_B: np.ndarray, warmup: int
) -> Any:
    """State of every stream after its unscored warm-up; the first stream has no text before it and starts at zero."""
    state = model.initial_state(len(starts_B))
    if warmup == 0:
        return state
    for first in range(0, warmup, protocol.window):
        length = min(protocol.window, warmup - first)
        positions_TB = starts_B[None, :] - warmup + first + np.arange(length + 1)[:, None]
        _, state = _nll(model, ids[np.maximum(positions_TB, 0)], state)
    keep_B = torch.from_numpy(starts_B > 0).to(device_of(model))
    return reset_streams(state, keep_B)


def _trimmed_streams(model: LanguageModel, ids: np.ndarray, protocol: EvaluationProtocol, tick: Tick | None) -> Scored:
    """`official`: the split trimmed to equal columns; the sum is divided by all their tokens, targets or not."""
    rows = len(ids) // protocol.num_streams
    if rows < 2:
        raise ValueError(f"a split of {len(ids)} tokens is too short for {protocol.num_streams} streams")
    columns_TB = np.asarray(ids[: rows * protocol.num_streams]).reshape(protocol.num_streams, rows).T
    num_targets = (rows - 1) * protocol.num_streams
    blocks = Blocks(num_targets)
    state = model.initial_state(protocol.num_streams)
    total = 0.0
    for first in range(0, rows - 1, protocol.window):
        tokens_TB = columns_TB[first : min(first + protocol.window, rows - 1) + 1]
        nll_TB, state = _nll(model, tokens_TB, state)
        for stream in range(protocol.num_streams):
            blocks.add(stream * (rows - 1) + first, nll_TB[:, stream])
            total += math.fsum(nll_TB[:, stream])
        if tick is not None:
            tick(nll_TB.size)
    tally = Tally(total, num_targets, rows * protocol.num_streams, len(ids) - num_targets)
    return Scored(tally, blocks.size, blocks.sums.tolist())


def _nll(model: LanguageModel, tokens_TB: np.ndarray, state: Any) -> tuple[np.ndarray, Any]:
    """nll (T - 1, B) in float64 on the host, and the state after it."""
    tokens = torch.from_numpy(np.ascontiguousarray(tokens_TB).astype(np.int64))
    step = step_over(model, tokens, state, device_of(model))
    return step.nll_TB.double().cpu().numpy(), step.state


def module_of(model: LanguageModel) -> torch.nn.Module:
    """The model as the module it is. Raises TypeError where it is none."""
    if not isinstance(model, torch.nn.Module):
        raise TypeError(f"a model must be an nn.Module, got {type(model).__name__}")
    return model


def device_of(model: LanguageModel) -> torch.device:
    """Where the model's parameters and buffers are; the CPU where it has none."""
    module = module_of(model)
    for tensor in (*module.parameters(), *module.buffers()):
        return tensor.device
    return torch.device("cpu")
