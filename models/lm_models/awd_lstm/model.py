"""AWD-LSTM: LSTM layers with DropConnect on the recurrent matrix. Merity et al. 2017, arXiv:1708.02182.

Letters: T time, B stream, I input, H hidden, G = 4 H gates in the order i, f, g, o.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

import lm_kernels
from lm_models import dropout
from lm_models.recurrent import RecurrentLayer, RecurrentModel

if TYPE_CHECKING:
    from lm_models.awd_lstm.config import Config


class LstmLayer(RecurrentLayer):
    """One LSTM layer: holds raw weights and passes dropped ones to the kernel. State: h and c, (1, B, H).

    Args:
        num_inputs: I.
        num_hidden: H.
        weight_drop: probability that an entry of the recurrent matrix is dropped.
        kernel: backend of `lstm`.
        masks_per_step: the dropout of the output draws a new mask at each time step.
        single_bias: leave out `bias_ih`.
    """

    op = "lstm"

    def __init__(
        self,
        num_inputs: int,
        num_hidden: int,
        *,
        weight_drop: float,
        kernel: str,
        masks_per_step: bool = False,
        single_bias: bool = False,
    ) -> None:
        super().__init__()
        lm_kernels.check_name("lstm", kernel)
        self.weight_drop = weight_drop
        self.kernel = kernel
        self.masks_per_step = masks_per_step
        bound = num_hidden**-0.5
        self.weight_ih = nn.Parameter(torch.empty(4 * num_hidden, num_inputs).uniform_(-bound, bound))
        self.weight_hh = nn.Parameter(torch.empty(4 * num_hidden, num_hidden).uniform_(-bound, bound))
        self.register_parameter("bias_ih", None)
        if not single_bias:
            self.bias_ih = nn.Parameter(torch.empty(4 * num_hidden).uniform_(-bound, bound))
        self.bias_hh = nn.Parameter(torch.empty(4 * num_hidden).uniform_(-bound, bound))

    def raw_weight(self) -> Tensor:
        return self.weight_hh

    def initial_state(self, batch: int) -> tuple[Tensor, Tensor]:
        num_hidden = self.weight_hh.shape[1]
        return self.weight_hh.new_zeros(1, batch, num_hidden), self.weight_hh.new_zeros(1, batch, num_hidden)

    def run(
        self,
        x_TBI: Tensor,
        state: tuple[Tensor, ...],
        table_VI: Tensor | None = None,
        *,
        training: bool,
        generator: torch.Generator | None,
        out_dropout: float,
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """As `RecurrentLayer.run`; in training the recurrent matrix gets a new mask for each window."""
        h_1BH, c_1BH = state
        weight_hh = self.dropped_weight(training=training, generator=generator)
        weight_ih: Tensor = self.weight_ih
        if table_VI is not None and len(table_VI) > table_VI.shape[1]:
            # Most backends multiply one-hot inputs, which would be wider than the embedded ones.
            x_TBI, table_VI = functional.embedding(x_TBI, table_VI), None
        if table_VI is not None:
            weight_ih = functional.linear(table_VI, weight_ih).t()
        bias_ih = torch.zeros_like(self.bias_hh) if self.bias_ih is None else self.bias_ih
        arguments = (x_TBI, h_1BH[0], c_1BH[0], weight_ih, weight_hh, bias_ih, self.bias_hh)
        lstm = self.resolve(x_TBI.device, arguments, training=training)
        h_TBH, h_BH, c_BH = lstm(*arguments)
        h_TBH = dropout.locked(h_TBH, out_dropout, training=training, generator=generator, per_step=self.masks_per_step)
        return h_TBH, (h_BH.unsqueeze(0), c_BH.unsqueeze(0))


def build(config: Config, *, vocab_size: int, kernel: str = "auto") -> RecurrentModel:
    """As `lm_models.build`; kernel: backend of `lstm`."""
    per_step = config.masks == "step"
    layers = [
        LstmLayer(
            num_inputs,
            num_hidden,
            weight_drop=config.dropout.weight,
            kernel=kernel,
            masks_per_step=per_step,
            single_bias=config.biases == 1,
        )
        for num_inputs, num_hidden in config.widths
    ]
    model = RecurrentModel(config, layers, vocab_size=vocab_size)
    model.masks_per_step = per_step
    if config.initial_range is not None:
        for parameter in model.parameters():
            nn.init.uniform_(parameter, -config.initial_range, config.initial_range)
    return model
