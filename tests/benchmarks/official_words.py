"""How awd-lstm-lm turns text into ids: it reads the file twice, and per token updates a dictionary and a counter and
writes to a tensor. Written after its data.py; ours is timed against it and must agree with it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import torch


class Dictionary:
    def __init__(self) -> None:
        self.ids: dict[str, int] = {}
        self.words: list[str] = []
        self.counts: Counter[int] = Counter()
        self.total = 0

    def add(self, word: str) -> int:
        if word not in self.ids:
            self.words.append(word)
            self.ids[word] = len(self.words) - 1
        self.counts[self.ids[word]] += 1
        self.total += 1
        return self.ids[word]


def tokenize(path: Path, dictionary: Dictionary) -> torch.Tensor:
    """Ids (N,) of one file; new words are added to the dictionary."""
    num_tokens = 0
    with path.open(encoding="utf-8") as file:
        for line in file:
            words = [*line.split(), "<eos>"]
            num_tokens += len(words)
            for word in words:
                dictionary.add(word)
    ids = torch.zeros(num_tokens, dtype=torch.int64)
    token = 0
    with path.open(encoding="utf-8") as file:
        for line in file:
            for word in [*line.split(), "<eos>"]:
                ids[token] = dictionary.ids[word]
                token += 1
    return ids


def corpus(paths: Sequence[Path]) -> tuple[list[torch.Tensor], list[str]]:
    """Ids of every file, and the word list by first appearance."""
    dictionary = Dictionary()
    return [tokenize(path, dictionary) for path in paths], dictionary.words
