"""What the bits of a probability depend on. A decoder must compute each one as the encoder did."""

from __future__ import annotations

import platform
from dataclasses import asdict, dataclass

import torch

import lm_kernels
import lm_models
from harness.core.errors import DataError
from harness.core.interfaces import LoadedModel
from harness.core.messages import shown
from harness.evaluation.coding import rows
from harness.evaluation.protocols import device_of

_DIGITS = 12  # of a checksum, in a message


@dataclass(frozen=True, slots=True)
class Settings:
    """The same in both directions.

    Attributes:
        model: checksum of the weights.
        dtype: of the computation.
        kernel: backend of the model's recurrence; `torch` if it has none of its own.
        device: `cpu`, or the name of the GPU.
        cpu: architecture and instruction set.
        threads: of torch.
        torch: version.
        constriction: version.
    """

    model: str
    dtype: str
    kernel: str
    device: str
    cpu: str
    threads: int
    torch: str
    constriction: str

    def refuse_others(self, own: Settings) -> None:
        """Raise DataError if the settings here are not those that the text was coded with."""
        for name, value in asdict(own).items():
            coded = getattr(self, name)
            if coded == value:
                continue
            if name == "model":
                there, here = str(coded)[:_DIGITS], str(value)[:_DIGITS]
                raise DataError(f"the text was coded with another model: {shown(there)}, this one is {shown(here)}")
            remedy = f"set OMP_NUM_THREADS={coded}" if name == "threads" else "decode it where it was encoded"
            raise DataError(
                f"the text was coded with {name} {shown(coded)}, here it is {value!r}: its probabilities would have "
                f"other bits; {remedy}"
            )


def settings_of(loaded: LoadedModel) -> Settings:
    """The settings here and now, for a model. Raises CheckpointError if constriction is missing."""
    from importlib.metadata import version

    rows.library()
    device = device_of(loaded.model)
    op = lm_models.KERNEL_OPS.get(str(loaded.block.get("builder")))
    return Settings(
        model=loaded.sha256,
        dtype=loaded.dtype,
        kernel="torch" if op is None else lm_kernels.resolve(op, "auto", device)[0],
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        cpu=f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}",
        threads=torch.get_num_threads(),
        torch=torch.__version__,
        constriction=version("constriction"),
    )
