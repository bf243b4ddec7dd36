"""QRNN: gates from a convolution over time, an elementwise recurrence. Bradbury et al. 2016, arXiv:1611.01576.

Letters: T time, B stream, I input, H hidden, G = 3 H gates in the order z, f, o.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

import lm_kernels
from lm_kernels import lookup
from lm_models import dropout
from lm_models.recurrent import RecurrentLayer, RecurrentModel

if TYPE_CHECKING:
    from lm_models.qrnn.config import Config


class QrnnLayer(RecurrentLayer):
    """One QRNN layer. State: c (1, B, H) and, for window 2, the previous input (1, B, I).

    The gates are a linear map of [x_t, x_{t-1}] (window 2) or x_t. Zoneout multiplies f by a mask in training and by
    its expectation in evaluation, without rescaling, as the official code does.

    Args:
        num_inputs: I.
        num_hidden: H.
        window: time steps that a gate sees, 1 or 2.
        weight_drop: probability that an entry of the linear map is dropped.
        zoneout: probability that a cell keeps its value for a step.
        kernel: backend of `fo_pool`.
    """

    op = "fo_pool"

    def __init__(
        self, num_inputs: int, num_hidden: int, *, window: int, weight_drop: float, zoneout: float, kernel: str
    ) -> None:
        super().__init__()
        lm_kernels.check_name("fo_pool", kernel)
        self.num_inputs = num_inputs
        self.num_hidden = num_hidden
        self.window = window
        self.weight_drop = weight_drop
        self.zoneout = zoneout
        self.kernel = kernel
        self.linear = nn.Linear(window * num_inputs, 3 * num_hidden)

    def raw_weight(self) -> Tensor:
        return self.linear.weight

    def initial_state(self, batch: int) -> tuple[Tensor, ...]:
        zeros = self.linear.weight.new_zeros
        cell_1BH = zeros(1, batch, self.num_hidden)
        return (cell_1BH, zeros(1, batch, self.num_inputs)) if self.window == 2 else (cell_1BH,)

    def run(
        self,
        x_TBI: Tensor,
        state: tuple[Tensor, ...],
        table_VI: Tensor | None = None,
        *,
        training: bool,
        generator: torch.Generator | None,
        out_dropout: float,
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """As `RecurrentLayer.run`; the previous input is carried as given, after dropout, and detached."""
        weight = self.dropped_weight(training=training, generator=generator)
        if table_VI is None:
            gates_TBG, last_1BI = self._gates(x_TBI, state, weight)
        else:
            gates_TBG, last_1BI = self._gates_of_symbols(x_TBI, state, weight, table_VI)
        keep = self._keep(gates_TBG, training=training, generator=generator)
        c0_BH, out_mask_BH = state[0][0], None
        # The kernel applies the output's mask while h is in registers; `dropout.locked` would read and write h again.
        if training and out_dropout > 0:
            out_mask_BH = dropout.scaled_mask(c0_BH, tuple(c0_BH.shape), out_dropout, generator)
        fo_pool = self.resolve(x_TBI.device, training=training)
        h_TBH, c_BH = fo_pool(gates_TBG, c0_BH, keep, out_mask_BH=out_mask_BH)
        previous = (last_1BI.detach().to(state[1].dtype),) if self.window == 2 else ()
        return h_TBH, (c_BH.unsqueeze(0), *previous)

    def _gates(self, x_TBI: Tensor, state: tuple[Tensor, ...], weight: Tensor) -> tuple[Tensor, Tensor]:
        """Return gates_TBG and the last input."""
        source = x_TBI
        if self.window == 2:
            source = torch.cat([x_TBI, torch.cat([state[1], x_TBI[:-1]])], dim=-1)
        return functional.linear(source, weight, self.linear.bias), x_TBI[-1:]

    def _gates_of_symbols(
        self, x_TB: Tensor, state: tuple[Tensor, ...], weight: Tensor, table_VI: Tensor
    ) -> tuple[Tensor, Tensor]:
        """`_gates` of rows of the table. The inputs before the window have products of their own."""
        if torch.is_autocast_enabled(weight.device.type):
            # Once: autocast would convert each part, and its gradient, by itself.
            weight = weight.to(torch.get_autocast_dtype(weight.device.type))
        # The gradients of strided parts would be transposed, which makes joining them slow.
        parts = [part.contiguous() for part in weight.split(self.num_inputs, dim=1)]
        products = [functional.linear(table_VI, parts[0], self.linear.bias)]
        numbers = [x_TB]
        if self.window == 2:
            products.append(functional.linear(torch.cat([table_VI, state[1][0]]), parts[1]))
            before_1B = 2 * len(table_VI) + torch.arange(x_TB.shape[1], device=x_TB.device).unsqueeze(0)
            numbers.append(torch.cat([before_1B, x_TB[:-1] + len(table_VI)]))
        gates_TBG = lookup.sums_of_rows(torch.stack(numbers, dim=-1), torch.cat(products))
        return gates_TBG, functional.embedding(x_TB[-1:], table_VI)

    def _keep(self, gates_TBG: Tensor, *, training: bool, generator: torch.Generator | None) -> Tensor | None:
        if self.zoneout == 0:
            return None
        if not training:
            return gates_TBG.new_full((), 1 - self.zoneout)
        return dropout.draw(gates_TBG, (*gates_TBG.shape[:-1], self.num_hidden), self.zoneout, generator)


def build(config: Config, *, vocab_size: int, kernel: str = "auto") -> RecurrentModel:
    """As `lm_models.build`; kernel: backend of `fo_pool`."""
    layers = [
        QrnnLayer(
            num_inputs,
            num_hidden,
            window=window,
            weight_drop=config.dropout.weight,
            zoneout=config.zoneout,
            kernel=kernel,
        )
        for (num_inputs, num_hidden), window in zip(config.widths, config.windows, strict=True)
    ]
    return RecurrentModel(config, layers, vocab_size=vocab_size)
