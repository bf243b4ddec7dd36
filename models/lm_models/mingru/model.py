"""minGRU: h_t = (1 - z_t) h_{t-1} + z_t c_t, with z_t and c_t of the input only. Feng et al. 2024, arXiv:2410.01201.

The recurrence is f-pooling, the kernel `fo_pool` without an output gate, whose f is the paper's z. The candidate of the
kernel is c = tanh(C); the paper takes C itself, or a positive function of it for a scan of logarithms. With tanh, every
state is a mean of values in (-1, 1): it needs neither a norm nor logarithms, however long the text is.
Letters: T time, B stream, E width between layers, H cells, G = 2 H gates in the order c, z.
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
    from lm_models.mingru.config import Config


class MinGruLayer(RecurrentLayer):
    """One residual layer: x + linear(minGRU(norm(x))). State: h (1, B, H).

    Args:
        width: E.
        num_hidden: H.
        weight_drop: probability that an entry of the linear map to the gates is dropped.
        is_last: norm the output, which is the softmax's input.
        kernel: backend of `fo_pool`.
    """

    op = "fo_pool"

    def __init__(self, width: int, num_hidden: int, *, weight_drop: float, is_last: bool, kernel: str) -> None:
        super().__init__()
        lm_kernels.check_name("fo_pool", kernel)
        self.num_hidden = num_hidden
        self.weight_drop = weight_drop
        self.kernel = kernel
        self.norm = nn.LayerNorm(width)
        self.gates = nn.Linear(width, 2 * num_hidden)
        self.narrow = nn.Linear(num_hidden, width)
        self.last_norm = nn.LayerNorm(width) if is_last else None

    def raw_weight(self) -> Tensor:
        return self.gates.weight

    def initial_state(self, batch: int) -> tuple[Tensor, ...]:
        return (self.gates.weight.new_zeros(1, batch, self.num_hidden),)

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
        """As `RecurrentLayer.run`; all layers but the last drop what they add, not what they pass on."""
        weight = self.dropped_weight(training=training, generator=generator)
        gates = functional.linear(self.norm(x_TBI if table_VI is None else table_VI), weight, self.gates.bias)
        x_TBE, gates_TBG = x_TBI, gates
        if table_VI is not None:
            x_TBE, gates_TBG = (lookup.sums_of_rows(x_TBI.unsqueeze(-1), each) for each in (table_VI, gates))
        fo_pool = self.resolve(x_TBE.device, training=training)
        h_TBH, h_BH = fo_pool(gates_TBG, state[0][0], output_gate=False)
        added_TBE = self.narrow(h_TBH)
        if self.last_norm is None:
            y_TBE = x_TBE + dropout.locked(added_TBE, out_dropout, training=training, generator=generator)
        else:
            y_TBE = self.last_norm(x_TBE + added_TBE)
            y_TBE = dropout.locked(y_TBE, out_dropout, training=training, generator=generator)
        return y_TBE, (h_BH.unsqueeze(0),)


def build(config: Config, *, vocab_size: int, kernel: str = "auto") -> RecurrentModel:
    """Build a minGRU.

    Args:
        config: sizes and dropout.
        vocab_size: V.
        kernel: backend of `fo_pool`.

    Raises:
        ValueError: an unknown kernel or an empty vocabulary.
    """
    layers = [
        MinGruLayer(
            width, num_hidden, weight_drop=config.dropout.weight, is_last=index == config.layers - 1, kernel=kernel
        )
        for index, (width, num_hidden) in enumerate(config.widths)
    ]
    return RecurrentModel(config, layers, vocab_size=vocab_size)
