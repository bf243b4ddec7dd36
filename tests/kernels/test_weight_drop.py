"""Every weight_drop backend: one mask, its statistics, its gradient, and refusals."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_support import LEVELS, backend, draw, needs_library, on_threads
from torch import Tensor

import lm_kernels
from lm_kernels.compiled import library
from lm_kernels.weight_drop import checks, native
from lm_kernels.weight_drop.reference import philox, words
from lm_kernels.weight_drop.reference import weight_drop as reference

BACKENDS = list(lm_kernels.KERNELS["weight_drop"])
FAST = [name for name in BACKENDS if name != "reference"]
DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]


def seeded(seed: int) -> Tensor:
    return torch.tensor(seed, dtype=torch.int64)


def assert_same_bits(actual: Tensor, expected: Tensor, dtype: torch.dtype) -> None:
    """In bfloat16 only the same mask: triton's interpreter truncates where the compiler rounds."""
    if dtype == torch.bfloat16:
        assert torch.equal(actual == 0, expected == 0)
        torch.testing.assert_close(actual, expected, atol=0, rtol=2**-7)
    else:
        assert torch.equal(actual, expected)


def python_words(elements: Iterable[int], seed: int) -> list[int]:
    """The generator and its layout in Python integers, written after the paper's description."""
    low, drawn = 2**32 - 1, []
    for element in elements:
        group, place = divmod(element, 128)
        word, lane = divmod(place, 32)
        counter = 32 * group + lane
        x, key = [counter & low, counter >> 32, 0, 0], [seed & low, (seed >> 32) & low]
        for _ in range(10):
            first, second = x[0] * 0xD2511F53, x[2] * 0xCD9E8D57
            x = [(second >> 32) ^ x[1] ^ key[0], second & low, (first >> 32) ^ x[3] ^ key[1], first & low]
            key = [(key[0] + 0x9E3779B9) & low, (key[1] + 0xBB67AE85) & low]
        drawn.append(x[word])
    return drawn


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        ([0] * 4, [0] * 2, [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
        ([0xFFFFFFFF] * 4, [0xFFFFFFFF] * 2, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
        (
            [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
            [0xA4093822, 0x299F31D0],
            [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
        ),
    ],
)
def test_philox_gives_the_known_answers_of_its_authors(counter: list[int], key: list[int], expected: list[int]) -> None:
    """From kat_vectors in Random123, the authors' code."""
    assert philox([torch.tensor(each) for each in counter], [torch.tensor(each) for each in key]) == expected


@pytest.mark.parametrize("seed", [0, 1, -1, 2**62 + 12345, -(2**63), 2**63 - 1])
def test_words_are_philox_of_seed_and_position(seed: int) -> None:
    assert words(300, seeded(seed)).tolist() == python_words(range(300), seed)


@pytest.mark.parametrize("name", FAST)
@settings(deadline=None, max_examples=25)
@given(data=st.data())
def test_every_backend_equals_the_reference_bit_for_bit(name: str, data: st.DataObject) -> None:
    function = backend("weight_drop", name)
    shape = data.draw(st.lists(st.sampled_from([0, 1, 3, 31, 32, 127, 128, 129, 515]), max_size=2).map(tuple))
    dtype = data.draw(st.sampled_from(DTYPES))
    p = data.draw(st.sampled_from([0, 0.0, 1e-9, 0.1, 1 / 3, 0.5, 0.9, 1 - 1e-12]))
    seed = seeded(data.draw(st.integers(-(2**63), 2**63 - 1)))
    raw = (3 * draw(*shape)).to(dtype)
    layout = data.draw(st.sampled_from(["dense", "transposed", "strided", "expanded"]))
    if layout == "transposed":
        raw = raw.mT.contiguous().mT if raw.dim() == 2 else raw
    elif layout == "strided":
        raw = torch.stack([raw, raw], dim=-1)[..., 1]
    elif layout == "expanded" and raw.numel():
        raw = raw.flatten()[0].expand(raw.shape)
    dropped = function(raw, p, seed)
    assert dropped.is_contiguous()
    assert (dropped.shape, dropped.dtype) == (raw.shape, raw.dtype)
    assert_same_bits(dropped, reference(raw, p, seed), dtype)


@pytest.mark.parametrize("name", FAST)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_gradient_is_dropped_by_the_same_mask(name: str, dtype: torch.dtype) -> None:
    function, seed = backend("weight_drop", name), seeded(77)
    for gradient in (draw(9, 40, seed=1).to(dtype), torch.full((1, 1), 0.3, dtype=dtype).expand(9, 40)):
        gradients = []
        for each in (function, reference):
            raw = draw(9, 40).to(dtype).requires_grad_()
            each(raw, 0.4, seed).backward(gradient)
            gradients.append(raw.grad)
        assert_same_bits(*gradients, dtype)
        assert 0 < (gradients[0] == 0).sum() < gradients[0].numel()


@pytest.mark.parametrize("name", BACKENDS)
def test_differentiable_twice(name: str) -> None:
    function, raw = backend("weight_drop", name), draw(3, 4).requires_grad_()
    assert torch.autograd.gradcheck(lambda raw: function(raw, 0.3, seeded(5)), raw)
    assert torch.autograd.gradgradcheck(lambda raw: function(raw, 0.3, seeded(5)).square(), raw)


@pytest.mark.parametrize("name", BACKENDS)
def test_the_input_is_unchanged_and_dropped_elements_are_zero_even_if_not_finite(name: str) -> None:
    raw = torch.tensor([float("nan"), float("inf"), -1.0]).repeat(100)
    before = raw.clone()
    result = backend("weight_drop", name)(raw, 0.5, seeded(3))
    torch.testing.assert_close(raw, before, atol=0, rtol=0, equal_nan=True)
    dropped = words(300, seeded(3)) < 2**31
    assert (result[dropped] == 0).all()
    assert result[~dropped].isnan().equal(before[~dropped].isnan())
    assert (result[~dropped & (before == -1)] == -2).all()


def test_the_bound_is_p_to_a_half_of_two_to_the_minus_32_and_never_drops_all() -> None:
    assert [checks.drop_below(p) for p in (0, 0.5, 0.75)] == [0, 2**31, 3 * 2**30]
    assert abs(checks.drop_below(1 / 3) / 2**32 - 1 / 3) <= 2**-33
    assert checks.drop_below(1 - 2**-53) == 2**32 - 1


@pytest.mark.parametrize("p", [0.5, 0.1, 1 / 3, 0.003, 0.97])
def test_the_share_dropped_is_p_and_the_mean_stays(p: float) -> None:
    """Most rates are not multiples of 1/256, so that a mask made from bytes would fail."""
    number = 4_000_000
    _, function = lm_kernels.resolve("weight_drop")
    dropped = function(torch.ones(number), p, seeded(2024))
    deviation = (p * (1 - p) / number) ** 0.5
    assert abs((dropped == 0).double().mean().item() - p) < 4.5 * deviation
    assert abs(dropped.double().mean().item() - 1) < 4.5 * deviation / (1 - p)
    assert torch.equal(dropped.unique(), torch.tensor([0, 1 / (1 - p)]))


RAW, SEED = torch.zeros(2, 3), torch.tensor(1)
BAD = {
    "a list": (([0.0], 0.5, SEED), "raw must be a tensor, got list"),
    "integers": ((RAW.long(), 0.5, SEED), r"raw must be float16, bfloat16, float32 or float64, got torch\.int64"),
    "p of one": ((RAW, 1.0, SEED), r"p must be a number in \[0, 1\), got 1\.0"),
    "p below": ((RAW, -0.1, SEED), r"p must be a number in \[0, 1\), got -0\.1"),
    "p nan": ((RAW, float("nan"), SEED), r"p must be a number in \[0, 1\), got nan"),
    "p true": ((RAW, True, SEED), r"p must be a number in \[0, 1\), got True"),
    "a number": ((RAW, 0.5, 7), "seed must be a tensor of one int64 and no dimensions, got int"),
    "seed dtype": ((RAW, 0.5, SEED.int()), r"no dimensions, got torch\.int32 \(\)"),
    "seed shape": ((RAW, 0.5, SEED.view(1)), r"no dimensions, got torch\.int64 \(1,\)"),
    "device": ((RAW, 0.5, SEED.to("meta")), "seed must be on cpu like raw, got meta"),
}


@pytest.mark.parametrize("argument", list(BAD))
@pytest.mark.parametrize("name", BACKENDS)
def test_a_bad_argument_is_named(name: str, argument: str) -> None:
    arguments, message = BAD[argument]
    with pytest.raises(ValueError, match=f"^weight_drop: .*{message}"):
        backend("weight_drop", name)(*arguments)


@needs_library
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_instruction_set_gives_the_same_bits(
    level: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(library, "num_levels", lambda: level)
    raw = draw(5000, dtype=dtype)
    assert torch.equal(native.weight_drop(raw, 0.3, seeded(-8)), reference(raw, 0.3, seeded(-8)))


@needs_library
@pytest.mark.parametrize("team", ["torch", "own"])
def test_bits_do_not_depend_on_threads(team: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "_MIN_ELEMENTS_PER_THREAD", 1)
    raw = draw(70_001, dtype=torch.float32)
    [first], *others = on_threads(lambda: [native.weight_drop(raw, 0.5, seeded(1))], monkeypatch, team)
    assert all(torch.equal(first, other) for [other] in others)


@needs_library
def test_opcheck() -> None:
    operator = torch.ops.weight_drop.native.default
    torch.library.opcheck(operator, (draw(5, 7).requires_grad_(), seeded(3), 0.5))
    torch.library.opcheck(operator, (draw(7, 5).T, seeded(3), 0.0), test_utils=("test_schema", "test_faketensor"))


@needs_library
def test_compiles_as_one_graph_with_a_seed_that_changes_between_calls() -> None:
    def loss(raw: Tensor, seed: Tensor) -> Tensor:
        return native.weight_drop(raw, 0.5, seed).square().sum()

    compiled, raw = torch.compile(loss, fullgraph=True, backend="aot_eager"), draw(6, 50).requires_grad_()
    for seed in (seeded(1), seeded(2)):
        (expected,) = torch.autograd.grad(loss(raw, seed), raw)
        (gradient,) = torch.autograd.grad(compiled(raw, seed), raw)
        torch.testing.assert_close(gradient, expected)


@needs_library
def test_no_mask_is_saved_for_the_gradient() -> None:
    saved: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda value: saved.append(value) or value, lambda value: value):
        native.weight_drop(draw(64, 64).requires_grad_(), 0.5, seeded(1))
    assert [value.numel() for value in saved] == [1]


def test_runs_on_the_cpu_only() -> None:
    assert native.unavailable("cuda") == "it runs on the cpu, not on cuda"
    with pytest.raises(ValueError, match="raw must be on cpu for backend native, got meta"):
        native.weight_drop(RAW.to("meta"), 0.5, SEED.to("meta"))
