"""A checkpoint as a model that can be used: its config, its weights, its vocabulary."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness import checkpoint
from harness.errors import CheckpointError, DeviceError
from harness.types import Corpus, LanguageModel, RunSpec
from harness.units import unit_of


@dataclass(frozen=True, slots=True)
class Kept:
    """A model ready to score and to sample.

    block: its part of a suite. sha256: of its weights. origin: where an imported one comes from.
    """

    folder: Path
    model: LanguageModel
    block: Mapping[str, Any]
    dtype: str
    vocabulary: list[str]
    unit: str
    sha256: str
    origin: Mapping[str, Any] | None = None


def load(folder: Path, *, device: str, kernel: str = "auto") -> Kept:
    """Build the model of a checkpoint on a device and give it its weights.

    Raises CheckpointError for a folder that is no checkpoint or names no model, DeviceError for a missing device.
    """
    import torch

    import models

    index = checkpoint.read_index(folder)
    block = _model_block(folder, index)
    words = checkpoint.vocabulary(folder, index)
    if not words:
        raise CheckpointError(f"{folder}: its index holds no vocabulary; it cannot be used without its run")
    check_device(device, builder=str(block.get("builder")), kernel=kernel)
    forbid_tf32()
    dtype = index.get("dtype", "float32")
    try:
        model = models.build(str(block["builder"]), model_config(block), vocab_size=len(words), kernel=kernel)
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{folder}: its model cannot be built: {' '.join(str(error).split())}") from None
    model = model.to(device=device, dtype=torch.float64 if dtype == "float64" else torch.float32).eval()
    checkpoint.load_into(model, checkpoint.load_group(folder, index, "model"), folder)
    return Kept(
        folder=folder,
        model=model,  # type: ignore[arg-type]
        block=block,
        dtype=dtype,
        vocabulary=words,
        unit=str(index.get("unit") or unit_of(words)),
        sha256=checkpoint.fingerprint(folder),
        origin=index.get("origin"),
    )


def load_for(spec: RunSpec, model: Any, corpus: Corpus) -> str:
    """Put a checkpoint's weights into a run's model, once its vocabulary is the dataset's, its config the entry's.

    Returns the dtype they were stored in.
    """
    assert spec.checkpoint is not None
    folder = Path(spec.checkpoint)
    index = checkpoint.read_index(folder)
    words = checkpoint.vocabulary(folder, index)
    if words != list(corpus.vocabulary):
        same = ", the same in another order" if sorted(words) == sorted(corpus.vocabulary) else ""
        raise CheckpointError(
            f"{folder}: its vocabulary ({len(words)} tokens) is not that of {corpus.name} ({corpus.vocab_size} "
            f"tokens{same}); score it on the dataset{', in the order,' if same else ''} it was trained on"
        )
    difference = first_difference(_model_block(folder, index), spec.model, "model")
    if difference is not None:
        raise CheckpointError(f"{folder}: holds another model: {difference}; give the entry the one that was trained")
    checkpoint.load_into(model, checkpoint.load_group(folder, index, "model"), folder)
    return checkpoint.precision(index)


def model_config(block: Mapping[str, Any]) -> Any:
    """The config of a model's block. Raises KeyError for an unknown builder, ValueError for a wrong value."""
    from pydantic import TypeAdapter

    import models

    values = {key: value for key, value in block.items() if key != "builder"}
    return TypeAdapter(models.config_class(block["builder"])).validate_python(values)


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
