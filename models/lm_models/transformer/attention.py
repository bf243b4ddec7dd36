"""Attention with rotary positions. Su et al. 2021, arXiv:2104.09864.

Letters: T time, S keys, B stream, H width, N heads, D width of a head.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

# Wavelengths rise geometrically from 2 pi to 2 pi times this number.
_BASE = 10_000.0


class Attention(nn.Module):
    """Causal attention of the last T of S positions to all of them.

    Args:
        width: H.
        heads: N.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width, bias=False)
        self.key_value = nn.Linear(width, 2 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)

    def forward(self, x_SBH: Tensor, num_queries: int, allowed_B1TS: Tensor | None) -> Tensor:
        """Mix positions.

        Args:
            x_SBH: the positions.
            num_queries: T.
            allowed_B1TS: whether a query may see a key; None for each key up to the query, which needs T = S.

        Returns:
            y_TBH.
        """
        steps, streams, width = x_SBH.shape
        split = (-1, streams, self.heads, width // self.heads)
        turns_SD = angles(steps, split[-1], x_SBH.device)
        keys_SBH, values_SBH = self.key_value(x_SBH).chunk(2, dim=-1)
        queries_TBND = rotate(self.query(x_SBH[-num_queries:]).view(split), turns_SD[-num_queries:])
        keys_SBND = rotate(keys_SBH.view(split), turns_SD)
        mixed_BNTD = functional.scaled_dot_product_attention(
            queries_TBND.permute(1, 2, 0, 3),
            keys_SBND.permute(1, 2, 0, 3),
            values_SBH.view(split).permute(1, 2, 0, 3),
            attn_mask=allowed_B1TS,
            is_causal=allowed_B1TS is None,
        )
        y_TBH: Tensor = self.out(mixed_BNTD.permute(2, 0, 1, 3).reshape(num_queries, streams, width))
        return y_TBH


def angles(steps: int, width: int, device: torch.device) -> Tensor:
    """Angle of each pair of values at positions 0 to S - 1, (S, D / 2), float64."""
    # Float64: in float32 an angle of a thousand radians has an error of 6e-5.
    pair_D = torch.arange(width // 2, dtype=torch.float64, device=device)
    frequency_D = _BASE ** (-2 * pair_D / width)
    return torch.arange(steps, dtype=torch.float64, device=device).unsqueeze(1) * frequency_D


def rotate(x_SBND: Tensor, angles_SD: Tensor) -> Tensor:
    """Turn each pair of values, one from either half of D, by the angle of its position.

    The product of a turned query and a turned key depends on their distance only, so positions may count from anywhere.
    """
    # At least float32, since a rounded sine would move the product of near positions.
    dtype = torch.promote_types(x_SBND.dtype, torch.float32)
    cos_S11D, sin_S11D = (part.to(dtype)[:, None, None] for part in (angles_SD.cos(), angles_SD.sin()))
    one, other = x_SBND.to(dtype).chunk(2, dim=-1)
    turned = torch.cat([one * cos_S11D - other * sin_S11D, other * cos_S11D + one * sin_S11D], dim=-1)
    return turned.to(x_SBND.dtype)
