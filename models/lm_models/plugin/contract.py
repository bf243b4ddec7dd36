"""Test what the harness relies on before a model from outside is trained or scored.

Each test runs a copy of the model on a few random tokens and raises a ValueError that names the place and the
correction. The order matters: a test may rely on those before it. Letters: T time, B streams, V vocabulary.
"""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor

from lm_models.plugin.base import Model
from lm_models.step import State, detach

_STEPS, _STREAMS = 8, 3
# Rounding of sums over a vocabulary in float32; a wrong axis or a missing softmax is off by far more.
_SUM_TOLERANCE = 1e-3
# Kernels may take another path for another shape; a model that looks ahead moves by the size of its logits.
_TOLERANCE = 1e-4


def check(model: Model, *, vocab_size: int) -> None:
    """Run every test.

    Args:
        model: as built, on its device; neither it nor torch's generators are changed.
        vocab_size: V.

    Raises:
        ValueError: the first test that fails.
    """
    device = next((tensor.device for tensor in (*model.parameters(), *model.buffers())), torch.device("cpu"))
    steps = _STEPS if model.context is None else min(_STEPS, model.context)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(0)
        tokens_TB = torch.randint(vocab_size, (steps + 1, _STREAMS), device=device)
        copied = copy.deepcopy(model)
        with torch.no_grad():
            _check_scoring(copied.eval(), tokens_TB, vocab_size)
        _check_training(copied.train(), tokens_TB)


def _check_scoring(model: Model, tokens_TB: Tensor, vocab_size: int) -> None:
    inputs_TB, targets_TB = tokens_TB[:-1], tokens_TB[1:]
    log_probs_TBV = _check_output(model, inputs_TB, vocab_size)
    _check_deterministic(model, inputs_TB, log_probs_TBV)
    _check_no_look_ahead(model, inputs_TB, log_probs_TBV, vocab_size)
    _check_streams(model, inputs_TB, log_probs_TBV)
    if model.context is None:
        _check_state(model, inputs_TB, log_probs_TBV)
    _check_nll(model, inputs_TB, targets_TB, log_probs_TBV)


def _start(model: Model, batch: int) -> State:
    return () if model.context is not None else model.initial_state(batch)


def _run(model: Model, inputs_TB: Tensor) -> Tensor:
    log_probs_TBV: Tensor = model(inputs_TB, _start(model, inputs_TB.shape[1]))[0]
    return log_probs_TBV


def _check_output(model: Model, inputs_TB: Tensor, vocab_size: int) -> Tensor:
    """The shape, finite values, and distributions."""
    try:
        output = model(inputs_TB, _start(model, inputs_TB.shape[1]))
    except Exception as error:
        raise ValueError(f"forward fails on tokens (T, B) {tuple(inputs_TB.shape)}: {_line(error)}") from None
    if not (isinstance(output, tuple) and len(output) == 2 and isinstance(output[0], Tensor)):
        raise ValueError("forward must return a tuple of log-probabilities (T, B, V) and the state")
    log_probs_TBV, expected = output[0], (*inputs_TB.shape, vocab_size)
    if tuple(log_probs_TBV.shape) != expected:
        raise ValueError(f"log-probabilities must have shape (T, B, V) {expected}, got {tuple(log_probs_TBV.shape)}")
    bad = log_probs_TBV.isnan() | (log_probs_TBV == math.inf)
    if bad.any():
        step, stream, token = bad.nonzero()[0].tolist()
        value = log_probs_TBV[step, stream, token].item()
        raise ValueError(
            f"the log-probability of token {token} at step {step}, stream {stream} is {value}: return numbers, or -inf"
        )
    sums_TB = log_probs_TBV.double().exp().sum(-1)
    worst = (sums_TB - 1).abs().max().item()
    if worst > _SUM_TOLERANCE:
        others = [axis for axis in (0, 1) if (log_probs_TBV.double().exp().sum(axis) - 1).abs().max() < _SUM_TOLERANCE]
        where = f"; they do over axis {others[0]}, so the softmax is over the wrong one" if others else ""
        if (log_probs_TBV.double().exp2().sum(-1) - 1).abs().max() < _SUM_TOLERANCE:
            where = "; they do as powers of 2, so the log-probabilities are in bits"
        raise ValueError(
            f"probabilities must sum to 1 over the vocabulary, they sum to {sums_TB.flatten()[0].item():.4g}{where}: "
            "return torch.log_softmax(logits, dim=-1)"
        )
    return log_probs_TBV


def _check_deterministic(model: Model, inputs_TB: Tensor, log_probs_TBV: Tensor) -> None:
    """The same text twice, with torch's generator at the same place and at another."""
    for seed, reason in (
        (
            0,
            "two passes over the same text differ: the model is not deterministic, or keeps a state in itself, which "
            "it should return instead",
        ),
        (1, "the output in evaluation depends on random numbers: dropout is on; use self.training or nn.Dropout"),
    ):
        torch.manual_seed(0)
        first = _run(model, inputs_TB)
        torch.manual_seed(seed)
        if not torch.equal(first, _run(model, inputs_TB)):
            raise ValueError(reason)
    # A model may count its own calls: the first pass of all must agree as well.
    if not torch.equal(log_probs_TBV, _run(model, inputs_TB)):
        raise ValueError("a later pass over the same text differs from the first: the model keeps a state of its own")


def _check_no_look_ahead(model: Model, inputs_TB: Tensor, log_probs_TBV: Tensor, vocab_size: int) -> None:
    """Change one token after another: nothing before it may move."""
    for step in range(1, len(inputs_TB)):
        changed_TB = inputs_TB.clone()
        changed_TB[step] = (changed_TB[step] + 1) % vocab_size
        moved_T = ~_same_steps(_run(model, changed_TB)[:step], log_probs_TBV[:step])
        if moved_T.any():
            first = int(moved_T.nonzero()[0])
            raise ValueError(
                f"the prediction after step {first} changes with the token of step {step}: the model looks ahead by "
                f"{step - first}; mask what comes later"
            )


def _check_streams(model: Model, inputs_TB: Tensor, log_probs_TBV: Tensor) -> None:
    """Each stream alone must give what it gives among others."""
    for stream in range(inputs_TB.shape[1]):
        alone = _run(model, inputs_TB[:, stream : stream + 1])[:, 0]
        if not torch.allclose(alone, log_probs_TBV[:, stream], rtol=_TOLERANCE, atol=_TOLERANCE):
            raise ValueError(
                f"stream {stream} alone gives another output than in a batch of {inputs_TB.shape[1]}: the output "
                "depends on the other streams (batch normalisation, or axes exchanged: tokens are (T, B))"
            )


def _check_state(model: Model, inputs_TB: Tensor, log_probs_TBV: Tensor) -> None:
    """Two windows with the state carried between them must give what one window gives."""
    state = model.initial_state(inputs_TB.shape[1])
    for part in _tensors(state):
        if part.dim() < 2 or part.shape[-2] != inputs_TB.shape[1]:
            raise ValueError(
                f"a state must have shape (..., B, X) with the streams second last, got {tuple(part.shape)} for "
                f"{inputs_TB.shape[1]} streams"
            )
    cut = len(inputs_TB) // 2
    first, state = model(inputs_TB[:cut], state)
    second, _ = model(inputs_TB[cut:], state)
    if not torch.allclose(torch.cat([first, second]), log_probs_TBV, rtol=_TOLERANCE, atol=_TOLERANCE):
        raise ValueError(
            "two windows with the state carried between them give another output than one: return the state after the "
            "last token, or set `context` if the model has none"
        )


def _check_nll(model: Model, inputs_TB: Tensor, targets_TB: Tensor, log_probs_TBV: Tensor) -> None:
    """The loss of each target against the probabilities."""
    nll_TB, _ = model.nll(inputs_TB, targets_TB, _start(model, inputs_TB.shape[1]))
    if tuple(nll_TB.shape) != tuple(targets_TB.shape):
        raise ValueError(
            f"nll must return one loss per target, shape (T, B) {tuple(targets_TB.shape)}, got {tuple(nll_TB.shape)}: "
            "do not reduce it"
        )

    def equals(expected_TB: Tensor) -> bool:
        return torch.allclose(nll_TB, expected_TB, rtol=_TOLERANCE, atol=_TOLERANCE)

    expected_TB = _nll_of(log_probs_TBV, targets_TB)
    if equals(expected_TB):
        return
    if equals(expected_TB / math.log(2)):
        raise ValueError("nll is in bits: return nats, the natural logarithm")
    if equals(_nll_of(log_probs_TBV, inputs_TB)):
        raise ValueError("nll scores the input itself: the targets are off by one; they are given as targets_TB")
    worst = int((nll_TB - expected_TB).abs().argmax())
    got, wanted = nll_TB.flatten()[worst].item(), expected_TB.flatten()[worst].item()
    raise ValueError(f"nll is not -log p of forward: {got:.5g} for a target of {wanted:.5g} nats")


def _check_training(model: Model, tokens_TB: Tensor) -> None:
    """Two windows, each with a backward pass."""
    if not any(parameter.requires_grad for parameter in model.parameters()):
        return
    state = _start(model, tokens_TB.shape[1])
    for window in range(2):
        nll_TB, state = model.nll(tokens_TB[:-1], tokens_TB[1:], detach(state))
        try:
            nll_TB.mean().backward()
        except RuntimeError as error:
            if window and "second time" in str(error):
                raise ValueError(
                    "the second window reaches into the graph of the first: the model keeps a state in itself that is "
                    "not detached; return it as the state instead"
                ) from None
            raise ValueError(f"the backward pass fails: {_line(error)}") from None
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    if not gradients:
        raise ValueError("no parameter gets a gradient from the loss")
    if not all(gradient.isfinite().all() for gradient in gradients):
        raise ValueError("a gradient of the first windows is not finite")


def _same_steps(one_TBV: Tensor, other_TBV: Tensor) -> Tensor:
    """Whether two outputs agree, by step (T,)."""
    return torch.isclose(one_TBV, other_TBV, rtol=_TOLERANCE, atol=_TOLERANCE).flatten(1).all(1)


def _nll_of(log_probs_TBV: Tensor, targets_TB: Tensor) -> Tensor:
    return -log_probs_TBV.gather(-1, targets_TB.unsqueeze(-1)).squeeze(-1)


def _tensors(state: State) -> list[Tensor]:
    return [state] if isinstance(state, Tensor) else [tensor for part in state for tensor in _tensors(part)]


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]
