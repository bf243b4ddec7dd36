"""The load and scoring parts of a run of a compressor."""

from __future__ import annotations

from collections.abc import Callable

from harness.checkpoints.model import model_config
from harness.core.interfaces import Corpus
from harness.core.scores import Score
from harness.evaluation.compressors.score import Compressor
from harness.evaluation.protocols import Tick
from harness.results.record import RunRecord
from harness.worker.partial_scores import PartialScores


def load(record: RunRecord, corpus: Corpus) -> Compressor:
    """Prepare the method of a run.

    Args:
        record: receives the model: its settings, and the versions of the libraries, which decide on the sizes.
        corpus: the dataset.

    Raises:
        HarnessError: the method's package is not installed, or the tokens of the corpus have no text.
    """
    compressor = Compressor(model_config(record.spec.model), corpus)
    record.model = {**record.spec.model, "num_parameters": 0, "kernels": {}, "libraries": compressor.versions}
    return compressor


def scores(
    record: RunRecord, compressor: Compressor, done: PartialScores, on_start: Callable[[str, str, int], Tick]
) -> list[Score]:
    """Every split under every protocol of the run; those of an earlier invocation are not taken again.

    Args:
        record: of the run.
        compressor: from `load`.
        done: scores so far.
        on_start: called before each scoring; its result may raise to stop.
    """
    found = []
    for protocol, split in record.spec.evaluation.scored:
        score = done.find(protocol, split)
        if score is None:
            score = compressor.score(split, protocol, record.spec.label.metrics, on_start)
            done.add(score)
        found.append(score)
    return found
