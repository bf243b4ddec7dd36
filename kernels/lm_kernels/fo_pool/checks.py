"""Argument checks and dtypes shared by the fo_pool backends.

Letters: T time, B stream, H hidden, G = 3 H with an output gate, else 2 H.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


class Inputs(NamedTuple):
    """Arguments ready for a backend: keep_TBH expanded, masks detached.

    h_dtype: of the output h; c_dtype: of the last cell.
    """

    gates_TBG: Tensor
    c0_BH: Tensor
    keep_TBH: Tensor | None
    out_mask_BH: Tensor | None
    h_dtype: torch.dtype
    c_dtype: torch.dtype


def prepare(
    backend: str,
    gates_TBG: Tensor,
    c0_BH: Tensor,
    keep_TBH: Tensor | None,
    out_mask_BH: Tensor | None,
    *,
    output_gate: bool,
    device_type: str | None = None,
    widen: bool = True,
    stored: tuple[torch.dtype, ...] = (),
) -> Inputs:
    """Check the arguments and convert them to one dtype.

    Args:
        backend: its name, for messages.
        gates_TBG, c0_BH, keep_TBH, out_mask_BH, output_gate: as in `lm_kernels.fo_pool.reference.fo_pool`.
        device_type: the only device type that the backend supports; None for any.
        widen: convert to the promoted dtype of gates and c0, at least float32. False for a backend that converts
            while it reads.
        stored: gates of these dtypes remain as they are if the cell is carried in float32.

    Raises:
        ValueError: an argument does not fit; the message names it, its value and what is required.
    """
    _check_gates(gates_TBG, output_gate)
    num_steps, num_streams, num_gates = gates_TBG.shape
    shape_BH = (num_streams, num_gates // (2 + output_gate))
    _check_rows("c0_BH", c0_BH, shape_BH)
    if device_type is not None and gates_TBG.device.type != device_type:
        raise ValueError(f"fo_pool: gates_TBG must be on {device_type} for backend {backend}, got {gates_TBG.device}")
    h_dtype, c_dtype = result_dtypes(gates_TBG, c0_BH)
    if keep_TBH is not None:
        keep_TBH = _keep(keep_TBH, (num_steps, *shape_BH))
    if out_mask_BH is not None:
        _check_rows("out_mask_BH", out_mask_BH, shape_BH)
        out_mask_BH = out_mask_BH.detach()
    for name, value in (("c0_BH", c0_BH), ("keep_TBH", keep_TBH), ("out_mask_BH", out_mask_BH)):
        if value is not None and value.device != gates_TBG.device:
            raise ValueError(f"fo_pool: {name} must be on {gates_TBG.device} like gates_TBG, got {value.device}")
    if widen:
        dtype = torch.promote_types(c_dtype, torch.float32)
        if gates_TBG.dtype not in stored or dtype != torch.float32:
            gates_TBG = gates_TBG.to(dtype)
        c0_BH = c0_BH.to(dtype)
        keep_TBH = None if keep_TBH is None else keep_TBH.to(dtype)
        out_mask_BH = None if out_mask_BH is None else out_mask_BH.to(dtype)
    return Inputs(gates_TBG, c0_BH, keep_TBH, out_mask_BH, h_dtype, c_dtype)


def result_dtypes(gates_TBG: Tensor, c0_BH: Tensor) -> tuple[torch.dtype, torch.dtype]:
    """Dtypes of h and of the last cell. A cell that is carried on keeps its bits; h, which is read once, does not."""
    c_dtype = torch.promote_types(gates_TBG.dtype, c0_BH.dtype)
    return gates_TBG.dtype if gates_TBG.dtype.itemsize == 2 else c_dtype, c_dtype


def _check_tensor(name: str, value: object) -> None:
    if not isinstance(value, Tensor):
        raise ValueError(f"fo_pool: {name} must be a tensor, got {type(value).__name__}")
    if value.dtype not in DTYPES:
        raise ValueError(f"fo_pool: {name} must be float16, bfloat16, float32 or float64, got {value.dtype}")


def _check_rows(name: str, value: Tensor, shape_BH: tuple[int, int]) -> None:
    _check_tensor(name, value)
    if tuple(value.shape) != shape_BH:
        raise ValueError(f"fo_pool: {name} must have shape (B, H) = {shape_BH}, got {tuple(value.shape)}")


def _check_gates(gates_TBG: Tensor, output_gate: bool) -> None:
    _check_tensor("gates_TBG", gates_TBG)
    letters = "z, f and o" if output_gate else "z and f"
    if gates_TBG.dim() != 3 or gates_TBG.shape[2] % (2 + output_gate):
        shape = f"(T, B, {2 + output_gate} H), the preactivations {letters}"
        raise ValueError(f"fo_pool: gates_TBG must have shape {shape}, got {tuple(gates_TBG.shape)}")
    if gates_TBG.shape[0] == 0:
        raise ValueError(f"fo_pool: gates_TBG must hold at least one time step, got shape {tuple(gates_TBG.shape)}")


def _keep(keep_TBH: Tensor, shape_TBH: tuple[int, ...]) -> Tensor:
    """Detach and expand to one value per gate."""
    if not isinstance(keep_TBH, Tensor):
        raise ValueError(f"fo_pool: keep_TBH must be a tensor, got {type(keep_TBH).__name__}")
    if keep_TBH.is_complex():
        raise ValueError(f"fo_pool: keep_TBH must be real, got {keep_TBH.dtype}")
    given = tuple(keep_TBH.shape)
    padded = (1,) * (3 - len(given)) + given
    if len(given) > 3 or any(size not in (1, full) for size, full in zip(padded, shape_TBH, strict=True)):
        raise ValueError(f"fo_pool: keep_TBH must broadcast to (T, B, H) = {shape_TBH}, got {given}")
    return keep_TBH.detach().expand(shape_TBH)
