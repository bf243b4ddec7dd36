"""Score checkpoints, and compare runs and checkpoints."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.api.texts import TextChoice

if TYPE_CHECKING:
    from harness.core.interfaces import LoadedModel
    from harness.evaluation.scoring import CheckpointScore, EvaluationRequest
    from harness.report.comparison import Comparison, Side
    from harness.results.store import Store
    from lm_models.plugin.base import Model

PRETRAINED = "hf:"


def evaluate(
    model: Path | str | Model,
    *,
    text: TextChoice | Path | str,
    vocabulary: Sequence[str] | None = None,
    device: str = "auto",
    settings: Sequence[str] = (),
    protocol: str = "exact",
) -> CheckpointScore:
    """Score a model on a text.

    Args:
        model: folder of a checkpoint or of a run, `hf:PATH` for a pretrained model in a Hugging Face format, or a
            `harness.Model`, which is scored where it is.
        text: a file, or a `TextChoice`, such as `TextChoice(dataset="ptb-char", split="valid")`.
        vocabulary: of a `harness.Model`: the text of each token, such as `["<eos>", "a", "b"]`.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        settings: for `hf:PATH`: keys of its model block, such as `context=512`.
        protocol: `exact`, `streams` or `official`, if `text` is a file.

    Returns:
        The score with all that is needed to repeat it; `metrics` by name, `nll_nats`, `num_targets`.

    Raises:
        HarnessError: the model, the text or the two together cannot be used.
    """
    from harness.evaluation import scoring

    chosen = text if isinstance(text, TextChoice) else TextChoice(text=Path(text), protocol=protocol)
    return scoring.score_checkpoint(request_for(model, chosen, vocabulary, device, settings))


def compare(
    names: Sequence[str],
    *,
    results: Path | str = "results",
    margin: float | None = None,
    text: TextChoice | None = None,
    device: str = "auto",
    settings: Sequence[str] = (),
) -> list[Comparison]:
    """Compare runs that scored the same text, or score checkpoints on one and compare them.

    Args:
        names: at least two run ids, run folders, or entries, with all of their seeds each. With `text`:
            checkpoints, runs with a best model, or `hf:PATH` for pretrained models.
        results: folder of the records.
        margin: a difference that does not matter, in the metric's unit.
        text: what to score checkpoints on; None to compare the scores of records.
        device: where checkpoints are scored.
        settings: for every `hf:PATH`: keys of its model block, such as `context=512`.

    Returns:
        A comparison for each split, metric and pair.

    Raises:
        StoreError: there is no such run or entry.
        NotComparableError: texts, targets or protocols differ.
        HarnessError: a checkpoint cannot be scored.
    """
    from harness.report import comparison
    from harness.results.store import Store

    return comparison.compare(find_sides(names, Store(Path(results)), text, device, settings), margin)


def find_sides(
    names: Sequence[str],
    store: Store,
    text: TextChoice | None = None,
    device: str = "auto",
    settings: Sequence[str] = (),
) -> list[Side]:
    """What `compare` compares; arguments as there, with the results folder opened."""
    from harness.core import device as devices
    from harness.core.errors import StoreError
    from harness.report import comparison

    if len(names) < 2:
        raise StoreError("compare needs two runs or entries, such as: harness compare awd-lstm qrnn")
    if text is None:
        records = store.records()
        return [comparison.find_side(name, store, records) for name in names]
    # Every name is checked before data is prepared and the first model scored.
    where = devices.resolve(device)
    found = [
        _pretrained(name, settings, where) if name.startswith(PRETRAINED) else comparison.find_checkpoint(name, store)
        for name in names
    ]
    sides: list[Side] = []
    for name, model in zip(names, found, strict=True):
        loaded = _loaded(model, where) if isinstance(model, Path) else model
        sides.append(comparison.score_checkpoint(name, loaded, text.find(raw=loaded.reader is not None)))
    return sides


def request_for(
    model: Path | str | Model,
    chosen: TextChoice,
    vocabulary: Sequence[str] | None,
    device: str,
    settings: Sequence[str],
    loading: Callable[[dict[str, Any]], AbstractContextManager[object]] = lambda target: nullcontext(),
) -> EvaluationRequest:
    """What to score: the text found and the model loaded. Other arguments and errors are those of `evaluate`.

    Args:
        loading: entered while the model is loaded; given the arguments of the request but the model.
    """
    from harness.core import device as devices
    from harness.evaluation import scoring

    if not isinstance(model, str | Path):
        loaded = _of_module(model, vocabulary)
        return scoring.EvaluationRequest(model=loaded, **chosen.find())
    where = devices.resolve(device)
    if str(model).startswith(PRETRAINED):
        target = chosen.find(raw=True)
        with loading(target):
            loaded = _pretrained(str(model), settings, where)
    else:
        folder = _folder(Path(model))
        target = chosen.find()
        with loading(target):
            loaded = _loaded(folder, where)
    return scoring.EvaluationRequest(model=loaded, **target)


def load_checkpoint(model: Path | str, device: str, settings: Sequence[str]) -> LoadedModel:
    """A checkpoint, the best model of a run or, as `hf:PATH`, a pretrained one; arguments as of `evaluate`."""
    from harness.core import device as devices

    where = devices.resolve(device)
    if str(model).startswith(PRETRAINED):
        return _pretrained(str(model), settings, where)
    return _loaded(_folder(Path(model)), where)


def _folder(path: Path) -> Path:
    """The checkpoint in a folder, whose index can be read: a wrong path is reported before any data is prepared."""
    from harness.checkpoints import export, format
    from harness.core.errors import CheckpointError
    from harness.results.store import RECORD, Store

    if (path / RECORD).is_file():
        record = Store(path.absolute().parents[1]).find(path.absolute().name)
        if record is not None and record.spec.is_compressor:
            raise CheckpointError(
                f"{path}: is the run of a compressor, which has no weights; `harness explain` shows its files"
            )
    folder = export.find(path)
    format.read_index(folder)
    return folder


def _of_module(model: Model, vocabulary: Sequence[str] | None) -> LoadedModel:
    """A model in memory, named by its class and by a checksum of its weights."""
    from harness.core.errors import CheckpointError
    from harness.core.interfaces import LoadedModel
    from harness.core.units import unit_of
    from lm_models.plugin.adapter import Adapter

    if vocabulary is None:
        raise CheckpointError("a model in memory needs its vocabulary: the text of each token, in their order")
    kind, weights = type(model), model.state_dict()
    digest = hashlib.sha256()
    for name, tensor in weights.items():
        digest.update(name.encode() + b"\0" + tensor.detach().cpu().contiguous().numpy().tobytes())
    dtypes = sorted({str(tensor.dtype).removeprefix("torch.") for tensor in weights.values()})
    return LoadedModel(
        folder=Path(f"{kind.__module__}:{kind.__qualname__}"),
        model=Adapter(model),
        block={"builder": f"{kind.__module__}:{kind.__qualname__}"},
        dtype=", ".join(dtypes),
        weights_dtype=", ".join(dtypes),
        vocabulary=list(vocabulary),
        unit=unit_of(vocabulary),
        sha256=digest.hexdigest(),
        device=str(next((tensor.device for tensor in weights.values()), "cpu")),
    )


def _loaded(folder: Path, device: str) -> LoadedModel:
    from harness.checkpoints import model

    return model.load(folder, device=device)


def _pretrained(name: str, settings: Sequence[str], device: str) -> LoadedModel:
    from harness import data
    from harness.evaluation import pretrained
    from harness.suite import pretrained_config

    config = pretrained_config(name.removeprefix(PRETRAINED), settings)
    return pretrained.load(config, device=device, offline=data.network_is_off()).as_checkpoint()
