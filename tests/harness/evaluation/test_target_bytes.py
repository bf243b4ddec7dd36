"""Bytes of targets, against the decoder that prints generated text."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.core.units import BYTE, CHAR, WORD
from harness.evaluation import target_bytes
from harness.evaluation.tokenizer import Tokens

VOCABULARIES = {
    "words": (["<eos>", "the", "über", "<unk>", "a"], WORD),
    "characters of Penn Treebank": (["a", "_", "<eos>", "é", "N"], CHAR),
    "characters": (["a", "_", " ", "é", "\n"], CHAR),
    "bytes": (["10", "32", "97", "98", "255"], BYTE),
}


@pytest.mark.parametrize("name", VOCABULARIES)
@given(ids=st.lists(st.integers(0, 4), min_size=2, max_size=40), chunk=st.integers(1, 50))
def test_targets_have_the_bytes_that_the_decoder_writes(name: str, ids: list[int], chunk: int) -> None:
    vocabulary, unit = VOCABULARIES[name]
    if unit == BYTE:
        pieces = [bytes([int(vocabulary[each])]) for each in ids]
    else:
        decode = Tokens.of(vocabulary, unit).decoder()
        pieces = [decode(each).encode() for each in ids]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(target_bytes, "_CHUNK", chunk)
        found = target_bytes.with_bytes(np.zeros(len(ids) - 1), np.array(ids, np.uint8), vocabulary, unit)
    assert found is not None
    assert found.edges.tolist() == np.cumsum([len(piece) for piece in pieces]).tolist()
    assert found.text_sha256 == hashlib.sha256(b"".join(pieces)).hexdigest()


@pytest.mark.parametrize(("nll", "dtype"), [([0.5, np.nan], np.float32), ([0.1, 0.5], np.float64)])
def test_losses_are_stored_in_the_smallest_type_that_holds_them(nll: list[float], dtype: type) -> None:
    found = target_bytes.with_bytes(np.array(nll), np.array([0, 1, 2]), *VOCABULARIES["bytes"])
    assert found is not None
    assert (found.nll.dtype, found.sizes.dtype) == (dtype, np.uint8)
    assert np.array_equal(found.nll, nll, equal_nan=True)
