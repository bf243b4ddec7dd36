from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.core.errors import DataError
from harness.core.units import unit_of
from harness.evaluation.tokenizer import Tokens

PTB = Tokens.of(["a", "b", "_", "<eos>", "N"], "char")
WORDS = Tokens.of(["the", "cat", "<eos>", "<unk>"], "word")
BYTES = Tokens.of(["10", "32", "97", "195", "169"], "byte")
CHARS = Tokens.of(["\n", " ", "a", "é", "_"], "char")


@pytest.mark.parametrize(
    ("vocabulary", "unit"),
    [
        (["a", "_", "<eos>"], "char"),
        (["\n", " ", "é"], "char"),
        (["the", "<eos>", "a"], "word"),
        ([str(value) for value in range(40)], "byte"),
        ([*(str(value) for value in range(40)), "<eos>"], "byte"),
        (["1", "2", "3"], "char"),
        ([str(value) for value in range(300)], "word"),
    ],
)
def test_the_vocabulary_shows_the_unit(vocabulary: list[str], unit: str) -> None:
    assert unit_of(vocabulary) == unit


@pytest.mark.parametrize(
    ("tokens", "words"),
    [(PTB, "at the end of each line"), (WORDS, "separated by spaces"), (BYTES, "per byte"), (CHARS, "per character")],
)
def test_the_way_a_file_is_read_is_said(tokens: Tokens, words: str) -> None:
    assert words in tokens.reading


def encode(tokens: Tokens, path: Path, content: bytes, unknown: str | None = None) -> list[int]:
    path.write_bytes(content)
    return tokens.encode_file(path, unknown=unknown).ids.tolist()


@pytest.mark.parametrize(
    ("tokens", "text", "ids"),
    [
        (PTB, "a _ b\n\n b a", [0, 2, 1, 3, 3, 1, 0, 3]),  # with <eos>, as the official code reads lines
        (WORDS, "the cat\r\nthe <unk>\n", [0, 1, 2, 0, 3, 2]),
        (WORDS, "", []),
        (BYTES, "a é\n", [2, 1, 3, 4, 0]),  # without <eos>, the text itself
        (CHARS, "a é\n_", [2, 1, 3, 0, 4]),
    ],
)
def test_a_file_is_read_by_its_vocabulary(tmp_path: Path, tokens: Tokens, text: str, ids: list[int]) -> None:
    assert encode(tokens, tmp_path / "t.txt", text.encode()) == ids


def test_unknown_tokens_are_named_with_their_lines_or_replaced(tmp_path: Path) -> None:
    path = tmp_path / "t.txt"
    text = b"the cat\nthe dog the fox\ncat dog x y z w\n"
    with pytest.raises(DataError) as caught:
        encode(WORDS, path, text)
    assert "7 tokens are not in" in str(caught.value)
    assert "'dog' (line 2), 'fox' (line 2), 'x' (line 3), 'y' (line 3), 'z' (line 3), ..." in str(caught.value)
    assert encode(WORDS, path, text, "<unk>") == [0, 1, 2, 0, 3, 0, 3, 2, 1, 3, 3, 3, 3, 3, 2]
    with pytest.raises(DataError, match=f"1 tokens are not in .*: '{'x' * 40}' \\(line 1\\); the file is read as"):
        encode(WORDS, path, b"x" * 50)
    with pytest.raises(DataError, match="--unknown 'dog' is not in"):
        encode(WORDS, path, text, "dog")


def test_files_that_cannot_be_read_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read: No such file"):
        WORDS.encode_file(tmp_path / "none")
    with pytest.raises(DataError, match="is a device, not a file"):
        WORDS.encode_file(Path("/dev/zero"))
    with pytest.raises(DataError, match="not UTF-8"):
        encode(WORDS, tmp_path / "t.txt", b"the \xff")
    with pytest.raises(DataError, match="'255' \\(line 2\\)"):
        encode(BYTES, tmp_path / "t.txt", b"a\n\xff")


@pytest.mark.parametrize(
    ("tokens", "prompt", "ids"),
    [
        (PTB, "a b\nN", [0, 2, 1, 3, 4]),
        (WORDS, " the  cat\nthe", [0, 1, 2, 0]),
        (CHARS, "a é\n", [2, 1, 3, 0]),
        (BYTES, "a é\n", [2, 1, 3, 4, 0]),
        (CHARS, "", [0]),
        (PTB, "", [3]),  # a line begins after <eos>
        (Tokens.of(["a", " ", "\n"], "char"), "", [2]),
        (Tokens.of(["97", "32", "10"], "byte"), "", [2]),
        (Tokens.of(["a", " "], "char"), "", [1]),
    ],
)
def test_prompts_are_plain_text(tokens: Tokens, prompt: str, ids: list[int]) -> None:
    assert tokens.encode_prompt(prompt) == ids


@pytest.mark.parametrize(
    ("tokens", "prompt", "message"),
    [
        (WORDS, "the dog", "prompt's 'dog' is not among"),
        (WORDS, "x" * 50, f"prompt's '{'x' * 40}' is not among"),
        (Tokens.of(["a"], "char"), "", "it begins with 'a'"),
        (Tokens.of(["x" * 50, "b", "c", "d"], "word"), "", f"it begins with '{'x' * 40}', 'b', 'c'$"),
    ],
)
def test_a_prompt_that_cannot_be_encoded_is_refused(tokens: Tokens, prompt: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        tokens.encode_prompt(prompt)


@given(st.text(alphabet="aé \n_", min_size=1))
def test_decoding_inverts_encoding(text: str) -> None:
    assert "".join(map(CHARS.decoder(), CHARS.encode_prompt(text))) == text


@pytest.mark.parametrize(
    ("tokens", "ids", "text"),
    [
        (PTB, [0, 2, 1, 3, 4], "a b\nN"),
        (WORDS, [0, 1, 2, 0, 3, 2], "the cat\nthe <unk>\n"),
        (BYTES, [2, 3, 4, 0], "aé\n"),
        (BYTES, [3, 2], "\ufffda"),
    ],
)
def test_tokens_become_text_by_their_unit(tokens: Tokens, ids: list[int], text: str) -> None:
    assert "".join(map(tokens.decoder(), ids)) == text


@pytest.mark.skipif(not Path("/dev/fd").exists(), reason="this system has no /dev/fd")
@pytest.mark.parametrize(
    ("tokens", "content"),
    [
        (WORDS, b"the cat\r\nthe <unk>\n"),
        (BYTES, "a é\n".encode()),
        (WORDS, b"the cat\n" * 5000),
    ],
)
def test_a_pipe_is_read_once_and_has_the_checksum_of_its_bytes(tmp_path: Path, tokens: Tokens, content: bytes) -> None:
    expected = encode(tokens, tmp_path / "t.txt", content)
    reader, writer = os.pipe()
    try:
        with os.fdopen(writer, "wb") as file:
            file.write(content)
        encoded = tokens.encode_file(Path(f"/dev/fd/{reader}"))
    finally:
        os.close(reader)
    assert encoded.sha256 == hashlib.sha256(content).hexdigest()
    assert encoded.ids.tolist() == expected
