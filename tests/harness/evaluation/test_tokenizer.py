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
def test_the_unit_is_seen_in_the_vocabulary(vocabulary: list[str], unit: str) -> None:
    assert unit_of(vocabulary) == unit


def ids(tokens: Tokens, path: Path, content: bytes, unknown: str | None = None) -> list[int]:
    path.write_bytes(content)
    return tokens.encode_file(path, unknown=unknown).ids.tolist()


def test_lines_of_tokens_end_in_eos_as_the_official_code_reads_them(tmp_path: Path) -> None:
    path = tmp_path / "t.txt"
    assert ids(PTB, path, b"a _ b\n\n b a") == [0, 2, 1, 3, 3, 1, 0, 3]
    assert ids(WORDS, path, b"the cat\r\nthe <unk>\n") == [0, 1, 2, 0, 3, 2]
    assert ids(WORDS, path, b"") == []


def test_without_eos_the_file_is_the_text_itself(tmp_path: Path) -> None:
    path = tmp_path / "t.txt"
    assert ids(BYTES, path, "a é\n".encode()) == [2, 1, 3, 4, 0]
    assert ids(CHARS, path, "a é\n_".encode()) == [2, 1, 3, 0, 4]


def test_unknown_tokens_are_named_with_their_lines_or_replaced(tmp_path: Path) -> None:
    path = tmp_path / "t.txt"
    text = b"the cat\nthe dog the fox\ncat dog x y z w\n"
    with pytest.raises(DataError) as caught:
        ids(WORDS, path, text)
    assert "7 tokens are not in" in str(caught.value)
    assert "'dog' (line 2), 'fox' (line 2), 'x' (line 3), 'y' (line 3), 'z' (line 3), ..." in str(caught.value)
    assert ids(WORDS, path, text, "<unk>") == [0, 1, 2, 0, 3, 0, 3, 2, 1, 3, 3, 3, 3, 3, 2]
    with pytest.raises(DataError, match="--unknown 'dog' is not in"):
        ids(WORDS, path, text, "dog")


def test_files_that_cannot_be_read_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read: No such file"):
        WORDS.encode_file(tmp_path / "none")
    with pytest.raises(DataError, match="not UTF-8"):
        ids(WORDS, tmp_path / "t.txt", b"the \xff")
    with pytest.raises(DataError, match="'255' \\(line 2\\)"):
        ids(BYTES, tmp_path / "t.txt", b"a\n\xff")


def test_prompts_are_written_as_one_would(tmp_path: Path) -> None:
    assert PTB.encode_prompt("a b\nN") == [0, 2, 1, 3, 4]
    assert WORDS.encode_prompt(" the  cat\nthe") == [0, 1, 2, 0]
    assert CHARS.encode_prompt("a é\n") == [2, 1, 3, 0]
    assert BYTES.encode_prompt("a é\n") == [2, 1, 3, 4, 0]
    assert PTB.encode_prompt("") == [3], "a line's end is where a line begins"
    with pytest.raises(DataError, match="prompt's 'dog' is not among"):
        WORDS.encode_prompt("the dog")
    with pytest.raises(DataError, match="at least one token"):
        CHARS.encode_prompt("")


@given(st.text(alphabet="aé \n_", min_size=1))
def test_what_a_prompt_says_is_what_its_ids_say(text: str) -> None:
    decode = CHARS.decoder()
    assert "".join(map(decode, CHARS.encode_prompt(text))) == text


def test_text_comes_out_as_its_unit_is_read() -> None:
    for tokens, sequence, text in (
        (PTB, [0, 2, 1, 3, 4], "a b\nN"),
        (WORDS, [0, 1, 2, 0, 3, 2], " the cat\nthe <unk>\n".lstrip()),
        (BYTES, [2, 3, 4, 0], "aé\n"),
        (BYTES, [3, 2], "\ufffda"),
    ):
        assert "".join(map(tokens.decoder(), sequence)) == text


@pytest.mark.skipif(not Path("/dev/fd").exists(), reason="this system has no /dev/fd")
@pytest.mark.parametrize(
    ("tokens", "content"),
    [
        (WORDS, b"the cat\r\nthe <unk>\n"),
        (BYTES, "a é\n".encode()),
        (CHARS, "a é\n_".encode()),
        (WORDS, b""),
        (WORDS, b"the cat\n" * 5000),
    ],
)
def test_what_comes_out_of_a_pipe_is_read_once_and_named_by_the_bytes_that_came(
    tmp_path: Path, tokens: Tokens, content: bytes
) -> None:
    (tmp_path / "t.txt").write_bytes(content)
    expected = tokens.encode_file(tmp_path / "t.txt")
    assert expected.sha256 == hashlib.sha256(content).hexdigest()
    reader, writer = os.pipe()
    try:
        with os.fdopen(writer, "wb") as file:
            file.write(content)
        found = tokens.encode_file(Path(f"/dev/fd/{reader}"))
    finally:
        os.close(reader)
    assert found.sha256 == expected.sha256
    assert found.ids.tolist() == expected.ids.tolist()
