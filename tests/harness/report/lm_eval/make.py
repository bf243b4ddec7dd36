"""Make figures.json: what lm-evaluation-harness says of a tiny model on page.txt. Not a test file.

Run it in an environment of its own:

    pip install 'lm-eval==0.4.13' 'transformers==5.24.0' tokenizers torch
    python tests/harness/report/lm_eval/make.py

The model is a Llama of 2 layers with weights from a fixed generator, its tokens are bytes, and its prefix is a token
before them. lm-evaluation-harness runs its own task wikitext on the local page: its detokeniser, its windows and its
three metrics.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
PREFIX = "<|begin|>"
# Windows of 64 tokens; the cut page has 6 * 64 tokens once detokenised, so that the last window is whole.
CONTEXT = 64


def tokenizer() -> Any:
    """One token per byte, after byte-level BPE without merges; ids 0 to 255 in the order of the alphabet."""
    import tokenizers
    from tokenizers import decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = tokenizers.Tokenizer(models.BPE({char: number for number, char in enumerate(alphabet)}, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([PREFIX])
    return PreTrainedTokenizerFast(tokenizer_object=backend, bos_token=PREFIX, eos_token=PREFIX)


def model() -> Any:
    """A Llama whose weights depend on their names and shapes only."""
    import numpy as np
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=257, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=CONTEXT, tie_word_embeddings=False, bos_token_id=256,
        eos_token_id=256,
    )  # fmt: skip
    made = LlamaForCausalLM(config).eval()
    generator = np.random.RandomState(0)  # its stream is the same in every version of numpy
    with torch.no_grad():
        for _, parameter in sorted(made.named_parameters()):
            values = generator.standard_normal(tuple(parameter.shape)) * 0.3
            parameter.copy_(torch.from_numpy(values + (parameter.dim() == 1)).float())
    return made


def main() -> None:
    import lm_eval
    import transformers
    from lm_eval import evaluator
    from lm_eval.api.task import ConfigurableTask
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks.wikitext import preprocess_wikitext

    page = (HERE / "page.txt").read_text(encoding="utf-8")
    harness = HFLM(pretrained=model(), tokenizer=tokenizer(), max_length=CONTEXT, batch_size=1, device="cpu")
    figures = []
    for text in (page, cut(page, preprocess_wikitext.wikitext_detokenizer)):
        rows = HERE / "page.json"
        rows.write_text(json.dumps({"page": text}))
        task = ConfigurableTask(
            config={
                "task": "wikitext_local",
                "dataset_path": "json",
                "dataset_kwargs": {"data_files": {"test": str(rows)}},
                "test_split": "test",
                "output_type": "loglikelihood_rolling",
                "doc_to_text": "",
                "doc_to_target": preprocess_wikitext.wikitext_detokenizer,
                "process_results": preprocess_wikitext.process_results,
                "metric_list": [{"metric": name} for name in ("word_perplexity", "byte_perplexity", "bits_per_byte")],
            }
        )
        done = evaluator.evaluate(lm=harness, task_dict={"wikitext_local": task}, log_samples=True)
        rows.unlink()
        [sample] = done["samples"]["wikitext_local"]
        scores = {key.split(",")[0]: value for key, value in done["results"]["wikitext_local"].items() if "," in key}
        figures.append(
            {
                "page_bytes": len(text.encode()),
                "detokenised": sample["target"],
                "log_likelihood": sample["filtered_resps"][0],
                **{name: scores[name] for name in ("word_perplexity", "byte_perplexity", "bits_per_byte")},
            }
        )
    versions = {"lm_eval": lm_eval.__version__, "transformers": transformers.__version__}
    text = json.dumps({"versions": versions, "context": CONTEXT, "figures": figures}, indent=1, ensure_ascii=False)
    (HERE / "figures.json").write_text(text + "\n", encoding="utf-8")


def cut(page: str, detokenise: Any) -> str:
    """The longest beginning of the page whose detokenised text fills whole windows."""
    return next(
        page[:end] for end in range(len(page), 0, -1) if len(detokenise({"page": page[:end]}).encode()) % CONTEXT == 0
    )


if __name__ == "__main__":
    main()
