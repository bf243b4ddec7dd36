"""AWD-LSTM and QRNN: dropout, carried state, penalties, probabilities, autocast and kernels."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import lm_kernels
import lm_models
from lm_kernels.compiled import library
from lm_kernels.lstm import native, padded
from lm_models import dropout, recurrent
from lm_models.config import Dropout
from lm_models.recurrent import RecurrentModel
from lm_models.step import detach, reset_streams

BUILDERS = ["awd-lstm", "qrnn"]
VOCAB = 13
ALL = Dropout(embedding=0.1, input=0.2, hidden=0.2, output=0.2, weight=0.5)


def make(builder: str, **fields: Any) -> RecurrentModel:
    torch.manual_seed(0)
    sizes = {"layers": 2, "hidden": 7, "embedding": 5}
    kernel = fields.pop("kernel", "auto")
    config = lm_models.config_class(builder)(**{**sizes, **fields})
    model = lm_models.build(builder, config, vocab_size=VOCAB, kernel=kernel).double()
    assert isinstance(model, RecurrentModel)
    return model


def weight_name(builder: str) -> str:
    return "layers.0.weight_hh" if builder == "awd-lstm" else "layers.0.linear.weight"


def ids(steps: int, streams: int, seed: int = 1) -> torch.Tensor:
    return torch.randint(VOCAB, (steps, streams), generator=torch.Generator().manual_seed(seed))


def nll(model: RecurrentModel, x: torch.Tensor, seed: int | None = None) -> torch.Tensor:
    if seed is not None:
        model.generator = torch.Generator().manual_seed(seed)
    return model(x[:-1], x[1:], model.initial_state(x.shape[1])).nll_TB


@pytest.mark.parametrize("builder", BUILDERS)
@pytest.mark.parametrize("field", ["embedding", "input", "hidden", "output", "weight"])
def test_every_dropout_is_active_in_training_only(builder: str, field: str) -> None:
    model, plain = make(builder, dropout=Dropout(**{field: 0.5})), make(builder)
    x = ids(6, 3)
    first, again, other = (nll(model, x, seed) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.allclose(first, other)
    model.eval()
    before = model.generator.get_state()
    assert torch.equal(nll(model, x), nll(plain, x))
    assert torch.equal(model.generator.get_state(), before)


@pytest.mark.parametrize("builder", BUILDERS)
def test_masks_come_from_the_models_generator(builder: str) -> None:
    model, x = make(builder, dropout=ALL), ids(4, 2)
    torch.manual_seed(10)
    first = nll(model, x, 3)
    torch.manual_seed(11)
    assert torch.equal(first, nll(model, x, 3))
    model.generator = None
    torch.manual_seed(10)
    default = nll(model, x)
    torch.manual_seed(10)
    assert torch.equal(default, nll(model, x))


@pytest.mark.parametrize("builder", BUILDERS)
def test_weight_drop_trains_the_raw_weight(builder: str) -> None:
    """The gradient of a model with the dropped weight, scaled by the mask; zero for dropped entries."""
    p = 0.4
    model, fixed = make(builder, layers=1, dropout=Dropout(weight=p)), make(builder, layers=1)
    raw, x = model.get_parameter(weight_name(builder)), ids(6, 3)
    mask = dropout.weight(torch.ones_like(raw), p, training=True, generator=torch.Generator().manual_seed(7)).detach()
    with torch.no_grad():
        fixed.get_parameter(weight_name(builder)).copy_(raw * mask)
    loss = nll(model, x, 7)
    torch.testing.assert_close(loss, nll(fixed, x))
    loss.mean().backward()
    nll(fixed, x).mean().backward()
    fixed_gradient = fixed.get_parameter(weight_name(builder)).grad
    assert (raw.grad[mask == 0] == 0).all()
    assert 0 < (mask == 0).sum() < mask.numel()
    torch.testing.assert_close(raw.grad, fixed_gradient * mask)
    old = raw.detach().clone()
    torch.optim.SGD(model.parameters(), lr=1.0).step()
    torch.testing.assert_close(raw.detach(), old - raw.grad)


@pytest.mark.parametrize("builder", BUILDERS)
def test_locked_output_mask_is_constant_over_time(builder: str) -> None:
    """A unit dropped at every step has no gradient in its column of the softmax's weight."""
    model = make(builder, layers=1, tie=False, dropout=Dropout(output=0.5))
    x = ids(8, 1)
    nll(model, x, 4).sum().backward()
    used = (model.softmax.weight.grad != 0).any(dim=0)
    expected = torch.empty(1, 1, 7).bernoulli_(0.5, generator=torch.Generator().manual_seed(4))[0, 0] > 0
    assert torch.equal(used, expected)


@pytest.mark.parametrize("builder", BUILDERS)
def test_only_a_zeroed_stream_starts_again(builder: str) -> None:
    model, x = make(builder).eval(), ids(9, 3)
    state = model(x[:4], x[1:5], model.initial_state(3)).state
    carried = model(x[4:8], x[5:9], state).nll_TB
    reset = model(x[4:8], x[5:9], reset_streams(state, torch.tensor([True, False, True]))).nll_TB
    torch.testing.assert_close(reset[:, [0, 2]], carried[:, [0, 2]])
    fresh = model(x[4:8], x[5:9], model.initial_state(3)).nll_TB
    torch.testing.assert_close(reset[:, 1], fresh[:, 1])
    assert not torch.allclose(carried[:, 1], fresh[:, 1])


@pytest.mark.parametrize("builder", BUILDERS)
def test_penalties(builder: str) -> None:
    """AR reads the dropped output, TAR the raw one; both are 0 in evaluation, and TAR for one step."""
    x = ids(7, 3)
    raw, _ = make(builder, layers=1).features(x[:-1], make(builder, layers=1).initial_state(3))
    mask = torch.empty(1, 3, 5).double().bernoulli_(0.5, generator=torch.Generator().manual_seed(2)) / 0.5
    expected = 2.0 * ((raw * mask) ** 2).mean() + 3.0 * ((raw[1:] - raw[:-1]) ** 2).mean()
    model = make(builder, layers=1, ar=2.0, tar=3.0, dropout=Dropout(output=0.5))
    model.generator = torch.Generator().manual_seed(2)
    penalty = model(x[:-1], x[1:], model.initial_state(3)).penalty
    torch.testing.assert_close(penalty, expected)
    assert penalty.requires_grad
    one_step = model(x[:1], x[1:2], model.initial_state(3))
    assert one_step.penalty.isfinite()
    evaluated = model.eval()(x[:-1], x[1:], model.initial_state(3)).penalty
    assert evaluated.shape == ()
    assert evaluated.item() == 0
    assert make(builder, layers=1)(x[:-1], x[1:], model.initial_state(3)).penalty.item() == 0


@pytest.mark.parametrize("builder", BUILDERS)
@pytest.mark.parametrize("tie", [True, False])
def test_log_probs_sum_to_one_and_agree_with_nll(builder: str, tie: bool) -> None:
    """Features have no dropout and no graph, even from a model in training mode."""
    model, x = make(builder, dropout=ALL, tie=tie), ids(6, 3)
    h, state = model.features(x[:-1], model.initial_state(3))
    log_probs = model.log_probs(h.flatten(0, 1)).view(5, 3, VOCAB)
    assert not log_probs.requires_grad
    torch.testing.assert_close(log_probs.exp().sum(-1), torch.ones(5, 3, dtype=torch.float64))
    out = model.eval()(x[:-1], x[1:], model.initial_state(3))
    torch.testing.assert_close(-log_probs.gather(2, x[1:, :, None])[..., 0], out.nll_TB.detach())
    for a, b in zip(state, out.state, strict=True):
        torch.testing.assert_close(a, b)


def test_the_previous_input_is_carried_dropped_and_detached() -> None:
    model, x = make("qrnn", dropout=Dropout(input=0.5)), ids(6, 3)
    model.generator = torch.Generator().manual_seed(8)
    (cell, previous), *_ = model(x[:-1], x[1:], model.initial_state(3)).state
    mask = torch.empty(1, 3, 5).double().bernoulli_(0.5, generator=torch.Generator().manual_seed(8)) / 0.5
    torch.testing.assert_close(previous, (model.embedding[x[-2:-1]] * mask).detach())
    assert cell.requires_grad
    assert not previous.requires_grad


def test_zoneout_leaves_cells_unchanged_and_is_reproducible() -> None:
    model, x = make("qrnn", layers=1, zoneout=0.9), ids(2, 3)
    model.generator = torch.Generator().manual_seed(1)
    state = (tuple(torch.ones_like(part) for part in model.initial_state(3)[0]),)
    cell = model(x[:1], x[1:], state).state[0][0]
    held = torch.empty(1, 3, 5).double().bernoulli_(0.1, generator=torch.Generator().manual_seed(1)) == 0
    assert (cell[held] == 1).all()
    assert (cell[~held] != 1).all()


LOOKED_UP = {
    "lstm": ("awd-lstm", {"embedding": 17, "tie": False}, 0.0),
    "lstm, tied": ("awd-lstm", {"embedding": 13}, 0.0),
    "lstm, narrow": ("awd-lstm", {"embedding": 3}, 0.0),
    "qrnn": ("qrnn", {"tie": False}, 0.0),
    "qrnn, tied": ("qrnn", {"embedding": 17, "zoneout": 0.3}, 0.0),
    "qrnn of one step": ("qrnn", {"first_window": 1}, 0.0),
    "mingru": ("mingru", {}, 0.0),
    "lstm without words": ("awd-lstm", {"embedding": 17}, 0.4),
    "qrnn without words": ("qrnn", {"tie": False}, 0.4),
    "mingru without words": ("mingru", {}, 0.4),
}


def two_windows(model: RecurrentModel, sizes: tuple[int, int]) -> list[torch.Tensor]:
    """Losses, last state and gradients of two windows with a carried state."""
    steps, streams = sizes
    x, state = ids(2 * steps + 1, streams), model.initial_state(streams)
    model.generator = torch.Generator().manual_seed(4)
    results = []
    for window in (x[: steps + 1], x[steps:]):
        step = model(window[:-1], window[1:], state)
        state = detach(step.state)
        step.nll_TB.sum().backward()
        results.append(step.nll_TB.detach())
    return [*results, *(part for layer in state for part in layer), *(each.grad for each in model.parameters())]


@pytest.mark.parametrize("sizes", [(9, 3), (1, 26), (27, 1)], ids=str)
@pytest.mark.parametrize("case", LOOKED_UP)
def test_looked_up_products_are_those_of_embedded_inputs(
    case: str, sizes: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second model is kept from looking up."""
    builder, fields, words = LOOKED_UP[case]
    rates = Dropout(embedding=words, hidden=0.3, output=0.3, weight=0.3)
    calls = []
    monkeypatch.setattr(
        dropout, "words", lambda *args, f=dropout.words, **options: calls.append(1) or f(*args, **options)
    )
    looked_up = two_windows(make(builder, dropout=rates, **fields), sizes)
    assert len(calls) == 2
    monkeypatch.setattr(recurrent, "looks_up", lambda *_, **__: False)
    embedded = two_windows(make(builder, dropout=rates, **fields), sizes)
    assert len(calls) == 2
    for ours, theirs in zip(looked_up, embedded, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("builder", BUILDERS)
def test_looked_up_products_in_bfloat16_are_near_those_in_float32(
    builder: str, compiled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also without a compiled library."""
    if not compiled:
        monkeypatch.setattr(library, "unavailable", lambda device: "no compiler")
    exact = two_windows(make(builder, embedding=17).float(), (9, 3))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = two_windows(make(builder, embedding=17).float(), (9, 3))
    for ours, theirs in zip(rough, exact, strict=True):
        torch.testing.assert_close(ours.float(), theirs, rtol=0, atol=3e-2 * theirs.abs().max().item())


@pytest.mark.parametrize("builder", BUILDERS)
def test_products_are_looked_up_where_a_table_is_smaller_and_no_mask_differs_by_stream(
    builder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twice as many tokens as words are enough, one fewer are not; a single token of one stream never is."""
    calls = []
    monkeypatch.setattr(dropout, "words", lambda table, *_, **__: calls.append(1) or table)

    def looks_up(model: RecurrentModel, steps: int) -> bool:
        calls.clear()
        x = ids(steps + 1, 1)
        model(x[:-1], x[1:], model.initial_state(1))
        return bool(calls)

    masked = make(builder, dropout=Dropout(input=0.1))
    assert [looks_up(make(builder), steps) for steps in (1, 25, 26)] == [False, False, True]
    assert [looks_up(masked, 26), looks_up(masked.eval(), 26)] == [False, True]
    assert not looks_up(make(builder, cutoffs=(5,)), 26)


@pytest.mark.parametrize("builder", BUILDERS)
def test_bfloat16_autocast_trains_float32_weights(builder: str) -> None:
    model = make(builder, dropout=ALL).float()
    exact = nll(model, ids(6, 3), 1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = nll(model, ids(6, 3), 1)
    assert not torch.equal(rough, exact)
    torch.testing.assert_close(rough, exact, rtol=0.05, atol=0.05)
    rough.mean().backward()
    assert all(parameter.grad is not None and parameter.grad.dtype == torch.float32 for parameter in model.parameters())


@pytest.mark.skipif(native.unavailable("cpu") is not None, reason=str(native.unavailable("cpu")))
@pytest.mark.parametrize("has_bfloat16", [True, False])
def test_under_autocast_an_lstm_trains_on_the_bfloat16_kernel(
    has_bfloat16: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its gradients of the raw weights, dropped ones included, are near float32's; without the instructions torch's."""
    monkeypatch.setattr(library, "has_bfloat16", lambda: has_bfloat16)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    model = make("awd-lstm", dropout=ALL).float()
    gradients = []
    for enabled in (False, True):
        model.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            losses = nll(model, ids(9, 3), 1)
        losses.sum().backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
        name = "native" if enabled and has_bfloat16 else "fused"
        assert model.kernels["lstm"] == name
    for exact, rough in zip(*gradients, strict=True):
        assert rough.dtype == torch.float32
        torch.testing.assert_close(rough, exact, rtol=0, atol=5e-2 * exact.abs().max().item())


def test_a_model_names_the_kernels_it_runs() -> None:
    assert make("awd-lstm").kernels == {"lstm": "fused"}
    assert make("qrnn").kernels == {"fo_pool": lm_kernels.resolve("fo_pool")[0]}
    for kernel in ("reference", "auto"):
        dropped = make("awd-lstm", kernel=kernel, dropout=Dropout(weight=0.5))
        assert dropped.kernels["weight_drop"] == lm_kernels.resolve("weight_drop", kernel)[0]


def test_a_model_names_the_backend_of_each_layer_it_trained_with(monkeypatch: pytest.MonkeyPatch) -> None:
    """`auto` may depend on the call; here on windows of three streams and on wide inputs."""
    monkeypatch.setattr(padded, "worth", lambda x_TBI, *_: x_TBI.shape[1] == 3 and x_TBI.shape[2] == 7)
    model = make("awd-lstm")
    nll(model.eval(), ids(4, 3))
    assert model.kernels == {"lstm": "fused"}
    nll(model.train(), ids(4, 3))
    assert model.kernels == {"lstm": "fused, padded"}
    assert model.trained_by == ["fused", "padded"]
    nll(model.eval(), ids(4, 1))
    assert model.kernels == {"lstm": "fused, padded"}
    other = make("awd-lstm")
    other.trained_by = model.trained_by
    assert other.kernels == model.kernels


@pytest.mark.parametrize("builder", BUILDERS)
def test_output_dropout_in_the_last_layer_gives_the_same_bits_as_after_it(builder: str) -> None:
    """With TAR the mask is applied after the last layer instead of inside it."""
    inside, outside = (make(builder, dropout=ALL, tar=tar) for tar in (0.0, 1.0))
    assert torch.equal(nll(inside, ids(9, 3), 5), nll(outside, ids(9, 3), 5))


@pytest.mark.parametrize("window", [1, 2])
def test_autocast_keeps_outputs_narrow_and_cells_in_float32(window: int) -> None:
    """A layer's output is the next one's input without a cast; rounding of the carried cell would accumulate."""
    torch.manual_seed(0)
    config = lm_models.config_class("qrnn")(layers=3, hidden=16, embedding=12, first_window=window)
    model = lm_models.build("qrnn", config, vocab_size=VOCAB)
    seen: list[tuple[torch.dtype, torch.dtype]] = []
    for layer in model.layers:

        def run(x: torch.Tensor, *args: Any, original: Any = layer.run, **options: Any) -> Any:
            h, state = original(x, *args, **options)
            seen.append((x.dtype, h.dtype))
            assert {part.dtype for part in state} == {torch.float32}
            return h, state

        layer.run = run
    x, state = ids(9, 4), model.initial_state(4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        for part in (x[:5], x[4:]):
            state = detach(model(part[:-1], part[1:], state).state)
    assert [pair[1] for pair in seen] == [torch.bfloat16] * 6
    assert [pair[0] for pair in seen[1:3] + seen[4:6]] == [torch.bfloat16] * 4
