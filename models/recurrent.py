"""What the recurrent language models share: embedding, dropout between layers, penalties, softmax, carried state.

Letters: T time, B stream, E embedding, H width, V vocabulary, N rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

import kernels
from models import dropout
from models.adaptive_softmax import AdaptiveSoftmax, Split
from models.config import reads_one_hot
from models.softmax import Softmax
from models.step import State, StepOutput
from models.tied_lookup import lookup

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Protocol

    from models.config import Dropout

    class RecurrentConfig(Protocol):
        @property
        def embedding(self) -> int: ...
        @property
        def dropout(self) -> Dropout: ...
        @property
        def ar(self) -> float: ...
        @property
        def tar(self) -> float: ...
        @property
        def tie(self) -> bool: ...
        @property
        def cutoffs(self) -> tuple[int, ...]: ...
        @property
        def tail_order(self) -> str: ...
        @property
        def widths(self) -> list[tuple[int, int]]: ...


class RecurrentLayer(nn.Module):
    """One layer. `run` returns h_TBH and the layer's state after the last step.

    h_TBH is under locked dropout of rate `out_dropout`; its mask is drawn after all others of the layer.
    With a table_VI, x_TBI is one-hot, (T, B, V), and stands for x @ table: a layer multiplies its input weights by the
    table once instead of by every row of x.
    """

    op: str
    """The kernel this layer runs."""
    kernel: str
    weight_drop: float
    """Probability with which an entry of `raw_weight` is dropped for a window."""
    trained_by: str | None = None
    """Backend that the last window of training ran on; None before there was one."""

    @property
    def backend(self) -> str:
        """What training ran on. Before it, what "auto" takes without knowing the call, as scoring mostly does."""
        return self.trained_by or kernels.resolve(self.op, self.kernel, self.raw_weight().device)[0]

    def resolve(
        self, device: torch.device, arguments: Sequence[Any] | None = None, *, training: bool
    ) -> Callable[..., Any]:
        """Return the kernel for one call, its arguments where a backend is for some of them only; training notes it."""
        name, function = kernels.resolve(self.op, self.kernel, device, arguments)
        if training:
            self.trained_by = name
        return function

    def raw_weight(self) -> Tensor:
        """The weight that DropConnect works on."""
        raise NotImplementedError

    def dropped_weight(self, *, training: bool, generator: torch.Generator | None) -> Tensor:
        """`raw_weight` as this window sees it."""
        return dropout.weight(
            self.raw_weight(), self.weight_drop, training=training, generator=generator, kernel=self.weight_drop_kernel
        )

    @property
    def weight_drop_kernel(self) -> str:
        """A layer that is to run its reference drops weights by theirs; the mask is the same either way."""
        return "reference" if self.kernel == "reference" else "auto"

    def initial_state(self, batch: int) -> tuple[Tensor, ...]:
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
        raise NotImplementedError


class RecurrentModel(nn.Module):
    """A language model over a stack of layers; the state is a tuple with one tuple of (1, B, X) tensors per layer.

    generator: source of every mask, on the model's device; None means torch's default generator.
    """

    def __init__(self, config: RecurrentConfig, layers: Sequence[RecurrentLayer], *, vocab_size: int) -> None:
        super().__init__()
        if vocab_size < 1:
            raise ValueError(f"vocab_size must be at least 1, got {vocab_size}")
        self.config = config
        self.generator: torch.Generator | None = None
        self.embedding = nn.Parameter(torch.empty(vocab_size, config.embedding).uniform_(-0.1, 0.1))
        self.layers = nn.ModuleList(layers)
        self.softmax = _softmax(config, vocab_size)

    def initial_state(self, batch: int) -> State:
        """Return zeros for `batch` streams, in the model's dtype and on its device."""
        return tuple(layer.initial_state(batch) for layer in self._layers())

    def split_targets(self, targets_TB: Tensor) -> Split | None:
        """Return what `forward` needs to know of targets to pass over the words they are not; None if nothing."""
        return self.softmax.split(targets_TB) if isinstance(self.softmax, AdaptiveSoftmax) else None

    def criterion_parameters(self) -> list[nn.Parameter]:
        """Parameters that the official code keeps in its loss, not in its model."""
        if isinstance(self.softmax, AdaptiveSoftmax):
            return [self.softmax.tail_vectors, self.softmax.tail_bias]
        return []

    def forward(self, inputs_TB: Tensor, targets_TB: Tensor, state: State, split: Split | None = None) -> StepOutput:
        """Return nll_TB in nats, the state after the window, and the activation penalty (zero in evaluation).

        split: of these targets, made while they were on the host; without it the device may have to be waited for.
        """
        if isinstance(self.softmax, AdaptiveSoftmax):
            rows_TBE, table_VE = lookup(inputs_TB.long(), self.embedding)
            raw_TBH, h_TBH, state = self._encode(inputs_TB, state, rows_TBE, training=self.training)
            nll_TB = self.softmax.nll(h_TBH, targets_TB, table_VE, split)
        else:
            raw_TBH, h_TBH, state = self._encode(inputs_TB, state, training=self.training)
            nll_TB = self.softmax.nll(h_TBH, targets_TB, self.embedding)
        return StepOutput(nll_TB, state, self._penalty(raw_TBH, h_TBH))

    @torch.no_grad()
    def features(self, inputs_TB: Tensor, state: State) -> tuple[Tensor, State]:
        """Return what the softmax reads, h_TBH, and the state after the window; never with dropout."""
        _, h_TBH, state = self._encode(inputs_TB, state, training=False)
        return h_TBH, state

    @torch.no_grad()
    def log_probs(self, h_NH: Tensor) -> Tensor:
        """Return log probabilities (N, V) of rows of `features`."""
        return self.softmax.log_probs(h_NH, self.embedding)

    @torch.no_grad()
    def nll(self, h_NH: Tensor, targets_N: Tensor) -> Tensor:
        """Return nll_N in nats of one target per row of `features`, without the other words' probabilities."""
        return self.softmax.nll(h_NH, targets_N, self.embedding)

    def _encode(
        self, inputs_TB: Tensor, state: State, rows_TBE: Tensor | None = None, *, training: bool
    ) -> tuple[Tensor, Tensor, State]:
        """Return the last layer's output as TAR wants it, its output under dropout, and the new state.

        rows_TBE: the embedding's rows of the inputs, where they are looked up already.
        Only TAR reads an output without dropout; otherwise the last layer drops its own, and both are the same tensor.
        """
        rates, generator = self.config.dropout, self.generator
        layers = self._layers()
        raw_wanted = training and self.config.tar > 0
        last = 0.0 if raw_wanted else rates.output
        x_TBX, table_VX = self._inputs(inputs_TB.long(), rows_TBE, training=training)
        states: list[State] = []
        for layer, layer_state, rate in zip(layers, state, [*[rates.hidden] * (len(layers) - 1), last], strict=True):
            x_TBX, layer_state = layer.run(
                x_TBX, tuple(layer_state), table_VX, training=training, generator=generator, out_dropout=rate
            )
            table_VX = None
            states.append(layer_state)
        dropped_TBX = x_TBX
        if raw_wanted:
            dropped_TBX = dropout.locked(x_TBX, rates.output, training=training, generator=generator)
        return x_TBX, dropped_TBX, tuple(states)

    def _inputs(self, inputs_TB: Tensor, rows_TBE: Tensor | None, *, training: bool) -> tuple[Tensor, Tensor | None]:
        """Return the first layer's input, and the table it is to be multiplied by where it is one-hot.

        `reads_one_hot` is the rule.
        """
        rates = self.config.dropout
        num_symbols, width = self.embedding.shape
        one_hot = reads_one_hot(vocab_size=num_symbols, embedding=width, dropout=rates, training=training)
        if rows_TBE is None and one_hot:
            one_hot_TBV = nn.functional.one_hot(inputs_TB, num_symbols).to(self.embedding.dtype)
            return one_hot_TBV, self.embedding
        if rows_TBE is None:
            rows_TBE = nn.functional.embedding(inputs_TB, self.embedding)
        x_TBE = dropout.embedding(
            rows_TBE, inputs_TB, num_symbols, rates.embedding, training=training, generator=self.generator
        )
        return dropout.locked(x_TBE, rates.input, training=training, generator=self.generator), None

    def _penalty(self, raw_TBH: Tensor, dropped_TBH: Tensor) -> Tensor:
        """AR on the dropped output, TAR on the raw one (none for one step). Merity et al. 2017, arXiv:1708.01009."""
        penalty = raw_TBH.new_zeros(())
        if self.training and self.config.ar:
            penalty = penalty + self.config.ar * dropped_TBH.square().mean()
        if self.training and self.config.tar and raw_TBH.shape[0] > 1:
            penalty = penalty + self.config.tar * (raw_TBH[1:] - raw_TBH[:-1]).square().mean()
        return penalty

    @property
    def kernels(self) -> dict[str, str]:
        """Backend of each kernel: {"lstm": "fused", "weight_drop": "native"}; "padded, fused" where layers differ.

        Once the model has trained these are the ones it trained with.
        """
        found: dict[str, dict[str, None]] = {}
        for layer in self._layers():
            found.setdefault(layer.op, {})[layer.backend] = None
            if layer.weight_drop > 0:
                name = kernels.resolve("weight_drop", layer.weight_drop_kernel, self.embedding.device)[0]
                found.setdefault("weight_drop", {})[name] = None
        return {op: ", ".join(names) for op, names in found.items()}

    @property
    def trained_by(self) -> list[str | None]:
        """Backend that each layer last trained with: what a resumed run has to be told of its earlier windows."""
        return [layer.trained_by for layer in self._layers()]

    @trained_by.setter
    def trained_by(self, names: Sequence[str | None]) -> None:
        for layer, name in zip(self._layers(), names, strict=True):
            layer.trained_by = name

    def _layers(self) -> list[RecurrentLayer]:
        return [layer for layer in self.layers if isinstance(layer, RecurrentLayer)]


def _softmax(config: RecurrentConfig, vocab_size: int) -> Softmax | AdaptiveSoftmax:
    width = config.widths[-1][1]
    if not config.cutoffs:
        return Softmax(vocab_size, width, tied=config.tie)
    return AdaptiveSoftmax(vocab_size, width, config.cutoffs, reversed_tails=config.tail_order == "reversed")
