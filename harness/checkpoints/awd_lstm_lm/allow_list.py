"""Names that an official checkpoint may hold, and the inert values that replace them. Nothing is imported or called."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

# Dimensions and elements that no checkpoint reaches. Products of larger sizes would overflow in numpy.
MAX_DIMENSIONS = 8
MAX_ELEMENTS = 1 << 48


class MalformedError(Exception):
    """The file is no official checkpoint. The message says why; the importer adds the file's name."""


# Values compare and hash by identity (eq=False): comparing nested values could take exponential time.
@dataclass(frozen=True, slots=True, eq=False)
class Name:
    """A module-level name in the allow-list. path: such as `torch.nn.modules.linear.Linear`."""

    path: str


@dataclass(frozen=True, slots=True, eq=False)
class Pairs:
    """A dict as [key, value] pairs in file order."""

    pairs: list[Any] = field(default_factory=list)

    def by_text(self) -> dict[str, Any]:
        """The pairs whose key is text; the last one wins."""
        pairs = [pair for pair in self.pairs if isinstance(pair, list | tuple) and len(pair) == 2]
        return {key: value for key, value in pairs if isinstance(key, str)}


@dataclass(slots=True, eq=False)
class Record:
    """An instance of a class or the result of a call, neither of which was made. state: the argument of BUILD."""

    path: str
    state: Any = None


@dataclass(frozen=True, slots=True, eq=False)
class Storage:
    """A one-dimensional array elsewhere in the file, as the pickle declares it. dtype: numpy's name."""

    dtype: str
    key: str
    num_elements: int


@dataclass(frozen=True, slots=True, eq=False)
class Tensor:
    """A view of a storage, as the pickle declares it. offset and strides: in elements."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


# Instances that torch 0.3 to today write for `[model, criterion, optimizer]` of awd-lstm-lm.
CLASSES = frozenset(
    f"{module}.{name}"
    for module, names in {
        "model": ["RNNModel"],
        "locked_dropout": ["LockedDropout"],
        "weight_drop": ["WeightDrop"],
        "splitcross": ["SplitCrossEntropyLoss"],
        "torchqrnn.qrnn": ["QRNNLayer"],
        "torch.nn.modules": ["container.ModuleList", "dropout.Dropout", "linear.Linear", "loss.CrossEntropyLoss"],
        "torch.nn.modules.rnn": ["LSTM", "GRU"],
        "torch.nn.modules.sparse": ["Embedding"],
        "torch.optim": ["adadelta.Adadelta", "adagrad.Adagrad", "adam.Adam", "adamax.Adamax", "asgd.ASGD"],
        "torch.optim.rmsprop": ["RMSprop"],
        "torch.optim.sgd": ["SGD"],
        "torch.backends.cudnn.rnn": ["Unserializable"],
    }.items()
    for name in names
)

# numpy has no bfloat16, whose bits are never read as numbers.
_DTYPES = {
    "Half": "float16", "Float": "float32", "Double": "float64", "BFloat16": "uint16", "Bool": "bool",
    "Byte": "uint8", "Char": "int8", "Short": "int16", "Int": "int32", "Long": "int64",
}  # fmt: skip
STORAGES = {f"{module}.{name}Storage": dtype for module in ("torch", "torch.cuda") for name, dtype in _DTYPES.items()}

FACTORIES = {"builtins.list", "builtins.dict", "builtins.set"}

# WeightDrop replaces an LSTM's `flatten_parameters` by this method, which is then pickled with the LSTM.
BOUND_METHOD = "widget_demagnetizer_y2k_edition"


def shown(text: str) -> str:
    """Text from a file, escaped and shortened for a message of one line."""
    plain = ascii(text)[1:-1]
    return plain if len(plain) <= 80 else f"{plain[:77]}..."


def _tensor(args: tuple[Any, ...]) -> Tensor | None:
    """The call (storage, offset, sizes, strides, ...) as a tensor; None for other arguments."""
    if len(args) < 4 or not isinstance(args[0], Storage) or type(args[1]) is not int:
        return None
    for numbers in args[2:4]:
        # The length comes first: a long tuple in many calls would take time beyond the file's size.
        if not isinstance(numbers, tuple) or len(numbers) > MAX_DIMENSIONS:
            return None
        if not all(type(number) is int and number >= 0 for number in numbers):
            return None
        if any(number >= MAX_ELEMENTS for number in numbers):
            raise MalformedError("it declares a tensor of an impossible size")
    return Tensor(*args[:4])


def _ordered_dict(args: tuple[Any, ...]) -> Pairs | None:
    """OrderedDict() of Python 3, or OrderedDict([[key, value], ...]) of Python 2."""
    if len(args) > 1 or not isinstance(items := args[0] if args else [], list):
        return None
    # The list is not copied: one long list in many calls would take memory beyond the file's size.
    return Pairs(items)


def _bound_method(args: tuple[Any, ...]) -> Record | None:
    owner = args[0] if len(args) == 2 else None
    if not isinstance(owner, Record) or owner.path != "weight_drop.WeightDrop" or args[1] != BOUND_METHOD:
        return None
    return Record("builtins.getattr")


def _first_tensor(args: tuple[Any, ...]) -> Tensor | None:
    return args[0] if args and isinstance(args[0], Tensor) else None


# What each call becomes; None if its arguments are not those of a checkpoint.
CALLS: dict[str, Callable[[tuple[Any, ...]], Any]] = {
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": _first_tensor,
    "torch.nn.parameter.Parameter": _first_tensor,
    "torch.autograd.variable.Variable": _first_tensor,
    "torch.nn.backends.thnn._get_thnn_function_backend": lambda args: None if args else Record("thnn backend"),
    "collections.OrderedDict": _ordered_dict,
    "collections.defaultdict": lambda args: (
        Pairs() if len(args) < 2 and all(isinstance(arg, Name) and arg.path in FACTORIES for arg in args) else None
    ),
    "builtins.set": lambda args: (
        Record("builtins.set") if len(args) < 2 and all(isinstance(arg, list) for arg in args) else None
    ),
    "builtins.getattr": _bound_method,
}
