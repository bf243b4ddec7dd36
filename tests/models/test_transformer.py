"""The Transformer against attention written as loops over positions, and its memory against one pass."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import lm_models
from lm_models.config import ActivationDropout
from lm_models.step import StepOutput, detach, reset_streams
from lm_models.transformer.attention import Attention, angles, rotate
from lm_models.transformer.config import Config
from lm_models.transformer.model import Transformer, build

V = 11
SIZES: dict[str, Any] = {"layers": 2, "hidden": 12, "heads": 3, "feed_forward": 10}


def make(**fields: Any) -> Transformer:
    torch.manual_seed(0)
    model = build(Config(**{**SIZES, **fields}), vocab_size=V).double()
    with torch.no_grad():
        model.embedding.mul_(10)  # so that a prediction depends on every token it reads
        for name, parameter in model.named_parameters():
            if "norm" in name or name.endswith("bias"):
                parameter.normal_()
    return model


def ids(steps: int, streams: int = 2) -> Tensor:
    return torch.randint(V, (steps, streams), generator=torch.Generator().manual_seed(1))


def in_windows(model: Transformer, x: Tensor, lengths: list[int]) -> list[StepOutput]:
    """Outputs of consecutive windows with carried state, the last as long as the rest of the text."""
    state, first, outputs = model.initial_state(x.shape[1]), 0, []
    for last in [*np.cumsum(lengths).tolist(), len(x) - 1]:
        last = min(last, len(x) - 1)
        if last > first:
            outputs.append(model(x[first:last], x[first + 1 : last + 1], state))
            state, first = detach(outputs[-1].state), last
    return outputs


def nll(model: Transformer, x: Tensor, lengths: list[int]) -> Tensor:
    return torch.cat([step.nll_TB for step in in_windows(model, x, lengths)])


def norm(x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    return (x - x.mean()) / math.sqrt(x.var() + 1e-5) * weight + bias


def turn(x: np.ndarray, position: int) -> np.ndarray:
    """Multiply each pair, as a complex number, by a unit number whose angle grows with the position."""
    half = len(x) // 2
    pairs = x[:half] + 1j * x[half:]
    turned = pairs * np.exp(1j * position * 10_000.0 ** (-2 * np.arange(half) / len(x)))
    return np.concatenate([turned.real, turned.imag])


def oracle(model: Transformer, tokens: list[int], memory: int) -> np.ndarray:
    """Log-probabilities after each token of one stream: a loop over layers, positions and heads in numpy."""
    p = {name: value.detach().numpy() for name, value in model.named_parameters()}
    heads, width = model.config.heads, model.config.hidden
    size = width // heads
    x = [p["embedding"][token] for token in tokens]
    for layer in range(model.config.layers):
        q = {key.split(".", 2)[2]: value for key, value in p.items() if key.startswith(f"blocks.{layer}.")}
        normed = [norm(row, q["attention_norm.weight"], q["attention_norm.bias"]) for row in x]
        new = []
        for t, row in enumerate(x):
            mixed = np.zeros(width)
            for head in range(heads):
                part = slice(head * size, (head + 1) * size)
                values = slice(width + head * size, width + (head + 1) * size)
                query = turn(q["attention.query.weight"][part] @ normed[t], t)
                seen = range(max(0, t - memory), t + 1)
                scores = [query @ turn(q["attention.key_value.weight"][part] @ normed[s], s) for s in seen]
                weights = np.exp(np.array(scores) / math.sqrt(size))
                weights /= weights.sum()
                for weight, s in zip(weights, seen, strict=True):
                    mixed[part] += weight * (q["attention.key_value.weight"][values] @ normed[s])
            row = row + q["attention.out.weight"] @ mixed
            inner = q["widen.weight"] @ norm(row, q["feed_forward_norm.weight"], q["feed_forward_norm.bias"])
            inner = inner + q["widen.bias"]
            inner = inner * np.array([(1 + math.erf(each / math.sqrt(2))) / 2 for each in inner])
            new.append(row + q["narrow.weight"] @ inner + q["narrow.bias"])
        x = new
    logits = np.stack([p["embedding"] @ norm(row, p["norm.weight"], p["norm.bias"]) for row in x]) + p["softmax.bias"]
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))


@pytest.mark.parametrize("memory", [1, 3, 20])
def test_equals_loops_over_positions(memory: int) -> None:
    model, x = make(memory=memory).eval(), ids(13)
    nll_TB = nll(model, x, [5, 1])
    for stream in range(2):
        tokens = x[:, stream].tolist()
        log_probs = oracle(model, tokens[:-1], memory)
        expected = [-log_probs[t, token] for t, token in enumerate(tokens[1:])]
        np.testing.assert_allclose(nll_TB[:, stream].detach().numpy(), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("context", "stride"), [(1, None), (4, 1), (5, 3), (6, None)])
def test_without_memory_a_prediction_reads_just_its_context(context: int, stride: int | None) -> None:
    model, x = make(context=context, stride=stride).eval(), ids(15, 1)
    step = stride or max(1, context // 2)
    tokens, nll_TB = x[:, 0].tolist(), nll(model, x, [4, 7])
    for t, target in enumerate(tokens[1:]):
        begin = max(0, t - t % step - (context - step))
        expected = -oracle(model, tokens[begin : t + 1], context)[-1, target]
        assert nll_TB[t, 0].item() == pytest.approx(expected, rel=1e-10)


@settings(max_examples=25, deadline=None)
@given(st.sampled_from([{"memory": 1}, {"memory": 4}, {"memory": 40}, {"context": 5}]), st.lists(st.integers(1, 9)))
def test_windows_of_any_size_give_what_one_pass_gives(mode: dict[str, int], lengths: list[int]) -> None:
    model, x = make(**mode).eval(), ids(21)
    complete = model(x[:-1], x[1:], model.initial_state(2))
    outputs = in_windows(model, x, lengths)
    torch.testing.assert_close(torch.cat([step.nll_TB for step in outputs]), complete.nll_TB, rtol=0, atol=1e-10)
    torch.testing.assert_close(outputs[-1].state, complete.state, rtol=0, atol=1e-10)


def test_a_prediction_reads_the_memory_and_nothing_before_the_layers_reach() -> None:
    """Two layers of memory 3 reach 6 positions back: the change of a token moves the next 7 predictions at most."""
    model, x = make(memory=3).eval(), ids(20, 1)
    changed = x.clone()
    changed[5] = (changed[5] + 1) % V
    moved = (nll(model, x, [4, 4, 4]) - nll(model, changed, [4, 4, 4])).abs()[:, 0] > 1e-9
    # Target 4 is the changed token itself.
    assert moved.nonzero().flatten().tolist() == list(range(4, 12))


@pytest.mark.parametrize("shift", [1, 7, 4000])
def test_rotary_scores_depend_on_distance_only(shift: int) -> None:
    torch.manual_seed(0)
    query, key = torch.randn(2, 1, 1, 1, 8, dtype=torch.float64)
    turns = angles(5000, 8, query.device)

    def score(at: int, before: int) -> float:
        return (rotate(query, turns[at : at + 1]) * rotate(key, turns[before : before + 1])).sum().item()

    assert score(9 + shift, 4 + shift) == pytest.approx(score(9, 4), abs=1e-9)
    assert score(9, 3) != pytest.approx(score(9, 4), abs=1e-3)


def test_only_a_zeroed_stream_starts_again() -> None:
    model, x = make(memory=6).eval(), ids(9)
    state = model(x[:4], x[1:5], model.initial_state(2)).state
    reset = model(x[4:8], x[5:9], reset_streams(state, torch.tensor([True, False]))).nll_TB
    carried = model(x[4:8], x[5:9], state).nll_TB
    fresh = model(x[4:8], x[5:9], model.initial_state(2)).nll_TB
    torch.testing.assert_close(reset, torch.stack([carried[:, 0], fresh[:, 1]], dim=1), rtol=0, atol=1e-12)
    assert not torch.allclose(carried[:, 1], fresh[:, 1])


def test_gradients() -> None:
    model = make(hidden=4, heads=2, feed_forward=3, memory=3).train()
    x = ids(6)
    state = detach(model(x[:2], x[1:3], model.initial_state(2)).state)
    parameters = dict(model.named_parameters())

    def loss(*values: Tensor) -> Tensor:
        arguments = (x[2:-1], x[3:], state)
        return torch.func.functional_call(model, dict(zip(parameters, values, strict=True)), arguments).nll_TB

    assert torch.autograd.gradcheck(loss, tuple(parameters.values()))


def test_training_without_memory_reads_one_window_at_a_time() -> None:
    model, x = make(context=8).train(), ids(9)
    first = model(x[:8], x[1:], model.initial_state(2))
    assert torch.equal(model(x[:8], x[1:], first.state).nll_TB, first.nll_TB)


@pytest.mark.parametrize("field", ["embedding", "input", "hidden", "output"])
def test_every_dropout_is_active_in_training_only(field: str) -> None:
    x, plain = ids(6), make(memory=4)
    model = make(memory=4, dropout=ActivationDropout(**{field: 0.5}))

    def loss(seed: int) -> Tensor:
        model.generator = torch.Generator().manual_seed(seed)
        return nll(model, x, [])

    assert torch.equal(loss(1), loss(1))
    assert not torch.allclose(loss(1), loss(2))
    model.eval()
    assert torch.equal(loss(1), nll(plain, x, []))


@pytest.mark.parametrize("mode", [{"memory": 4}, {"context": 6}])
def test_an_adaptive_softmax_gives_distributions_and_the_same_loss(mode: dict[str, int]) -> None:
    model, x = make(**mode, cutoffs=(3, 6)).eval(), ids(9)
    h_TBH, _ = model.features(x[:-1], model.initial_state(2))
    log_probs_NV = model.log_probs(h_TBH.flatten(0, 1))
    torch.testing.assert_close(log_probs_NV.exp().sum(-1), torch.ones(16, dtype=torch.float64))
    expected = -log_probs_NV.gather(1, x[1:].flatten().unsqueeze(1))[:, 0]
    torch.testing.assert_close(nll(model, x, []).flatten(), expected)
    torch.testing.assert_close(model.nll(h_TBH.flatten(0, 1), x[1:].flatten()), expected)


def test_bfloat16_autocast_is_near_float32() -> None:
    model, x = make(memory=5).float(), ids(9)
    exact = nll(model, x, [4])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outputs = in_windows(model, x, [4])
    rough = torch.cat([step.nll_TB for step in outputs])
    assert not torch.equal(rough, exact)
    torch.testing.assert_close(rough, exact, rtol=0.1, atol=0.2)
    assert outputs[0].state[1].dtype == torch.float32


def test_attention_without_a_mask_is_causal() -> None:
    torch.manual_seed(0)
    attention = Attention(8, 2).double()
    x = torch.randn(5, 2, 8, dtype=torch.float64)
    causal = torch.ones(5, 5, dtype=torch.bool).tril().expand(2, 1, 5, 5)
    torch.testing.assert_close(attention(x, 5, None), attention(x, 5, causal), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("fields", "record"),
    [
        ({"memory": 7}, {"memory": 7, "context": 8, "stride": 1}),
        ({"context": 8}, {"context": 8, "stride": 4}),
        ({"context": 8, "stride": 2}, {"context": 8, "stride": 2}),
    ],
)
def test_says_how_much_a_target_sees(fields: dict[str, int], record: dict[str, int]) -> None:
    assert make(**fields).context_of_targets == record


@pytest.mark.parametrize("layers", [1, 8])
def test_what_a_block_adds_begins_smaller_by_the_root_of_the_number_of_sums(layers: int) -> None:
    """torch draws the weights of a linear map uniformly up to 1 / sqrt(inputs)."""
    torch.manual_seed(0)
    model = build(Config(layers=layers, hidden=64, heads=2, feed_forward=64, memory=4), vocab_size=5)
    for linear in (model.blocks[0].attention.out, model.blocks[0].narrow):
        assert linear.weight.abs().max().item() * math.sqrt(64 * 2 * layers) == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("cutoffs", [(), (3, 6)])
def test_formulas_agree_with_the_built_model(cutoffs: tuple[int, ...]) -> None:
    config = Config(**SIZES, memory=5, cutoffs=cutoffs)
    model = lm_models.build("transformer", config, vocab_size=V)
    assert sum(parameter.numel() for parameter in model.parameters()) == config.num_parameters(V)
    if not cutoffs:
        matrices = sum(p.numel() for p in model.parameters() if p.ndim == 2)  # the embedding is the softmax's
        assert config.forward_flops_per_token(V) == 2 * (matrices + 2 * 2 * 12 * 6)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "exactly one of memory and context must be given"),
        ({"memory": 4, "context": 4}, "exactly one of memory and context must be given"),
        ({"memory": 0}, "memory must be at least 1, got 0"),
        ({"context": -1}, "context must be at least 1, got -1"),
        ({"memory": 4, "stride": 2}, "stride needs a context of at least its size, got 2 and None"),
        ({"context": 4, "stride": 5}, "stride needs a context of at least its size, got 5 and 4"),
        ({"memory": 4, "heads": 4}, "hidden must be an even multiple of heads, 4, got 12"),
        ({"memory": 4, "layers": 0}, "layers must be at least 1, got 0"),
        ({"memory": 4, "feed_forward": 0}, "feed_forward must be at least 1, got 0"),
        ({"memory": 4, "cutoffs": (6, 3)}, "cutoffs must rise"),
    ],
)
def test_invalid_values_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Config(**{**SIZES, **fields})


def test_a_cutoff_beyond_the_vocabulary_is_refused() -> None:
    with pytest.raises(ValueError, match="below the vocabulary of 5 words"):
        Config(**SIZES, memory=4, cutoffs=(6,)).num_parameters(5)


def test_what_a_layer_adds_starts_smaller_the_more_layers_there_are() -> None:
    """PyTorch's uniform start, 1 / sqrt(3 inputs) wide, divided by the root of both terms of 8 layers."""
    torch.manual_seed(0)
    model = build(Config(layers=8, hidden=60, heads=3, feed_forward=90, memory=2), vocab_size=V)
    for name, weight in model.named_parameters():
        if name.endswith(("attention.out.weight", "narrow.weight")):
            assert weight.std().item() == pytest.approx(1 / math.sqrt(3 * weight.shape[1] * 16), rel=0.05)
