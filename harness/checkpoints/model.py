"""A checkpoint as a model that can be used: its config, its weights, its vocabulary."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.checkpoints import format
from harness.core.errors import CheckpointError, DeviceError
from harness.core.interfaces import Corpus, LoadedModel
from harness.core.specs import RunSpec
from harness.core.units import BYTE, UNITS, first_non_byte, unit_of

BYTES_PER_PARAMETER = 2
"""The least that a parameter takes in a file."""


def load(folder: Path, *, device: str, kernel: str = "auto") -> LoadedModel:
    """Build the model of a checkpoint on a device and give it its weights.

    Raises CheckpointError for a folder that is no checkpoint or names no model, DeviceError for a missing device.
    """
    import torch

    import models

    index = format.read_index(folder)
    block = _model_block(folder, index)
    words = format.vocabulary(folder, index)
    if not words:
        raise CheckpointError(f"{folder}: its index holds no vocabulary; it cannot be used without its run")
    unit, stored = _unit(folder, index, words), _precision(folder, index)
    check_device(device, builder=str(block.get("builder")), kernel=kernel)
    forbid_tf32()
    builder = str(block.get("builder"))
    dtype = "float64" if stored == "float64" else "float32"
    try:
        config = model_config(block)
        expected = shapes_of(builder, config, len(words), format.num_bytes(folder, index, "model"))
        format.check_shapes(expected, format.shapes(folder, index, "model"), folder)
        model = models.build(builder, config, vocab_size=len(words), kernel=kernel)
    except ValueError as error:
        raise CheckpointError(f"{folder}: its model cannot be built: {' '.join(str(error).split())}") from None
    model = model.to(device=device, dtype=getattr(torch, dtype)).eval()
    format.load_into(model, format.load_group(folder, index, "model"), folder)
    return LoadedModel(
        folder=folder,
        model=model,  # type: ignore[arg-type]
        block=block,
        dtype=dtype,
        weights_dtype=stored,
        vocabulary=words,
        unit=unit,
        sha256=format.fingerprint(folder),
        device=device,
        origin=index.get("origin"),
    )


def load_for(spec: RunSpec, model: Any, corpus: Corpus) -> str:
    """Put a checkpoint's weights into a run's model, once its vocabulary is the dataset's, its config the entry's.

    Returns the dtype they were stored in.
    """
    assert spec.checkpoint is not None
    folder = Path(spec.checkpoint)
    index = format.read_index(folder)
    words = format.vocabulary(folder, index)
    if words != list(corpus.vocabulary):
        same = ", the same in another order" if sorted(words) == sorted(corpus.vocabulary) else ""
        raise CheckpointError(
            f"{folder}: its vocabulary ({len(words)} tokens) is not that of {corpus.name} ({corpus.vocab_size} "
            f"tokens{same}); score it on the dataset{', in the order,' if same else ''} it was trained on"
        )
    difference = first_difference(_model_block(folder, index), spec.model, "model")
    if difference is not None:
        raise CheckpointError(f"{folder}: holds another model: {difference}; give the entry the one that was trained")
    format.load_into(model, format.load_group(folder, index, "model"), folder)
    return _precision(folder, index)


def model_config(block: Mapping[str, Any]) -> Any:
    """The config of a model's block. Raises ValueError, in one line, for an unknown builder or a wrong value."""
    from pydantic import TypeAdapter, ValidationError

    import models

    builder = block.get("builder")
    if not isinstance(builder, str) or builder not in models.BUILDERS:
        raise ValueError(f"builder {builder!r} is unknown; known: {', '.join(models.BUILDERS)}")
    values = {key: value for key, value in block.items() if key != "builder"}
    try:
        return TypeAdapter(models.config_class(builder)).validate_python(values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        raise ValueError(f"{where}: {message}" if where else message) from None


def shapes_of(builder: str, config: Any, vocab_size: int, num_bytes: int) -> dict[str, tuple[int, ...]]:
    """The shape of every tensor that a model's weights consist of; none of them is allocated.

    Raises ValueError where the model does not fit the vocabulary, or is larger than num_bytes, the size of the files
    that are said to hold it, leaves room for at 16 bits a parameter.
    """
    import torch

    import models

    needed = config.num_parameters(vocab_size)
    if BYTES_PER_PARAMETER * needed > num_bytes:
        raise ValueError(f"it needs {needed:,} parameters, more than {num_bytes:,} bytes of weights can hold")
    with torch.device("meta"):
        state = models.build(builder, config, vocab_size=vocab_size).state_dict()
    return {name: tuple(tensor.shape) for name, tensor in state.items()}


def first_difference(saved: Any, wanted: Any, path: str) -> str | None:
    """The first key, in the entry's order, where a saved config is not the one wanted; None where they agree."""
    if not (isinstance(saved, Mapping) and isinstance(wanted, Mapping)):
        same = saved == wanted
        return None if same else f"{path} is {json.dumps(saved)} there and {json.dumps(wanted)} here"
    keys = dict.fromkeys((*wanted, *saved))
    found = (first_difference(saved.get(key), wanted.get(key), f"{path}.{key}") for key in keys)
    return next(filter(None, found), None)


def check_device(device: str, *, builder: str, kernel: str) -> None:
    """Raise DeviceError for a device, or a kernel of a builder's on it, that this machine does not have."""
    import torch

    import kernels
    import models

    if device.startswith("cuda"):
        if not torch.cuda.is_available():
            raise DeviceError(f"device {device} is not there: torch {torch.__version__} sees no CUDA device")
        index = torch.device(device).index or 0
        if index >= torch.cuda.device_count():
            raise DeviceError(f"device {device} is not there: torch sees {torch.cuda.device_count()} CUDA devices")
    op = models.KERNEL_OPS.get(builder)
    if op is not None:
        try:
            kernels.resolve(op, kernel, device)
        except ValueError as error:
            raise DeviceError(f"{error}; `kernel: auto` takes one that can") from error


def forbid_tf32() -> None:
    """float32 means float32: by default cuDNN's LSTM would round its inputs to TF32's ten bits."""
    import torch

    cudnn: Any = torch.backends.cudnn
    for backend in (torch.backends.cuda.matmul, cudnn.rnn, cudnn.conv):
        backend.fp32_precision = "ieee"


def _model_block(folder: Path, index: Mapping[str, Any]) -> Mapping[str, Any]:
    block = index.get("model")
    if not isinstance(block, Mapping):
        raise CheckpointError(f"{folder}: its index does not say what model it holds; train it again")
    return block


def _unit(folder: Path, index: Mapping[str, Any], words: Sequence[str]) -> str:
    """What the index says its tokens are, once they can be that; what they look like where it says nothing."""
    unit = index.get("unit") or unit_of(words)
    if unit not in UNITS:
        raise CheckpointError(f"{folder}: its index says unit {unit!r}; tokens are {', '.join(UNITS)}")
    stranger = first_non_byte(words) if unit == BYTE else None
    if stranger is not None:
        raise CheckpointError(f"{folder}: its unit is byte, but its token {stranger[:40]!r} is no byte's number")
    return str(unit)


def _precision(folder: Path, index: Mapping[str, Any]) -> str:
    try:
        return format.precision(index)
    except CheckpointError as error:
        raise CheckpointError(f"{folder}: {error}") from None
