"""The load part of a run of a pretrained model: its files, its tokeniser, and the texts as it reads them."""

from __future__ import annotations

from dataclasses import asdict
from importlib import metadata
from typing import Any

from harness import data
from harness.checkpoints.model import model_config
from harness.core.errors import SuiteError
from harness.core.interfaces import Corpus
from harness.core.units import TOKEN
from harness.evaluation import pretrained
from harness.results.record import RunRecord
from harness.worker.job import RunJob


def load(record: RunRecord, job: RunJob) -> tuple[Any, Corpus]:
    """Load the model and read every split that is scored.

    Args:
        record: receives data and model.
        job: the run.

    Returns:
        The model on its device, and the texts as a corpus of its own tokens.

    Raises:
        HarnessError: the files changed since the command was given, or model or text are unusable.
    """
    spec = job.spec
    loaded = pretrained.load(model_config(spec.model), device=spec.device, offline=data.network_is_off())
    assert spec.model_source is not None
    if loaded.source["sha256"] != spec.model_source["sha256"]:
        where = f"{spec.label.suite}: entries.{spec.label.entry}.model"
        raise SuiteError(f"{where}: its files changed after the command was given; give it again")
    texts = {str(split): loaded.read(job.texts[split]) for split in spec.evaluation.splits}
    record.model = {
        "builder": spec.model["builder"],
        "num_parameters": sum(parameter.numel() for parameter in loaded.model.parameters()),
        "dtype": loaded.config.dtype,
        "source": spec.model_source,
        "packages": {name: metadata.version(name) for name in ("tokenizers", "transformers")},
        "kernels": {},
        **loaded.model.context_of_targets,
    }
    record.data = {
        "name": str(spec.dataset_identity["name"]),
        "unit": TOKEN,
        "event_space": loaded.reading,
        "identity": spec.dataset_identity,
        "counts": {split: {"tokens": len(text.ids) - text.num_added} for split, text in texts.items()},
        "texts": {
            split: {"sha256": text.sha256, "begin": text.begin, "read": asdict(text.size_read)}
            for split, text in texts.items()
        },
    }
    vocabulary = loaded.tokenizer.vocabulary
    corpus = Corpus(
        name=record.data["name"],
        unit=TOKEN,
        splits={split: text.ids for split, text in texts.items()},
        vocabulary=vocabulary,
        num_units={split: len(text.ids) for split, text in texts.items()},
        limits={},
        manifest=record.data,
        read=dict(texts),
    )
    return loaded.model, corpus
