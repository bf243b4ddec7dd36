"""Every name an official checkpoint may hold, and the inert record each use of it becomes. Nothing is imported.

The lists cover torch 0.3 to today: what `torch.save([model, criterion, optimizer])` of awd-lstm-lm writes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from harness.checkpoints.awd_lstm_lm.values import MalformedError, Mapping, Name, Record, Storage, Tensor, shown

CLASSES = {
    "model": {"RNNModel"},
    "locked_dropout": {"LockedDropout"},
    "weight_drop": {"WeightDrop"},
    "splitcross": {"SplitCrossEntropyLoss"},
    "torchqrnn.qrnn": {"QRNNLayer"},
    "torch.nn.modules.container": {"ModuleList"},
    "torch.nn.modules.dropout": {"Dropout"},
    "torch.nn.modules.linear": {"Linear"},
    "torch.nn.modules.loss": {"CrossEntropyLoss"},
    "torch.nn.modules.rnn": {"LSTM", "GRU"},
    "torch.nn.modules.sparse": {"Embedding"},
    "torch.optim.adadelta": {"Adadelta"},
    "torch.optim.adagrad": {"Adagrad"},
    "torch.optim.adam": {"Adam"},
    "torch.optim.adamax": {"Adamax"},
    "torch.optim.asgd": {"ASGD"},
    "torch.optim.rmsprop": {"RMSprop"},
    "torch.optim.sgd": {"SGD"},
    "torch.backends.cudnn.rnn": {"Unserializable"},
}
"""module -> classes of which an instance may stand in the file."""

STORAGES = {
    "HalfStorage": "float16",
    "FloatStorage": "float32",
    "DoubleStorage": "float64",
    "BFloat16Storage": "uint16",
    "BoolStorage": "bool",
    "ByteStorage": "uint8",
    "CharStorage": "int8",
    "ShortStorage": "int16",
    "IntStorage": "int32",
    "LongStorage": "int64",
}
"""Storage class, on the CPU or in `torch.cuda` -> numpy's name of what it holds (bfloat16: of its bits)."""

BUILTINS = ("builtins", "__builtin__")
FACTORIES = {"list", "dict", "set"}
BOUND_METHOD = "widget_demagnetizer_y2k_edition"
"""The method of WeightDrop that stands in an LSTM's place of `flatten_parameters`."""

MAX_DIMENSIONS = 8
MAX_ELEMENTS = 1 << 48
"""More than any file holds; of numbers beyond 2**63 numpy makes errors of its own."""

Args = tuple[Any, ...]


def allowed(module: str, name: str) -> Name:
    """The inert stand-in of a name. Raises MalformedError for one that is not on the list."""
    known = (
        name in CLASSES.get(module, ())
        or f"{module}.{name}" in CALLS
        or (module in ("torch", "torch.cuda") and name in STORAGES)
        or (module in BUILTINS and name in FACTORIES)
    )
    if not known:
        raise MalformedError(f"it names {shown(module)}.{shown(name)}, which no official checkpoint has a use for")
    return Name(module, name)


def called(callee: Any, args: Any) -> Any:
    """What stands for `callee(*args)`. Raises MalformedError unless it is one of CALLS, as it usually is."""
    if not isinstance(callee, Name):
        raise MalformedError("it calls something that is not a name, as no official checkpoint does")
    make = CALLS.get(callee.full)
    if make is None:
        raise MalformedError(f"it calls {callee.full}, as no official checkpoint does")
    if not isinstance(args, tuple):
        raise MalformedError(f"it calls {callee.full} without arguments in a tuple")
    return make(callee, args)


def instance(cls: Any, args: Any) -> Record:
    """What stands for a new object without its state. Raises MalformedError unless the class is one of CLASSES."""
    if not isinstance(cls, Name) or cls.name not in CLASSES.get(cls.module, ()) or args != ():
        what = cls.full if isinstance(cls, Name) else "something that is not a name"
        raise MalformedError(f"it makes an instance of {what} in a way no official checkpoint does")
    return Record(cls)


def _rebuilt(callee: Name, args: Args) -> Tensor:
    """torch._utils._rebuild_tensor and _rebuild_tensor_v2: (storage, offset, sizes, strides, ...)."""
    if len(args) < 4 or not isinstance(args[0], Storage) or type(args[1]) is not int:
        raise _unusual(callee)
    sizes, strides = args[2], args[3]
    for numbers in (sizes, strides):
        if not isinstance(numbers, tuple) or len(numbers) > MAX_DIMENSIONS:
            raise _unusual(callee)
        if not all(type(number) is int and number >= 0 for number in numbers):
            raise _unusual(callee)
        if any(number >= MAX_ELEMENTS for number in numbers):
            raise MalformedError("it declares a tensor of an impossible size")
    return Tensor(args[0], args[1], sizes, strides)


def _same_tensor(callee: Name, args: Args) -> Tensor:
    if not args or not isinstance(args[0], Tensor):
        raise _unusual(callee)
    return args[0]


def _dict(callee: Name, args: Args) -> Mapping:
    """OrderedDict() of Python 3, OrderedDict([[key, value], ...]) of Python 2."""
    items = args[0] if len(args) == 1 else []
    if len(args) > 1 or not isinstance(items, list):
        raise _unusual(callee)
    # Not a copy: one long list in many calls would make memory grow with the square of the file.
    return Mapping(items)


def _default_dict(callee: Name, args: Args) -> Mapping:
    if len(args) > 1 or not all(isinstance(arg, Name) and arg.name in FACTORIES for arg in args):
        raise _unusual(callee)
    return Mapping()


def _set(callee: Name, args: Args) -> Record:
    if len(args) > 1 or not all(isinstance(arg, list) for arg in args):
        raise _unusual(callee)
    return Record(callee)


def _bound_method(callee: Name, args: Args) -> Record:
    owner = args[0] if len(args) == 2 else None
    if not isinstance(owner, Record) or owner.name.full != "weight_drop.WeightDrop" or args[1] != BOUND_METHOD:
        raise MalformedError(f"it calls {callee.full} on something other than WeightDrop's {BOUND_METHOD}")
    return Record(callee)


def _backend(callee: Name, args: Args) -> Record:
    if args:
        raise _unusual(callee)
    return Record(callee)


def _unusual(callee: Name) -> MalformedError:
    return MalformedError(f"it calls {callee.full} with arguments no official checkpoint gives it")


CALLS: dict[str, Callable[[Name, Args], Any]] = {
    "torch._utils._rebuild_tensor": _rebuilt,
    "torch._utils._rebuild_tensor_v2": _rebuilt,
    "torch._utils._rebuild_parameter": _same_tensor,
    "torch.nn.parameter.Parameter": _same_tensor,
    "torch.autograd.variable.Variable": _same_tensor,
    "torch.nn.backends.thnn._get_thnn_function_backend": _backend,
    "collections.OrderedDict": _dict,
    "collections.defaultdict": _default_dict,
    **{f"{module}.set": _set for module in BUILTINS},
    **{f"{module}.getattr": _bound_method for module in BUILTINS},
}
"""Full name -> what its call becomes."""
