"""A text of the size and shape of WikiText-103's training split, from a seed: words by Zipf's law, lines, `<eos>`.

python tests/benchmarks/zipf_text.py FILE [TOKENS]
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

NUM_TOKENS = 103_227_021
NUM_WORDS = 267_735
WORDS_PER_LINE = NUM_TOKENS / 1_801_350
LETTERS = np.frombuffer(b"etaoinshrd", np.uint8)
DASH = 36  # rank of an en dash: three bytes, as in Wikipedia's text
BLOCK = 1 << 19


def spellings() -> tuple[np.ndarray, np.ndarray]:
    """Bytes of every word by rank (NUM_WORDS, widest) and how many of them count; the last is the space after it.

    Rank 0 is the line's end. Frequent words are short: a word is its rank in base 10, written in letters.
    """
    ranks = np.arange(NUM_WORDS)
    digits = np.floor(np.log(np.maximum(ranks, 1)) / np.log(len(LETTERS)) + 1e-9).astype(int) + 1
    endings = 1 + (ranks % 19 == 0)  # two letters for some bring the file to 541 MB
    lengths = digits + endings + 1
    table = np.full((NUM_WORDS, int(lengths.max())), ord(" "), np.uint8)
    for place in range(digits.max()):
        here = digits > place
        table[here, place] = LETTERS[ranks[here] // len(LETTERS) ** place % len(LETTERS)]
    # A letter that is no digit ends every word, so that ranks of one length are apart from those of another.
    for place in range(2):
        here = endings > place
        table[here, digits[here] + place] = ord("z")
    table[0, :3] = np.frombuffer(b" \n ", np.uint8)
    lengths[0] = 3
    table[DASH, :4] = np.frombuffer("\u2013 ".encode(), np.uint8)
    lengths[DASH] = 4
    return table, lengths


def write(path: Path, num_tokens: int = NUM_TOKENS, seed: int = 0) -> None:
    """`num_tokens` tokens, line ends counted as `<eos>`: about 5.2 bytes each."""
    rng = np.random.default_rng(seed)
    table, lengths = spellings()
    counts = np.arange(table.shape[1]) < lengths[:, None]
    with path.open("wb") as file:
        file.write(b" ")
        for start in range(0, num_tokens, BLOCK):
            size = min(BLOCK, num_tokens - start)
            # The integer part of a log-uniform number: a word's chance falls with its rank, as 1 / rank.
            ranks = np.minimum(NUM_WORDS ** rng.random(size), NUM_WORDS - 1).astype(np.int64)
            ranks[rng.random(size) < 1 / WORDS_PER_LINE] = 0
            if start + size == num_tokens:
                ranks[-1] = 0
            file.write(table[ranks][counts[ranks]].tobytes())
        file.truncate(file.tell() - 1)  # the space after the last line's end would begin another line


if __name__ == "__main__":
    write(Path(sys.argv[1]), *(int(number) for number in sys.argv[2:]))
