"""Score splits under the protocols `exact`, `streams` and `official`.

A split of N tokens is streamed through the model; negative log-likelihoods are summed in nats and float64. Nothing is
divided here (`harness.core.metrics` does). Shape letters: T time, B stream, N tokens of the split.

    >>> allowed_by(20, streams(15, 8, window=512)).num_streams  # 20 targets make 10 pieces of 2
    10
"""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from harness.core.interfaces import LanguageModel, TextSizes
from harness.core.metrics import METRICS
from harness.core.scores import EvaluationProtocol, Score, Tally, TargetFile, TextSize
from harness.evaluation import joined
from harness.evaluation.blocks import Blocks, Scored, rate_std_error
from lm_models.step import State, reset_streams, step_over

if TYPE_CHECKING:
    from harness.core.config.evaluation import Evaluation
    from harness.core.ranks import Ranks

# awd-lstm-lm, main.py: eval_batch_size 10, test_batch_size 1.
OFFICIAL_STREAMS = {"train": 10, "valid": 10, "test": 1}


@dataclass(frozen=True, slots=True)
class SplitText:
    """Size of the text that was scored and of the complete split, and the number of tokens before it."""

    scored: TextSize
    whole: TextSize
    num_added: int = 0


# Called with the number of targets scored since the last call. It may raise to stop the evaluation.
Tick = Callable[[int], None]

# Called with a split and the loss of each of its targets (N,); stores them, if the tokens have a text.
Keep = Callable[[str, np.ndarray], TargetFile | None]

# Called with a split, a protocol and the number of targets before each scoring; returns its Tick, if any.
OnStart = Callable[[str, str, int], "Tick | None"]


def ignore_start(split: str, protocol: str, num_targets: int) -> None:
    """An `OnStart` that reports nothing."""


def exact(window: int) -> EvaluationProtocol:
    """One stream over the whole split, `window` tokens per forward pass: the protocol a leaderboard ranks."""
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
    """Parallel streams, each after a warm-up: the targets of `exact`, in less time.

    Args:
        num_streams: B, equal pieces of the targets.
        warmup: tokens each stream but the first reads unscored.
        window: tokens per forward pass; changes no number.

    Returns:
        The protocol as asked for; a short split cuts it, see `allowed_by`.
    """
    return EvaluationProtocol(
        name="streams",
        num_streams=num_streams,
        warmup=warmup,
        window=window,
        carried_state=True,
        targets="every token but the first; each stream but the first reads `warmup` tokens unscored before its own",
        denominator="targets",
    )


def official(num_streams: int, window: int) -> EvaluationProtocol:
    """The original code's count: the split trimmed to equal streams, the loss divided by all their tokens.

    Args:
        num_streams: B; the original's are in `OFFICIAL_STREAMS`.
        window: tokens per forward pass; changes no number.
    """
    return EvaluationProtocol(
        name="official",
        num_streams=num_streams,
        warmup=0,
        window=window,
        carried_state=True,
        targets=f"the split trimmed to {num_streams} equal streams, every token of each but its first",
        denominator="tokens of the trimmed split, first ones included",
    )


def protocol_for(name: str, split: str, evaluation: Evaluation) -> EvaluationProtocol:
    """The named protocol with the settings of a suite.

    Raises:
        KeyError: the name is unknown.
    """
    builders: dict[str, Callable[[], EvaluationProtocol]] = {
        "exact": lambda: exact(evaluation.window),
        "official": lambda: official(OFFICIAL_STREAMS[split], evaluation.window),
        "streams": lambda: streams(evaluation.streams, evaluation.warmup, evaluation.window),
    }
    return builders[name]()


def allowed_by(num_targets: int, protocol: EvaluationProtocol) -> EvaluationProtocol:
    """Cut a protocol to what a short split allows.

    Args:
        num_targets: of the split, at least 1.
        protocol: as asked for. `official` trims the split instead and is returned unchanged.

    Returns:
        Fewer streams if the text ends before the last of them begins, since all pieces have the same length; a warm-up
        no longer than a piece, and none for a single stream.
    """
    if protocol.name == "official":
        return protocol
    # Rounded up, so that every target belongs to exactly one piece and the last piece is the short one.
    per_stream = math.ceil(num_targets / min(protocol.num_streams, num_targets))
    num_streams = math.ceil(num_targets / per_stream)
    warmup = min(protocol.warmup, per_stream) if num_streams > 1 else 0
    return replace(protocol, num_streams=num_streams, warmup=warmup)


@torch.no_grad()
def score(
    model: LanguageModel,
    ids: np.ndarray,
    protocol: EvaluationProtocol,
    *,
    tick: Tick | None = None,
    keep_nll: bool = False,
    ranks: Ranks | None = None,
    in_order: bool = False,
) -> Scored:
    """Score a split under a protocol.

    Args:
        model: put into evaluation mode, and back afterwards.
        ids: token ids, shape (N,).
        protocol: `exact`, `streams` or `official`.
        tick: called after each window.
        keep_nll: also return the loss of each target; not of `official`, which leaves out targets within the text.
        ranks: processes that share the streams and all call this; with fewer streams than processes, each scores all.
        in_order: read one stream from the beginning to the end, where pieces of it could be read side by side.

    Returns:
        Sums in nats over the targets and over blocks of them.

    Raises:
        ValueError: the split is too short for the protocol.
    """
    module = module_of(model)
    was_training = module.training
    protocol = _of_whole_blocks(model, protocol)
    # Dropout would make the loss of a text random.
    module.eval()
    try:
        if protocol.name == "official":
            return _trimmed_streams(model, ids, protocol, tick, ranks)
        if protocol.name == "exact" and not in_order:
            pieces = joined.cut(model, num_targets_of(ids), protocol.window)
            if pieces is not None:
                return _in_pieces(model, ids, protocol, pieces, tick, keep_nll)
        return _all_targets(model, ids, protocol, tick, keep_nll, ranks)
    finally:
        module.train(was_training)


def num_windows(model: LanguageModel, num_targets: int, protocol: EvaluationProtocol) -> int:
    """Forward passes of `score` under `exact` or `streams`, for a text of so many targets."""
    allowed = allowed_by(num_targets, _of_whole_blocks(model, protocol))
    per_stream = math.ceil(num_targets / allowed.num_streams)
    return math.ceil(allowed.warmup / allowed.window) + math.ceil(per_stream / allowed.window)


def measure(ids: np.ndarray, protocol: EvaluationProtocol, tokens: TextSizes | None) -> SplitText | None:
    """Size of the text of a split.

    Args:
        ids: of the split (N,).
        protocol: that it is scored under; it says which tokens are targets.
        tokens: the vocabulary's text; None if its tokens have no text.
    """
    if tokens is None:
        return None
    whole = tokens.size(ids)
    if protocol.name != "official":
        return SplitText(tokens.size(ids, 1), whole, tokens.num_added)
    rows = len(ids) // protocol.num_streams
    starts = range(0, rows * protocol.num_streams, rows)
    return SplitText(sum((tokens.size(ids, start + 1, start + rows) for start in starts), TextSize(0, 0, 0)), whole)


def to_score(
    scored: Scored,
    split: str,
    protocol: EvaluationProtocol,
    metrics: Sequence[str],
    seconds: float,
    text: SplitText | None = None,
) -> Score:
    """Compute metrics and standard errors.

    Args:
        scored: sums over the split.
        split: its name.
        protocol: as asked for; the score holds what the split's length allowed.
        metrics: names in `METRICS`.
        seconds: how long it took.
        text: size of the text; metrics that divide by it need it.
    """
    rate_error = rate_std_error(scored)
    tally = scored.tally
    if text is not None:
        tally = replace(tally.with_text(text.scored), num_dropped=tally.num_dropped - text.num_added)
    return Score(
        split=split,
        protocol=allowed_by(scored.tally.num_targets, protocol),
        tally=tally,
        metrics={name: METRICS[name].compute(tally) for name in metrics},
        std_errors={name: METRICS[name].std_error(tally, rate_error) for name in metrics},
        block_targets=scored.block_targets,
        block_nll_nats=scored.block_nll_nats,
        seconds=seconds,
        text=None if text is None else text.whole,
        pieces=scored.pieces,
    )


def score_splits(
    model: LanguageModel,
    splits: Mapping[str, np.ndarray],
    evaluation: Evaluation,
    metrics: Sequence[str],
    *,
    tokens: TextSizes | None = None,
    on_start: OnStart = ignore_start,
    keep: Keep | None = None,
    ranks: Ranks | None = None,
) -> list[Score]:
    """Score every split under every protocol of a suite.

    Args:
        model: the model to score.
        splits: ids (N,) by name.
        evaluation: protocols and splits, in order.
        metrics: names in `METRICS`.
        tokens: text of the vocabulary; None if its tokens have no text.
        on_start: called before each scoring.
        keep: stores the losses of the first protocol.
        ranks: as of `score`.

    Returns:
        One score for each pair, protocols outermost.
    """
    scores = []
    for name in evaluation.protocols:
        for split in evaluation.splits:
            protocol = protocol_for(name, split, evaluation)
            tick = on_start(split, name, len(splits[split]) - 1)
            started = time.perf_counter()
            kept = keep if name == evaluation.protocols[0] else None
            scored = score(model, splits[split], protocol, tick=tick, keep_nll=kept is not None, ranks=ranks)
            seconds = time.perf_counter() - started
            text = measure(splits[split], protocol, tokens)
            made = to_score(scored, split, protocol, metrics, seconds, text)
            if kept is not None and scored.target_nll is not None:
                made = replace(made, target_file=kept(split, scored.target_nll))
            scores.append(made)
    return scores


def num_targets_of(ids: np.ndarray) -> int:
    """N - 1. Raises ValueError if the split has no target."""
    if len(ids) < 2:
        raise ValueError(f"a split of {len(ids)} tokens has nothing to predict")
    return len(ids) - 1


def module_of(model: LanguageModel) -> torch.nn.Module:
    """The model as an nn.Module. Raises TypeError if it is another kind of object."""
    if not isinstance(model, torch.nn.Module):
        raise TypeError(f"a model must be an nn.Module, got {type(model).__name__}")
    return model


def device_of(model: LanguageModel) -> torch.device:
    """Device of the model's parameters and buffers; the CPU if it has none."""
    module = module_of(model)
    for tensor in (*module.parameters(), *module.buffers()):
        return tensor.device
    return torch.device("cpu")


class _Shares:
    """The streams of a protocol that this process scores: all of them unless there are enough for several."""

    def __init__(self, ranks: Ranks | None, num_streams: int) -> None:
        self.ranks = ranks if ranks is not None and num_streams >= ranks.size else None
        self.own = slice(0, num_streams) if self.ranks is None else self.ranks.streams(num_streams)

    def add_up(self, blocks: Blocks, total: float) -> float:
        """Fill the blocks with the sums of the other processes. Returns the total of all."""
        if self.ranks is None:
            return total
        totals = np.array([total])
        for values in (totals, blocks.sums, blocks.target_nll):
            if values is not None:
                self.ranks.add_up(values)
        return float(totals[0])


def _of_whole_blocks(model: LanguageModel, protocol: EvaluationProtocol) -> EvaluationProtocol:
    """A window that ends within a block of predictions would make a model without state read that block twice."""
    if (sliding := getattr(model, "sliding", None)) is None:
        return protocol
    return replace(protocol, window=math.ceil(protocol.window / sliding.stride) * sliding.stride)


def _all_targets(
    model: LanguageModel,
    ids: np.ndarray,
    protocol: EvaluationProtocol,
    tick: Tick | None,
    keep_nll: bool,
    ranks: Ranks | None,
) -> Scored:
    """`exact` and `streams`: N - 1 targets, each scored once; stream s scores targets 1 + s L ... (s + 1) L."""
    num_targets = num_targets_of(ids)
    allowed = allowed_by(num_targets, protocol)
    per_stream = math.ceil(num_targets / allowed.num_streams)
    shares = _Shares(ranks, allowed.num_streams)
    all_starts = np.arange(allowed.num_streams) * per_stream
    starts_B = all_starts[shares.own]
    blocks = Blocks(num_targets, keep_nll=keep_nll)
    total = 0.0
    state = _warm_state(model, ids, starts_B, allowed)
    for first in range(0, per_stream, protocol.window):
        length = min(protocol.window, per_stream - first)
        positions_TB = first + np.arange(length + 1)[:, None] + starts_B[None, :]
        # The last stream may be shorter: it repeats the last token there, and the results are not counted.
        tokens_TB = ids[np.minimum(positions_TB, num_targets)]
        nll_TB, state = _nll(model, tokens_TB, state)
        scored_TB = positions_TB[1:] <= num_targets
        for stream, start in enumerate(starts_B):
            column = nll_TB[scored_TB[:, stream], stream]
            if len(column):
                blocks.add(int(start) + first, column)
                # fsum: the total does not depend on the order within a window.
                total += math.fsum(column)
        if tick is not None:
            # Of all streams, so that progress is that of the split.
            tick(int(np.clip(num_targets - all_starts - first, 0, length).sum()))
    total = shares.add_up(blocks, total)
    return blocks.with_tally(Tally(total, num_targets, num_targets, len(ids) - num_targets))


def _in_pieces(
    model: LanguageModel,
    ids: np.ndarray,
    protocol: EvaluationProtocol,
    pieces: joined.Cut,
    tick: Tick | None,
    keep_nll: bool,
) -> Scored:
    """`exact`, with the sums in the order of one stream."""
    num_targets = num_targets_of(ids)
    blocks = Blocks(num_targets, keep_nll=keep_nll)
    warm = _warm_state(model, ids, pieces.starts, replace(protocol, warmup=pieces.warmup))
    read = functools.partial(_nll, model)
    losses, how = joined.InPieces(ids, pieces, warm, read, tick or (lambda _: None)).score()
    total = 0.0
    for first in range(0, num_targets, pieces.window):
        window = losses[first : first + pieces.window]
        blocks.add(first, window)
        total += math.fsum(window)
    scored = blocks.with_tally(Tally(total, num_targets, num_targets, len(ids) - num_targets))
    return replace(scored, pieces=how)


def _warm_state(model: LanguageModel, ids: np.ndarray, starts_B: np.ndarray, protocol: EvaluationProtocol) -> State:
    """State (.., B, ..) of every stream after its unscored warm-up."""
    state = model.initial_state(len(starts_B))
    if protocol.warmup == 0:
        return state
    for first in range(0, protocol.warmup, protocol.window):
        length = min(protocol.window, protocol.warmup - first)
        positions_TB = starts_B[None, :] - protocol.warmup + first + np.arange(length + 1)[:, None]
        _, state = _nll(model, ids[np.maximum(positions_TB, 0)], state)
    # No text precedes the first stream: it has read its first token repeatedly, and starts at zero instead.
    keep_B = torch.from_numpy(starts_B > 0).to(device_of(model))
    return reset_streams(state, keep_B)


def _trimmed_streams(
    model: LanguageModel, ids: np.ndarray, protocol: EvaluationProtocol, tick: Tick | None, ranks: Ranks | None
) -> Scored:
    """`official`: the split trimmed to equal columns; the sum is divided by all their tokens, targets or not."""
    num_streams = protocol.num_streams
    rows = len(ids) // num_streams
    if rows < 2:
        raise ValueError(f"a split of {len(ids)} tokens is too short for {num_streams} streams")
    shares = _Shares(ranks, num_streams)
    own_streams = range(num_streams)[shares.own]
    columns_TB = np.asarray(ids[: rows * num_streams]).reshape(num_streams, rows).T[:, shares.own]
    num_targets = (rows - 1) * num_streams
    blocks = Blocks(num_targets)
    state = model.initial_state(len(own_streams))
    total = 0.0
    for first in range(0, rows - 1, protocol.window):
        tokens_TB = columns_TB[first : min(first + protocol.window, rows - 1) + 1]
        nll_TB, state = _nll(model, tokens_TB, state)
        for column, stream in enumerate(own_streams):
            blocks.add(stream * (rows - 1) + first, nll_TB[:, column])
            total += math.fsum(nll_TB[:, column])
        if tick is not None:
            tick(len(nll_TB) * num_streams)
    total = shares.add_up(blocks, total)
    return blocks.with_tally(Tally(total, num_targets, rows * num_streams, len(ids) - num_targets))


def _nll(model: LanguageModel, tokens_TB: np.ndarray, state: State) -> tuple[np.ndarray, State]:
    """nll (T - 1, B) in float64 on the host, and the state after it."""
    tokens = torch.from_numpy(np.ascontiguousarray(tokens_TB).astype(np.int64))
    step = step_over(model, tokens, state, device_of(model))
    return step.nll_TB.double().cpu().numpy(), step.state
