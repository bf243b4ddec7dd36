"""Find a model class by import path or entry point, and make a config of its constructor's arguments."""

from __future__ import annotations

import contextlib
import inspect
import os
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, make_dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

from lm_kernels.entry_points import added, no_exit

if TYPE_CHECKING:
    from lm_models.plugin.adapter import Adapter
    from lm_models.plugin.base import Model

# A model is built at most this wide to find out whether it has parameters at all.
_MOST_WORDS = 1 << 20
_FLOP_TOKENS = 64


def add_folder(folder: Path) -> None:
    """Let this process and those that it starts import modules from a folder."""
    text = str(folder.resolve())
    # `python -m harness` has the current folder on its own path, and the processes that it starts do not.
    others = os.environ.get("PYTHONPATH")
    if text not in (others or "").split(os.pathsep):
        os.environ["PYTHONPATH"] = os.pathsep.join((text, others)) if others else text
    if text not in sys.path:
        sys.path.insert(0, text)


@contextlib.contextmanager
def foreign_code() -> Iterator[None]:
    """Run code of a model from outside, which may neither end the command nor move it to another folder.

    Relative paths of the command would otherwise name other files. Raises RuntimeError where the code would exit.
    """
    folder = Path.cwd()
    try:
        with no_exit():
            yield
    finally:
        os.chdir(folder)


def import_path(builder: str) -> str | None:
    """`module:Class` of a builder from outside: as it is, or from an entry point; None if it is neither."""
    if ":" in builder:
        return builder
    return added("models").get(builder)


@cache
def load(path: str) -> type[Model]:
    """Import a model class.

    Args:
        path: `module:Class`.

    Returns:
        The class.

    Raises:
        ValueError: it cannot be imported, or is no subclass of `harness.Model`.
    """
    from lm_models.plugin.base import Model

    module, _, name = path.partition(":")
    try:
        with foreign_code():
            found: Any = import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except ModuleNotFoundError as error:
        missing = error.name or module
        hint = (
            "put its file into the suite's folder, or for a checkpoint into the current one, install its package, "
            "or set PYTHONPATH"
        )
        where = "" if missing == module else f" (imported by {module})"
        raise ValueError(f"there is no module {missing}{where}; {hint}") from None
    except AttributeError:
        raise ValueError(f"module {module} has no {name}") from None
    except Exception as error:
        text = " ".join(str(error).split())
        raise ValueError(f"module {module} cannot be imported: {type(error).__name__}: {text}") from None
    if not (isinstance(found, type) and issubclass(found, Model)):
        raise ValueError(f"{path} is not a subclass of harness.Model")
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Base of a config that is made of a constructor; its fields are the arguments besides `vocab_size`."""

    def num_parameters(self, vocab_size: int) -> int:
        """Count them on a device without memory. Raises ValueError if the model cannot be built."""
        import torch

        with torch.device("meta"):
            model = build(self, vocab_size=min(vocab_size, _MOST_WORDS))
        return sum(parameter.numel() for parameter in model.parameters())

    def forward_flops_per_token(self, vocab_size: int) -> int | None:
        """FLOPs of matrix products as torch counts them; None if the model does not run without data."""
        import torch
        from torch.utils.flop_counter import FlopCounterMode

        with contextlib.suppress(Exception), foreign_code(), torch.no_grad(), torch.device("meta"):
            model = build(self, vocab_size=vocab_size).eval()
            tokens = torch.zeros(min(model.context or _FLOP_TOKENS, _FLOP_TOKENS), 1, dtype=torch.long)
            counter = FlopCounterMode(display=False)
            with counter:
                model.model(tokens, () if model.context is not None else model.initial_state(1))
            return int(counter.get_total_flops()) // len(tokens)
        return None


@cache
def config_class(path: str) -> type[Settings]:
    """The dataclass that a suite's `model:` block is parsed into. Raises ValueError for an unusable constructor."""
    model = load(path)
    hints = get_type_hints(model.__init__)
    fields: list[Any] = []
    for name, parameter in list(inspect.signature(model.__init__).parameters.items())[1:]:
        if name == "vocab_size":
            continue
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise ValueError(f"{path}: its constructor takes *{name}; name every setting")
        has_default = parameter.default is not parameter.empty
        if name not in hints and not has_default:
            raise ValueError(f"{path}: its setting {name} has no annotation")
        type_ = hints.get(name, type(parameter.default))
        fields.append((name, type_, field(default=parameter.default)) if has_default else (name, type_))
    namespace = {
        "__pydantic_config__": {"extra": "forbid"},
        "model_class": staticmethod(lambda: model),
        "__doc__": model.__doc__,
    }
    made: type[Settings] = make_dataclass(
        "Config", fields, bases=(Settings,), frozen=True, kw_only=True, namespace=namespace
    )
    return made


def build(config: Any, *, vocab_size: int) -> Adapter:
    """Build a model from its config. Raises ValueError with the constructor's own reason."""
    from lm_models.plugin.adapter import Adapter

    model_class = config.model_class()
    try:
        with foreign_code():
            model = model_class(vocab_size=vocab_size, **asdict(config))
    except Exception as error:
        text = " ".join(str(error).split())
        raise ValueError(f"{model_class.__name__} cannot be built: {type(error).__name__}: {text}") from None
    for name in ("context", "stride"):
        value = getattr(model, name)
        if value is not None and (not isinstance(value, int) or value < 1):
            raise ValueError(f"{model_class.__name__}.{name} must be a whole number above 0, got {value!r}")
    if model.context is not None and (model.stride or 1) > model.context:
        raise ValueError(f"{model_class.__name__}.stride of {model.stride} is more than its context of {model.context}")
    return Adapter(model)
