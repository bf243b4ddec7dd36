"""Ways to run a training loop: everything on, each speed-up left out in turn, and the plain path. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace

import lm_models
from harness.bench.loops.entries import LoopEntry
from harness.core.config.speed import Speed, applied

PLAIN, ALL = "plain", "all"
_AND_GRAPH = " and graph"


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One way to run the loop. name: `all`, `plain`, or `without X`."""

    name: str
    dtype: str
    kernel: str
    speed: Speed


def variants(dtype: str, speed: Speed, device: str, *, ablate: bool) -> list[Variant]:
    """List the variants of a loop.

    Args:
        dtype: of the products.
        speed: switches; those without effect on the device are ignored.
        device: where the loop runs.
        ablate: also leave out each active switch, a 16-bit dtype and the kernels in turn, and add the plain path.

    Returns:
        The variants, the complete one first.
    """
    active = applied(speed, device)
    complete = Variant(name=ALL, dtype=dtype, kernel="auto", speed=active)
    if not ablate:
        return [complete]
    chosen = [complete]
    for name, value in asdict(active).items():
        # A loss scale folds the clip regardless of the switch, so there is nothing to leave out.
        if value and not (name == "folded_clip" and dtype == "float16"):
            chosen.append(replace(complete, name=f"without {name}", speed=replace(active, **{name: False})))
    if dtype != "float32":
        chosen.append(replace(complete, name=f"without {dtype}", dtype="float32"))
    # The references loop over time in Python. Capturing thousands of launches for each length would exceed the limit.
    name = "without kernels" + (_AND_GRAPH if active.graph else "")
    chosen.append(replace(complete, name=name, kernel="reference", speed=replace(active, graph=False)))
    off = Speed(**dict.fromkeys(asdict(active), False))
    plain = Variant(name=PLAIN, dtype="float32", kernel="reference", speed=off)
    return [*chosen, plain] if plain.speed != active or dtype != "float32" else chosen


def supported(entry: LoopEntry, chosen: Sequence[Variant], backends: Mapping[str, str]) -> list[Variant]:
    """Adapt variants to a model and drop those that become equal.

    A softmax with cutoffs has clusters of varying size, which a CUDA graph cannot hold, and reads its targets on the
    host, where resident text is not.

    Args:
        entry: the model.
        chosen: from `variants`.
        backends: op -> backend to use in place of `auto`.
    """
    backend = backends.get(lm_models.KERNEL_OPS[entry.builder], "auto")
    unique: dict[tuple[str, str, Speed], Variant] = {}
    for variant in chosen:
        if variant.kernel == "auto":
            variant = replace(variant, kernel=backend)
        if entry.model.get("cutoffs"):
            speed = replace(variant.speed, graph=False, resident=False)
            variant = replace(variant, name=variant.name.removesuffix(_AND_GRAPH), speed=speed)
        unique.setdefault((variant.dtype, variant.kernel, variant.speed), variant)
    return list(unique.values())
