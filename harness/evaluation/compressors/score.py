"""Score a compressor: the bits of the files that it writes, as nats of the text that is in them.

C(text) is the number of bytes of the compressed text, with the format's own header and checksum. The text is that of
`TokenText`, so that a value per byte is of the same bytes as a model's. Each file is decompressed and compared with the
text before its size counts.

- `conditional`: C(train + split) - C(train).
- `alone`: C(split).
- `prequential`: C(train + valid + test).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence

import numpy as np

from harness.core.config.evaluation import PARTS, WHOLE
from harness.core.errors import DataError, HarnessError
from harness.core.interfaces import Corpus
from harness.core.metrics import METRICS
from harness.core.scores import CodedFile, Coding, EvaluationProtocol, Score, Tally
from harness.evaluation.compressors import codecs
from harness.evaluation.target_bytes import text_of
from harness.evaluation.token_text import TokenText
from lm_models.compressor.config import Config

_TARGETS = {
    "conditional": "every token, in one file after the training split, less the size of the training split's own file",
    "alone": "every token, in a file of their own",
    "prequential": "every token of train, valid and test, in one file in this order",
}

# Called with a split, a protocol and the number of tokens to code; returns what is called with tokens read since.
OnStart = Callable[[str, str, int], codecs.Tick]


class Compressor:
    """A method with its settings over a corpus. A file that several protocols need is written once."""

    def __init__(self, config: Config, corpus: Corpus) -> None:
        """Prepare to code a corpus.

        Args:
            config: method and level.
            corpus: the dataset.

        Raises:
            DataError: its tokens have no text.
            HarnessError: the package of the method is not installed.
        """
        tokens = TokenText.of(corpus.vocabulary, corpus.unit)
        if tokens is None:
            raise DataError(f"{corpus.name}: its tokens have no text that a compressor could code")
        self.config, self.corpus, self.tokens = config, corpus, tokens
        self.versions = codecs.library(config)
        self._files: dict[tuple[str, ...], CodedFile] = {}

    def score(self, split: str, protocol: str, metrics: Sequence[str], on_start: OnStart) -> Score:
        """Score one split under one protocol.

        Args:
            split: `train`, `valid` or `test`; `whole` under `prequential`.
            protocol: one of `CODING`.
            metrics: names in `METRICS`.
            on_start: called once, before the first file.

        Returns:
            The score, without blocks: a file has no loss for a part of its text.

        Raises:
            HarnessError: other bytes came back from a file.
        """
        parts = PARTS if split == WHOLE else (split,)
        wanted = [("train", *parts), ("train",)] if protocol == "conditional" else [parts]
        missing = [each for each in wanted if each not in self._files]
        tick = on_start(split, protocol, sum(len(self._ids(each)) for each in missing))
        for each in missing:
            self._files[each] = self._code(each, tick)
        files = tuple(self._files[each] for each in wanted)
        coding = Coding(files[0].file_bytes - sum(file.file_bytes for file in files[1:]), files)
        ids = self._ids(parts)
        size = self.tokens.size(ids)
        num_units = sum(self.corpus.num_units[part] for part in parts)
        tally = Tally(coding.nats, len(ids), num_units, 0).with_text(size)
        return Score(
            split=split,
            protocol=protocol_named(protocol),
            tally=tally,
            metrics={name: METRICS[name].compute(tally) for name in metrics},
            # One file is one sample.
            std_errors=dict.fromkeys(metrics, math.nan),
            seconds=math.fsum(file.compress_s + file.decompress_s for file in files),
            text=size,
            coding=coding,
        )

    def _ids(self, parts: Sequence[str]) -> np.ndarray:
        return np.concatenate([self.corpus.splits[part] for part in parts])

    def _code(self, parts: tuple[str, ...], tick: codecs.Tick) -> CodedFile:
        """Write the file of these splits, one after the other, read it again and compare."""
        ids = self._ids(parts)
        text = text_of(ids, self.corpus.vocabulary, self.corpus.unit)
        tokens_per_byte, num_read, num_told = len(ids) / len(text), 0, 0

        def tell(num_bytes: int) -> None:
            nonlocal num_read, num_told
            num_read += num_bytes
            tokens = round(num_read * tokens_per_byte)
            tick(tokens - num_told)
            num_told = tokens

        started = time.perf_counter()
        code = codecs.compress(self.config, text, tell)
        written = time.perf_counter()
        restored = codecs.decompress(self.config, code, len(text))
        compress_s, decompress_s = written - started, time.perf_counter() - written
        if restored != text:
            raise HarnessError(f"{self.config.method}: other bytes come back from the file of {' + '.join(parts)}")
        return CodedFile(parts, len(text), len(code), compress_s, decompress_s)


def protocol_named(name: str) -> EvaluationProtocol:
    """How a compressor's split becomes a tally under one of `CODING`."""
    return EvaluationProtocol(
        name=name,
        num_streams=1,
        warmup=0,
        window=0,
        carried_state=True,
        targets=_TARGETS[name],
        denominator="targets",
    )
