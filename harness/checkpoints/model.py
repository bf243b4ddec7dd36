"""Build the model of a checkpoint from its config, weights and vocabulary."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.checkpoints import format
from harness.checkpoints.index import CheckpointIndex
from harness.core.errors import CheckpointError, DeviceError
from harness.core.interfaces import Corpus, LoadedModel
from harness.core.json_values import first_problem
from harness.core.messages import reason
from harness.core.specs import RunSpec
from harness.core.units import BYTE, first_non_byte, unit_of

# The smallest size in which weights are stored.
BYTES_PER_PARAMETER = 2


def load(folder: Path, *, device: str, kernel: str = "auto") -> LoadedModel:
    """Build the model of a checkpoint on a device and load its weights.

    Args:
        folder: of the checkpoint.
        device: as torch names it.
        kernel: the kernel backend for the model's recurrence.

    Returns:
        The model in evaluation mode, in float64 if its weights are, else in float32.

    Raises:
        CheckpointError: the folder is not a checkpoint, or its config, vocabulary and weights do not fit together.
        DeviceError: this machine does not have the device, or the kernel on it.
    """
    import torch

    import lm_models
    from lm_models.plugin import loader as plugin_loader

    index = format.read_index(folder)
    block = _model_block(folder, index)
    words = format.vocabulary(folder, index)
    if not words:
        raise CheckpointError(f"{folder}: its index holds no vocabulary; it cannot be used without its run")
    unit = index.unit or unit_of(words)
    token = first_non_byte(words) if unit == BYTE else None
    if token is not None:
        raise CheckpointError(f"{folder}: its unit is byte, but its token {token[:40]!r} is no byte's number")
    builder = str(block.get("builder"))
    if ":" in builder:
        # The script `harness`, unlike `python -m harness`, does not have the current folder on its path.
        plugin_loader.add_folder(Path())
    check_device(device, builder=builder, kernel=kernel)
    forbid_tf32()
    dtype = "float64" if index.weights_dtype == "float64" else "float32"
    try:
        config = model_config(block)
        # Checked before the model is allocated: the config may ask for more memory than any weights justify.
        stored = format.shapes(folder, index, "model")
        expected = shapes_of(builder, config, len(words), format.num_bytes(folder, index, "model"), stored)
        format.check_shapes(expected, stored, folder)
        model = lm_models.build(builder, config, vocab_size=len(words), kernel=kernel)
    except ValueError as error:
        raise CheckpointError(f"{folder}: its model cannot be built: {reason(error)}") from None
    model = model.to(device=device, dtype=getattr(torch, dtype)).eval()
    format.load_into(model, format.load_group(folder, index, "model"), folder)
    return LoadedModel(
        folder=folder,
        model=model,  # type: ignore[arg-type]
        block=block,
        dtype=dtype,
        weights_dtype=index.weights_dtype,
        vocabulary=words,
        unit=unit,
        sha256=format.fingerprint(folder),
        device=device,
        origin=index.origin,
    )


def load_for(spec: RunSpec, model: Any, corpus: Corpus) -> str:
    """Load the checkpoint that a run names into the run's model.

    Args:
        spec: the run; its model's config must be the checkpoint's.
        model: receives the weights.
        corpus: its vocabulary must be the checkpoint's, in the same order.

    Returns:
        The dtype that the weights are stored in.

    Raises:
        CheckpointError: config, vocabulary or weights differ; the message names the first difference.
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
    difference = _first_difference(_model_block(folder, index), spec.model, "model")
    if difference is not None:
        raise CheckpointError(f"{folder}: holds another model: {difference}; give the entry the one that was trained")
    format.load_into(model, format.load_group(folder, index, "model"), folder)
    return index.weights_dtype


def model_config(block: Mapping[str, Any]) -> Any:
    """Parse a model's block to the config of its builder. Raises ValueError, in one line, for a wrong value."""
    from pydantic import TypeAdapter, ValidationError

    import lm_models

    builder = block.get("builder")
    if not isinstance(builder, str) or not lm_models.is_known(builder):
        raise ValueError(f"builder {builder!r} is unknown; known: {', '.join(lm_models.builders())}")
    values = {key: value for key, value in block.items() if key != "builder"}
    try:
        return TypeAdapter(lm_models.config_class(builder)).validate_python(values)
    except ValidationError as error:
        raise ValueError(first_problem(error)) from None


def shapes_of(
    builder: str,
    config: Any,
    vocab_size: int,
    num_bytes: int,
    stored: Mapping[str, tuple[int, ...]] | None = None,
) -> dict[str, tuple[int, ...]]:
    """Compute the shape of every tensor of a model without allocating one.

    Args:
        builder: name of the model's builder.
        config: its config.
        vocab_size: tokens in the vocabulary.
        num_bytes: size of the files that should hold the weights.
        stored: shapes in those files, for a model whose sizes depend on the text it was fitted to.

    Returns:
        Shapes by tensor name.

    Raises:
        ValueError: the config does not fit the vocabulary, or the model has more parameters than the files can hold.
    """
    import torch

    import lm_models

    needed = config.num_parameters(vocab_size)
    if BYTES_PER_PARAMETER * needed > num_bytes:
        raise ValueError(f"it needs {needed:,} parameters, more than {num_bytes:,} bytes of weights can hold")
    with torch.device("meta"):
        model = lm_models.build(builder, config, vocab_size=vocab_size)
        resize: Any = getattr(model, "resize", None)
        if stored is not None and resize is not None:
            resize(stored)
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


def _first_difference(saved: Any, expected: Any, path: str) -> str | None:
    """The first key, in the order of `expected`, whose value differs, with both values; None if all agree."""
    if not (isinstance(saved, Mapping) and isinstance(expected, Mapping)):
        same = saved == expected
        return None if same else f"{path} is {json.dumps(saved)} there and {json.dumps(expected)} here"
    keys = dict.fromkeys((*expected, *saved))
    differences = (_first_difference(saved.get(key), expected.get(key), f"{path}.{key}") for key in keys)
    return next(filter(None, differences), None)


def check_device(device: str, *, builder: str, kernel: str) -> None:
    """Check that a device exists and that a builder's kernel runs on it.

    Args:
        device: as torch names it.
        builder: name of the model's builder.
        kernel: name of a kernel backend.

    Raises:
        DeviceError: this machine does not have one of them.
    """
    import lm_kernels
    import lm_models

    check_exists(device)
    op = lm_models.KERNEL_OPS.get(builder)
    if op is not None:
        try:
            lm_kernels.resolve(op, kernel, device)
        except ValueError as error:
            raise DeviceError(f"{error}; `kernel: auto` takes one that can") from error


def check_exists(device: str) -> None:
    """Raise DeviceError if this machine does not have a device."""
    import torch

    if device.startswith("cuda"):
        if not torch.cuda.is_available():
            raise DeviceError(f"device {device} is not there: torch {torch.__version__} sees no CUDA device")
        index = torch.device(device).index or 0
        if index >= torch.cuda.device_count():
            raise DeviceError(f"device {device} is not there: torch sees {torch.cuda.device_count()} CUDA devices")


def forbid_tf32() -> None:
    """Compute float32 in full: by default cuDNN's LSTM would round its inputs to the ten bits of TF32."""
    import torch

    cudnn: Any = torch.backends.cudnn
    for backend in (torch.backends.cuda.matmul, cudnn.rnn, cudnn.conv):
        backend.fp32_precision = "ieee"


def _model_block(folder: Path, index: CheckpointIndex) -> Mapping[str, Any]:
    if index.model is None:
        raise CheckpointError(f"{folder}: its index does not say what model it holds; train it again")
    return index.model
