"""Every byte of a text belongs to one token, for every kind of tokeniser."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pretrained_factory import KINDS, REASON, TEXT, tokenizer_of

from lm_models.huggingface.tokenizer import Tokenizer

pytest.importorskip("tokenizers", reason=REASON)


@pytest.fixture(scope="module", params=KINDS)
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    return Tokenizer(tokenizer_of(request.param), "<s>")


def test_the_bytes_of_the_tokens_are_the_text(tokenizer: Tokenizer) -> None:
    text = TEXT.encode()
    encoded = tokenizer.encode(text)
    assert b"".join(tokenizer.pieces(text, encoded.ids[1:])) == text
    assert (sum(encoded.num_bytes), encoded.num_bytes[0]) == (len(text), 0)
    assert tokenizer.vocabulary[encoded.ids[0]] == encoded.begin == "<s>"


def test_without_a_beginning_the_first_token_keeps_its_bytes() -> None:
    encoded = Tokenizer(tokenizer_of("byte-bpe"), None).encode(b"the cat")
    assert (encoded.begin, sum(encoded.num_bytes), encoded.num_bytes[0]) == (None, 7, 3)


@pytest.mark.parametrize("kind", ["byte-bpe", "byte-fallback"])
@given(text=st.text(st.sampled_from("the a\n\t<s>▁é日\U0001f600"), min_size=1))
def test_any_text_is_kept_or_refused(kind: str, text: str) -> None:
    """SentencePiece cannot tell its own sign for a space from a space; any other text is kept."""
    if kind == "byte-fallback" and "▁" in text:
        with pytest.raises(ValueError, match=r"^byte \d"):
            _cached(kind).encode(text.encode())
    else:
        assert sum(_cached(kind).encode(text.encode()).num_bytes) == len(text.encode())


_TOKENIZERS: dict[str, Tokenizer] = {}


def _cached(kind: str) -> Tokenizer:
    return _TOKENIZERS.setdefault(kind, Tokenizer(tokenizer_of(kind), "<s>"))


def test_special_tokens_in_a_text_have_their_own_bytes() -> None:
    tokenizer = _cached("byte-fallback")
    text = b" the<s> the <unk>  the"
    ids = tokenizer.encode(text).ids[1:]
    assert [tokenizer.vocabulary[number] for number in ids].count("<s>") == 1
    assert list(tokenizer.pieces(text, ids))[-1] == b" the"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"the Cat", r"byte 3: token \d+ is ' cat' and the text has ' Cat' there, in 'the Cat'"),
        (b"", "the text is empty"),
        (b"the \xff", r"byte 4 is not UTF-8 \(invalid start byte\)"),
    ],
)
def test_a_text_that_the_tokens_do_not_give_back_is_refused_with_its_place(text: bytes, message: str) -> None:
    from tokenizers import normalizers

    backend = tokenizer_of("byte-bpe")
    backend.normalizer = normalizers.Lowercase()
    with pytest.raises(ValueError, match=message):
        Tokenizer(backend, "<s>").encode(text)


def test_an_unknown_character_is_refused() -> None:
    with pytest.raises(ValueError, match=r"byte 4: token 0 is '<unk>' and the text has 'ŋ"):
        Tokenizer(tokenizer_of("unigram"), "<s>").encode("the ŋ".encode())


def test_a_limit_that_a_tokeniser_was_saved_with_cuts_nothing() -> None:
    backend = tokenizer_of("byte-bpe")
    backend.enable_truncation(3)
    backend.enable_padding(length=9000)
    assert sum(Tokenizer(backend, None).encode(TEXT.encode()).num_bytes) == len(TEXT.encode())
