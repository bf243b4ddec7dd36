"""Tiny pretrained models with tokenisers of three kinds, saved as Hugging Face folders. Needs the extra hf."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

REASON = "the extra hf is not installed"
TEXT = "the cat sat on the mat . the dog ate the cat 's hat .\n" * 20 + "Äpfel,  日本語\tund <s> mehr <unk> x\r\n"
KINDS = ("byte-bpe", "unigram", "byte-fallback")


def tokenizer_of(kind: str) -> Any:
    """Byte-level BPE as in GPT-2, Unigram as in T5, or BPE with byte fallback as in Llama 2; trained on TEXT."""
    tokenizers = pytest.importorskip("tokenizers", reason=REASON)
    from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

    special = ["<unk>", "<s>"]
    if kind == "byte-bpe":
        made = tokenizers.Tokenizer(models.BPE())
        made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        made.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(
            vocab_size=300, special_tokens=special, initial_alphabet=alphabet, show_progress=False
        )
        made.train_from_iterator([TEXT], trainer)
    elif kind == "unigram":
        made = tokenizers.Tokenizer(models.Unigram())
        made.pre_tokenizer = pre_tokenizers.Metaspace()
        made.decoder = decoders.Metaspace()
        made.train_from_iterator(
            [TEXT],
            trainers.UnigramTrainer(vocab_size=80, special_tokens=special, unk_token="<unk>", show_progress=False),
        )
    else:
        words = [*special, *(f"<0x{value:02X}>" for value in range(256)), "▁", *"acehost", "▁t", "he", "▁the"]
        made = tokenizers.Tokenizer(
            models.BPE(
                vocab={word: number for number, word in enumerate(words)},
                merges=[("▁", "t"), ("h", "e"), ("▁t", "he")],
                unk_token="<unk>",
                byte_fallback=True,
            )
        )
        made.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        made.decoder = decoders.Sequence(
            [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
        )
        made.add_special_tokens(special)
    return made


def save(folder: Path, kind: str = "byte-bpe", *, architecture: str = "llama", positions: int = 64) -> Path:
    """A randomly initialised Llama or GPT-2 with its tokeniser, as safetensors."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers", reason=REASON)
    tokenizer = tokenizer_of(kind)
    size = tokenizer.get_vocab_size()
    torch.manual_seed(1)
    if architecture == "llama":
        config = transformers.LlamaConfig(
            vocab_size=size, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
            max_position_embeddings=positions, initializer_range=0.5, bos_token_id=1, eos_token_id=1,
        )  # fmt: skip
    else:
        config = transformers.GPT2Config(
            vocab_size=size, n_embd=16, n_layer=2, n_head=2, n_positions=positions, initializer_range=0.5,
            bos_token_id=1, eos_token_id=1,
        )  # fmt: skip
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    wrapped = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", unk_token="<unk>")
    wrapped.save_pretrained(folder)
    return folder
