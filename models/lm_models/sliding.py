"""Score a model without state: a window of `context` tokens that slides over the text by `stride`.

The harness sends windows of any length; the state holds the tokens that the next predictions need. Blocks of `stride`
predictions begin at multiples of `stride` from the start of a stream, so a prediction at position p sees
min(p + 1, context - stride + p % stride + 1) tokens, and the harness's window changes no number.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from lm_models.step import State

# Maps tokens (T, B) and, for a loss, targets (T, B) to one result per token, (T, B) or (T, B, X).
Pass = Callable[[Tensor, Tensor | None], Tensor]


@dataclass(frozen=True, slots=True)
class Sliding:
    """The window. context: most tokens that one prediction sees. stride: predictions of a forward pass that count."""

    context: int
    stride: int

    def initial_state(self, batch: int, device: torch.device) -> State:
        """No tokens yet: ids plus one (1, B, context - 1), and their number (1, B, 1)."""
        seen = torch.zeros(1, batch, self.context - 1, dtype=torch.long, device=device)
        return seen, torch.zeros(1, batch, 1, dtype=torch.long, device=device)

    def run(self, forward: Pass, inputs_TB: Tensor, targets_TB: Tensor | None, state: State) -> tuple[Tensor, State]:
        """Read one window of the harness.

        Args:
            forward: a forward pass of the model over at most `context` tokens.
            inputs_TB: tokens.
            targets_TB: the token after each input, if `forward` needs them.
            state: before the window.

        Returns:
            Results (T, B, ...) and the state after the window.
        """
        seen_1BC, count_1B1 = cast(tuple[Tensor, Tensor], state)
        counts = count_1B1[0, :, 0].tolist()
        parts: dict[int, Tensor] = {}
        # A pass needs streams with an equal number of tokens.
        for count in set(counts):
            columns = [column for column, other in enumerate(counts) if other == count]
            result = self._blocks(
                forward,
                seen_1BC[0, columns].T,
                inputs_TB[:, columns],
                None if targets_TB is None else targets_TB[:, columns],
                count,
            )
            parts |= dict(zip(columns, result.unbind(1), strict=True))
        results_TB = torch.stack([parts[column] for column in range(len(counts))], dim=1)
        seen_1BC = torch.cat([seen_1BC, inputs_TB.T.unsqueeze(0) + 1], dim=-1)[..., inputs_TB.shape[0] :]
        return results_TB, (seen_1BC, count_1B1 + inputs_TB.shape[0])

    def _blocks(
        self, forward: Pass, seen_CB: Tensor, inputs_TB: Tensor, targets_TB: Tensor | None, count: int
    ) -> Tensor:
        """Results of the inputs at positions `count` and on, a forward pass per block of `stride`."""
        history, stride = seen_CB.shape[0], self.stride
        tokens_TB = torch.cat([seen_CB - 1, inputs_TB])
        results = []
        first, end = count, count + inputs_TB.shape[0]
        while first < end:
            block = first - first % stride
            last = min(block + stride, end)
            begin = max(0, block - (self.context - stride))
            # Position p of the stream is row p - count + history.
            rows = tokens_TB[begin - count + history : last - count + history]
            targets = None
            if targets_TB is not None:
                # The rows before the block have known targets too; their losses were counted before.
                targets = torch.cat([rows[1 : first - begin + 1], targets_TB[first - count : last - count]])
            results.append(forward(rows, targets)[first - begin :])
            first = last
        return torch.cat(results)
