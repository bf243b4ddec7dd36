from __future__ import annotations

from harness.core.config.recipe import Validation
from harness.training.progress import FinetuneSummary, TrainingSummary


def test_a_summary_names_just_the_stages_of_its_recipe() -> None:
    """Unknown figures of every recipe are null."""
    summary = TrainingSummary(
        tokens=20, steps=2, epochs=1, best_epoch=None, best_step=None, best_valid_nll_nats=None,
        validation_protocol=Validation(), seconds=1.0, validation_seconds=0.0, tokens_per_s=None, thread_counts=[1],
        finetune=FinetuneSummary(epochs=3, stopped_early=False, is_kept=True),
    )  # fmt: skip
    body = summary.to_json()
    assert (body["tokens"], body["best_epoch"], body["tokens_per_s"]) == (20, None, None)
    assert body["finetune"] == {"epochs": 3, "stopped_early": False, "is_kept": True}
    assert not {"averaging", "checkpoint_sha256"} & body.keys()
