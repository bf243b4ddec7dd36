"""Files of a run with the loss of each target. Their bytes are safetensors, their checksum is in the record."""

from __future__ import annotations

import hashlib
from pathlib import Path

from harness.core.errors import StoreError, writing
from harness.core.messages import reason
from harness.core.scores import TargetFile
from harness.core.target_losses import TargetLosses
from harness.system.files import write_atomic
from harness.system.paths import under
from harness.system.reading import read_bytes

PATTERN = "nll-*.safetensors"
# 5 to 12 bytes for each target; no test split has more than 10 million.
MAX_BYTES = 1 << 30


def write(folder: Path, split: str, losses: TargetLosses) -> TargetFile:
    """Write the losses of a split into the folder of a run, replacing older ones. Raises StoreError."""
    from safetensors.numpy import save

    content = save({"nll_nats": losses.nll, "bytes": losses.sizes})
    path = folder / PATTERN.replace("*", split)
    with writing(path):
        write_atomic(path, content)
    return TargetFile(path.name, hashlib.sha256(content).hexdigest(), losses.first_byte, losses.text_sha256)


def read(folder: Path, file: TargetFile) -> TargetLosses:
    """Read losses back. Raises StoreError for a file that is missing, damaged, or not the record's."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    path = folder
    try:
        path = under(folder, file.file)
        content = read_bytes(path, MAX_BYTES)
        if hashlib.sha256(content).hexdigest() != file.sha256:
            raise ValueError("is not the file that was written with the record")
        tensors = load(content)
        return TargetLosses(tensors["nll_nats"], tensors["bytes"], file.first_byte, file.text_sha256)
    except OSError as error:
        raise StoreError(f"{path}: cannot be read: {reason(error)}; run it with --again") from error
    except (ValueError, KeyError, SafetensorError) as error:
        raise StoreError(f"{path}: {error}; run it with --again") from error
