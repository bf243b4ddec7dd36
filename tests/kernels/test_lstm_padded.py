"""The padded LSTM: exact at any width, padded units stay 0, and when `auto` selects it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

import lm_kernels
from harness.timing.ops import disagreement, results
from lm_kernels.cases import LstmCase, inputs
from lm_kernels.lstm import fused, padded, reference


@settings(deadline=None, max_examples=15)
@given(
    steps=st.integers(1, 4),
    streams=st.integers(1, 5),
    num_inputs=st.sampled_from([1, 3, 127, 128, 130]),
    hidden=st.sampled_from([1, 5, 128, 129]),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_any_width_equals_the_reference(
    steps: int, streams: int, num_inputs: int, hidden: int, dtype: torch.dtype
) -> None:
    """Outputs, the carried state, and the gradient of every input and weight."""
    drawn = inputs(LstmCase(steps, streams, num_inputs, hidden), dtype)
    assert disagreement(results(padded.lstm, drawn), results(reference.lstm, drawn)) is None


def test_padded_units_stay_zero_and_every_gate_is_padded_at_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[Tensor, ...]] = []
    real = fused.lstm

    def spy(*arguments: Tensor) -> Any:
        outputs = real(*arguments)
        seen.extend([arguments, outputs])
        return outputs

    monkeypatch.setattr(fused, "lstm", spy)
    drawn = inputs(LstmCase(6, 3, 200, 130), torch.float64)
    drawn.call(padded.lstm)
    (x, h0, c0, w_ih, w_hh, b_ih, b_hh), (h_TBH, h, c) = seen
    assert [tuple(part.shape) for part in (x, h0, w_ih, w_hh, b_ih)] == [
        (6, 3, 256), (3, 256), (1024, 256), (1024, 256), (1024,),
    ]  # fmt: skip
    for part in (h0, c0, h_TBH, h, c):
        assert (part[..., 130:] == 0).all()
        assert (part[..., :130] != 0).all()
    raw = drawn.leaves
    for gate in range(4):
        rows, wide = slice(130 * gate, 130 * (gate + 1)), slice(256 * gate, 256 * gate + 130)
        assert torch.equal(w_ih[wide, :200], raw[3][rows])
        assert torch.equal(w_hh[wide, :130], raw[4][rows])
        assert torch.equal(b_ih[wide], raw[5][rows])
        assert torch.equal(b_hh[wide], raw[6][rows])
        for part in (w_ih, w_hh, b_ih, b_hh):
            assert (part[256 * gate + 130 : 256 * (gate + 1)] == 0).all()


def test_a_layer_of_the_right_widths_is_not_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Tensor] = []
    real = fused.lstm
    monkeypatch.setattr(fused, "lstm", lambda *arguments: (seen.extend(arguments), real(*arguments))[1])
    drawn = inputs(LstmCase(2, 1, 128, 128), torch.float32)
    drawn.call(padded.lstm)
    assert [part.data_ptr() for part in seen] == [leaf.data_ptr() for leaf in drawn.leaves]


PAYS = {"dtype": torch.float16, "streams": 128, "inputs": 200, "hidden": 1000}


@pytest.mark.parametrize(
    ("changes", "pays"),
    [
        ({}, True),
        ({"inputs": 1000}, True),
        ({"streams": 8}, True),
        ({"hidden": 1024}, True),  # only the inputs are padded
        ({"hidden": 1024, "inputs": 1024}, False),  # nothing to pad
        ({"dtype": torch.bfloat16}, False),
        ({"dtype": torch.float32}, False),
        ({"streams": 60}, False),
        ({"streams": 136}, False),
        ({"streams": 0}, False),
        ({"hidden": 1025}, False),
        ({"hidden": 1840, "inputs": 400}, False),
        ({"hidden": 130, "inputs": 130}, False),  # four times the work
    ],
)
def test_when_padding_pays(changes: dict[str, Any], pays: bool) -> None:
    options = {**PAYS, **changes}
    assert padded.pays(options.pop("dtype"), **options) is pays


@pytest.mark.parametrize(
    ("device", "dtype", "autocast", "name"),
    [
        ("cuda", torch.float16, None, "padded"),
        ("cuda", torch.float32, torch.float16, "padded"),
        ("cuda", torch.float32, torch.bfloat16, "fused"),
        ("cuda", torch.float32, None, "fused"),
        ("cuda", torch.float64, torch.float16, "fused"),
        ("cpu", torch.float16, None, "fused"),
    ],
)
def test_auto_decides_by_the_dtype_of_the_products(
    device: str, dtype: torch.dtype, autocast: torch.dtype | None, name: str
) -> None:
    with FakeTensorMode():
        x, h0 = torch.empty(150, 128, 200, device=device, dtype=dtype), torch.empty(128, 1000, device=device)
    if autocast is not None:
        torch.set_autocast_enabled("cuda", True)
        before = torch.get_autocast_dtype("cuda")
        torch.set_autocast_dtype("cuda", autocast)
    try:
        assert lm_kernels.resolve("lstm", "auto", device, (x, h0))[0] == name
    finally:
        if autocast is not None:
            torch.set_autocast_enabled("cuda", False)
            torch.set_autocast_dtype("cuda", before)
    assert lm_kernels.resolve("lstm", "auto", device)[0] == "fused"


def test_without_cudnn_padding_never_pays(monkeypatch: pytest.MonkeyPatch) -> None:
    with FakeTensorMode():
        x, h0 = (torch.empty(shape, device="cuda", dtype=torch.float16) for shape in ((9, 128, 200), (128, 1000)))
    assert padded.worth(x, h0)
    monkeypatch.setattr(torch.backends.cudnn, "enabled", False)
    assert not padded.worth(x, h0)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_device_in_half_precision_equals_the_reference() -> None:
    drawn = inputs(LstmCase(20, 8, 200, 1000), torch.float16, "cuda")
    name, function = lm_kernels.resolve("lstm", "auto", "cuda", (*drawn.leaves, *drawn.constants))
    assert name == "padded"
    expected = results(reference.lstm, drawn.widened())
    for key, actual in results(function, drawn).items():
        scale = expected[key].abs().max().item()
        torch.testing.assert_close(actual.cpu().double(), expected[key], atol=2e-2 * scale, rtol=0, msg=key)
