"""N-gram models against KenLM, which reads the model from an ARPA file that is written here."""

from __future__ import annotations

import functools
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from lm_models.ngram.config import Config
from lm_models.ngram.model import NGram, build

kenlm = pytest.importorskip("kenlm", reason="needs kenlm: pip install kenlm")

WORDS = ["<eos>", *"abcdefgh"]


def seen_in(text: list[int], order: int) -> dict[int, set[tuple[int, ...]]]:
    """The different n-grams of each length, within sentences; every word is one."""
    seen: dict[int, set[tuple[int, ...]]] = {length: set() for length in range(2, order + 1)}
    sentence = [0]
    for token in text:
        sentence.append(token)
        for length in range(2, min(order, len(sentence)) + 1):
            seen[length].add(tuple(sentence[-length:]))
        sentence = [0] if token == 0 else sentence
    return {1: {(word,) for word in range(len(WORDS))}, **seen}


def name(gram: tuple[int, ...]) -> str:
    texts = [WORDS[token] for token in gram]
    if gram[0] == 0 and len(gram) > 1:
        texts[0] = "<s>"
    if gram[-1] == 0:
        texts[-1] = "</s>"
    return " ".join(texts)


def arpa(model: NGram, text: list[int], order: int) -> str:
    """The model as ARPA: log10 of each n-gram's probability and of its weight as a context.

    Both follow from complete distributions: the weight is the ratio of the probabilities of a token that never
    followed the context, given the context and the one that is shorter by a token.
    """
    seen = seen_in(text, order)
    after: dict[tuple[int, ...], set[int]] = {}
    for length in range(2, order + 1):
        for gram in seen[length]:
            after.setdefault(gram[:-1], set()).add(gram[-1])

    @functools.cache
    def log10(context: tuple[int, ...]) -> np.ndarray:
        h_TBK, _ = model.features(torch.tensor(context or (0,)).unsqueeze(1), model.initial_state(1))
        # The zero state stands for the beginning of a sentence, which is no part of this context.
        h_TBK[-1, :, len(context) :] = -1
        return model.log_probs(h_TBK[-1])[0].numpy() / math.log(10)

    def weight(context: tuple[int, ...]) -> float:
        unseen = set(range(len(WORDS))) - after.get(context, set())
        if not unseen or context not in after:
            return 0.0
        return float(log10(context)[min(unseen)] - log10(context[1:])[min(unseen)])

    lines = ["\\data\\", f"ngram 1={len(WORDS) + 2}"]
    lines += [f"ngram {length}={len(seen[length])}" for length in range(2, order + 1)]
    for length in range(1, order + 1):
        lines.append(f"\n\\{length}-grams:")
        lines += ["-99\t<unk>", f"-99\t<s>\t{weight((0,))}"] if length == 1 else []
        for gram in sorted(seen[length]):
            row = [str(log10(gram[:-1])[gram[-1]]), name(gram)]
            row += [str(weight(gram))] if length < order and gram[-1] != 0 else []
            lines.append("\t".join(row))
    return "\n".join([*lines, "", "\\end\\", ""])


@pytest.mark.parametrize("order", [2, 4])
def test_kenlm_gives_sentences_the_same_probability(order: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(order)
    weights = np.array([3, 5, 4, 3, 2, 2, 1, 0, 1])  # one word never occurs
    text = [*rng.choice(len(WORDS), size=150, p=weights / weights.sum()).tolist(), 0]
    model = build(Config(order=order, sentences=True), vocab_size=len(WORDS))
    model.fit(np.array(text), WORDS)
    path = tmp_path / "model.arpa"
    path.write_text(arpa(model, text, order))
    other = kenlm.Model(str(path))
    read = [0, *rng.integers(1, len(WORDS), 40).tolist(), 0, *text[50:90], 0, 7, 7, 1, 0]
    read_TB = torch.tensor(read).unsqueeze(1)
    ours_T = model(read_TB[:-1], read_TB[1:], model.initial_state(1)).nll_TB[:, 0]
    theirs, sentence = [], list[str]()
    for token in read[1:]:
        if token == 0:
            theirs += [score for score, _, _ in other.full_scores(" ".join(sentence))]
            sentence = []
        else:
            sentence.append(WORDS[token])
    np.testing.assert_allclose(-ours_T.numpy() / math.log(10), theirs, rtol=2e-5, atol=2e-5)
