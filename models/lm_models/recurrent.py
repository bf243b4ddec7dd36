"""Shared by the recurrent language models: layers, dropout between them, penalties, kernels, carried state.

Letters: T time, B stream, E embedding, H width, V vocabulary, N rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

import lm_kernels
from lm_models import dropout
from lm_models.adaptive_softmax import AdaptiveSoftmax
from lm_models.config import looks_up
from lm_models.softmax import Softmax
from lm_models.step import State
from lm_models.token_model import TokenModel

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from lm_models.config import RecurrentConfig


class RecurrentLayer(nn.Module):
    """One layer of a stack."""

    op: str  # kernel op that the layer runs
    kernel: str  # requested backend, or "auto"
    weight_drop: float  # probability that an entry of `raw_weight` is dropped for a window
    trained_by: str | None = None  # backend of the last training window

    @property
    def backend(self) -> str:
        """Backend that training ran on; before any training, what "auto" selects without the arguments of a call."""
        return self.trained_by or lm_kernels.resolve(self.op, self.kernel, self.raw_weight().device)[0]

    def resolve(
        self, device: torch.device, arguments: Sequence[Any] | None = None, *, training: bool
    ) -> Callable[..., Any]:
        """Return the kernel for one call.

        Args:
            device: where it runs.
            arguments: of the call, for backends that are for some arguments only.
            training: note the backend in `trained_by`.
        """
        name, function = lm_kernels.resolve(self.op, self.kernel, device, arguments)
        if training:
            self.trained_by = name
        return function

    def raw_weight(self) -> Tensor:
        """The weight that DropConnect applies to."""
        raise NotImplementedError

    def dropped_weight(self, *, training: bool, generator: torch.Generator | None) -> Tensor:
        """`raw_weight`, in training under the mask of this window."""
        return dropout.weight(
            self.raw_weight(), self.weight_drop, training=training, generator=generator, kernel=self.weight_drop_kernel
        )

    @property
    def weight_drop_kernel(self) -> str:
        """A layer on its reference drops weights with the reference as well; the mask is the same in all backends."""
        return "reference" if self.kernel == "reference" else "auto"

    def initial_state(self, batch: int) -> tuple[Tensor, ...]:
        """Zeros for `batch` streams, each tensor (1, B, X)."""
        raise NotImplementedError

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
        """Run the layer over a window.

        Args:
            x_TBI: input; with `table_VI` symbols (T, B).
            state: before the window.
            table_VI: the inputs are its rows, fewer than the symbols. The layer multiplies its input weights by the
                table once, and looks up rows of the product.
            training: dropout is active.
            generator: source of the masks.
            out_dropout: rate of locked dropout on the output; its mask is drawn after all others of the layer.

        Returns:
            h_TBH and the state after the window.
        """
        raise NotImplementedError


class RecurrentModel(TokenModel):
    """A language model over a stack of layers; the state is a tuple with one tuple of (1, B, X) tensors per layer.

    Args:
        config: widths, dropout rates, penalties and softmax.
        layers: the stack.
        vocab_size: V.

    Raises:
        ValueError: an empty vocabulary.
    """

    def __init__(self, config: RecurrentConfig, layers: Sequence[RecurrentLayer], *, vocab_size: int) -> None:
        super().__init__(vocab_size=vocab_size, width=config.embedding, rates=config.dropout)
        self.config = config
        self.layers = nn.ModuleList(layers)
        self.softmax = _softmax(config, vocab_size)

    def initial_state(self, batch: int) -> State:
        """Zeros for `batch` streams, in the model's dtype and on its device."""
        return tuple(layer.initial_state(batch) for layer in self._layers())

    def encode(
        self, inputs_TB: Tensor, state: State, rows_TBE: Tensor | None = None, *, training: bool
    ) -> tuple[Tensor, State, Tensor]:
        """As `TokenModel.encode`.

        Only TAR reads an output without dropout. Without TAR the last layer applies it, and both are the same tensor.
        """
        rates, generator = self.config.dropout, self.generator
        layers = self._layers()
        needs_raw = training and self.config.tar > 0
        last = 0.0 if needs_raw else rates.output
        x_TBX, table_VX = self._inputs(inputs_TB.long(), rows_TBE, training=training)
        states: list[State] = []
        for layer, layer_state, rate in zip(layers, state, [*[rates.hidden] * (len(layers) - 1), last], strict=True):
            x_TBX, layer_state = layer.run(
                x_TBX, tuple(layer_state), table_VX, training=training, generator=generator, out_dropout=rate
            )
            table_VX = None
            states.append(layer_state)
        dropped_TBX = x_TBX
        if needs_raw:
            dropped_TBX = dropout.locked(
                x_TBX, rates.output, training=training, generator=generator, per_step=self.masks_per_step
            )
        return dropped_TBX, tuple(states), self._penalty(x_TBX, dropped_TBX, training=training)

    def _inputs(self, inputs_TB: Tensor, rows_TBE: Tensor | None, *, training: bool) -> tuple[Tensor, Tensor | None]:
        """Return the first layer's input; or symbols, and the table whose rows are the input (see `looks_up`)."""
        rates, num_symbols = self.config.dropout, len(self.embedding)
        wants_table = looks_up(num_symbols, inputs_TB.numel(), dropout=rates, training=training)
        if rows_TBE is None and wants_table and not self.sums_occurrences:
            table_VE = dropout.words(self.embedding, rates.embedding, training=training, generator=self.generator)
            return inputs_TB, table_VE
        return self.embed(inputs_TB, rows_TBE, training=training), None

    def _penalty(self, raw_TBH: Tensor, dropped_TBH: Tensor, *, training: bool) -> Tensor:
        """AR on the output under dropout, TAR on the raw output. Merity et al. 2017, arXiv:1708.01009.

        AR is ar mean(h^2); TAR is tar mean((h_t - h_{t-1})^2), 0 for a window of one step.
        """
        penalty = raw_TBH.new_zeros(())
        if training and self.config.ar:
            penalty = penalty + self.config.ar * dropped_TBH.square().mean()
        if training and self.config.tar and raw_TBH.shape[0] > 1:
            penalty = penalty + self.config.tar * (raw_TBH[1:] - raw_TBH[:-1]).square().mean()
        return penalty

    @property
    def kernels(self) -> dict[str, str]:
        """Backends by op: {"lstm": "fused", "weight_drop": "native"}, or "padded, fused" if layers differ.

        After training these are the backends it trained with.
        """
        backends: dict[str, dict[str, None]] = {}
        for layer in self._layers():
            backends.setdefault(layer.op, {})[layer.backend] = None
            if layer.weight_drop > 0:
                name = lm_kernels.resolve("weight_drop", layer.weight_drop_kernel, self.embedding.device)[0]
                backends.setdefault("weight_drop", {})[name] = None
        return {op: ", ".join(names) for op, names in backends.items()}

    @property
    def trained_by(self) -> list[str | None]:
        """Backend that each layer last trained with. A checkpoint saves it, because a resumed run must report it."""
        return [layer.trained_by for layer in self._layers()]

    @trained_by.setter
    def trained_by(self, names: Sequence[str | None]) -> None:
        for layer, name in zip(self._layers(), names, strict=True):
            layer.trained_by = name

    def _layers(self) -> list[RecurrentLayer]:
        return [layer for layer in self.layers if isinstance(layer, RecurrentLayer)]


def _softmax(config: RecurrentConfig, vocab_size: int) -> Softmax | AdaptiveSoftmax:
    width = config.features
    if not config.cutoffs:
        return Softmax(vocab_size, width, tied=config.tie)
    return AdaptiveSoftmax(vocab_size, width, config.cutoffs, reversed_tails=config.tail_order == "reversed")
