"""Words to ids compared with the official code, and for a text of the size of WikiText-103."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from harness.data.registry import SPLITS
from harness.data.text import words
from harness.data.text.characters import Piece
from harness.system.source import ROOT

NUM_TOKENS, NUM_WORDS = 103_227_021, 267_735
FIFTIETH = NUM_TOKENS // 50
WORDS_PER_LINE = NUM_TOKENS / 1_801_350
LETTERS = str.maketrans("0123456789", "etaoinshrd")
DASH = 36  # rank of an en dash: three bytes, as in Wikipedia's text
BLOCK = 1 << 19

# In a child process, so that its peak memory is that of preparing.
PREPARE = """
import json, resource, sys, time
from harness import data

started = time.perf_counter()
folder = data.prepare({"kind": "words", "folder": sys.argv[1]})
seconds = time.perf_counter() - started
manifest = data.read_manifest(folder)
tokens = sum(manifest.num_tokens.values())
print(json.dumps({
    "seconds": seconds,
    "cpu_seconds": time.process_time(),
    "ns_per_token": 1e9 * seconds / tokens,
    "peak_bytes": 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
    "tokens": tokens,
    "vocabulary": manifest.alphabet_size,
}))
"""


def write_text(path: Path, num_tokens: int, seed: int = 0) -> None:
    """A text of the shape of WikiText-103's: words by Zipf's law, line ends counted as `<eos>`, 5.2 bytes per token."""
    rng = np.random.default_rng(seed)
    # Frequent words are short: a word is its rank in letters. Rank 0 is the line's end.
    spelled = np.array(["\n", *(f"{rank}".translate(LETTERS) + "z" for rank in range(1, NUM_WORDS))], dtype=object)
    spelled[DASH] = "\u2013"
    with path.open("w", encoding="utf-8", newline="") as file:
        for start in range(0, num_tokens, BLOCK):
            size = min(BLOCK, num_tokens - start)
            # The integer part of a log-uniform number: a word's chance falls with its rank, as 1 / rank.
            ranks = np.minimum(NUM_WORDS ** rng.random(size), NUM_WORDS - 1).astype(np.int64)
            ranks[rng.random(size) < 1 / WORDS_PER_LINE] = 0
            if start + size == num_tokens:
                ranks[-1] = 0
            file.write(" " + " ".join(spelled[ranks]))


def write_texts(folder: Path, num_tokens: int) -> list[Path]:
    """train.txt of `num_tokens` and two small ones, each with different seeds."""
    paths = [folder / f"{split}.txt" for split in SPLITS]
    for seed, (path, size) in enumerate(zip(paths, (num_tokens, 217_646, 245_569), strict=True)):
        write_text(path, size, seed)
    return paths


def official(paths: Sequence[Path]) -> tuple[list[torch.Tensor], list[str]]:
    """Ids of every file and the word list, with the steps of awd-lstm-lm's data.py.

    It reads each file twice, and per token updates a dictionary and a counter and writes to a tensor.
    """
    known: dict[str, int] = {}
    counts: Counter[int] = Counter()
    every = []
    for path in paths:
        num_tokens = 0
        with path.open(encoding="utf-8") as file:
            for line in file:
                for word in [*line.split(), "<eos>"]:
                    counts[known.setdefault(word, len(known))] += 1
                    num_tokens += 1
        ids = torch.zeros(num_tokens, dtype=torch.int64)
        token = 0
        with path.open(encoding="utf-8") as file:
            for line in file:
                for word in [*line.split(), "<eos>"]:
                    ids[token] = known[word]
                    token += 1
        every.append(ids)
    return every, list(known)


def ours(paths: list[Path]) -> tuple[list[np.ndarray], list[str]]:
    pieces = {split: Piece(path) for split, path in zip(SPLITS, paths, strict=True)}
    made = words.encode(pieces, order="first-appearance", scratch=paths[0].parent)
    return [np.concatenate(list(made.splits[split])) for split in SPLITS], list(made.vocabulary)


def test_words_compared_with_the_official_code(benchmark: Any, tmp_path: Path) -> None:
    """A fiftieth of the size; the official code runs before each round of ours."""
    paths = write_texts(tmp_path, FIFTIETH)
    theirs_s: list[float] = []
    result: list[Any] = []

    def theirs() -> None:
        started = time.perf_counter()
        result[:] = [official(paths)]
        theirs_s.append(time.perf_counter() - started)

    benchmark.group = "words to ids"
    ids, vocabulary = benchmark.pedantic(ours, (paths,), setup=theirs, rounds=3, warmup_rounds=0)
    expected, listed = result[0]
    assert vocabulary == listed
    assert all((mine == their.numpy()).all() for mine, their in zip(ids, expected, strict=True))
    tokens = sum(len(each) for each in ids)
    ratios = [their_s / our_s for their_s, our_s in zip(theirs_s, benchmark.stats.stats.data, strict=True)]
    benchmark.extra_info.update(
        tokens=tokens,
        ns_per_token=1e9 * benchmark.stats.stats.median / tokens,
        official_ns_per_token=1e9 * sorted(theirs_s)[1] / tokens,
        times_faster=sorted(ratios)[1],
    )
    assert sorted(ratios)[1] >= 8


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_training_text_of_wikitext_103s_size(tmp_path: Path) -> None:
    """540 MB, 103 million tokens, every word of 267,735: under 90 s and 3 GB; the official way on a fiftieth of it."""
    paths = write_texts(tmp_path, NUM_TOKENS)
    command = [sys.executable, "-c", PREPARE, str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    paths[0].unlink()
    fiftieth = tmp_path / "fiftieth.txt"
    write_text(fiftieth, FIFTIETH)
    started = time.perf_counter()
    official([fiftieth])
    official_ns = 1e9 * (time.perf_counter() - started) / FIFTIETH
    print(json.dumps({**found, "official_ns_per_token": official_ns, "ratio": official_ns / found["ns_per_token"]}))
    assert (found["tokens"], found["vocabulary"]) == (NUM_TOKENS + 217_646 + 245_569, NUM_WORDS)
    assert found["seconds"] < 90
    assert found["peak_bytes"] < 3e9
    assert official_ns > 8 * found["ns_per_token"]
