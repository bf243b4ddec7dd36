"""The YAML reader: values, positions, refusals, and little memory for any of them."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from harness.core.errors import SuiteError
from harness.suite.yaml_reader import MAX_BYTES, MAX_NODES, parse_yaml, plain, read_yaml


def value_of(text: str) -> object:
    node = parse_yaml(text, "x.yaml")
    assert node is not None
    return plain(node)


SCALARS = {
    "2e-3": 0.002, "1.2e-6": 1.2e-6, ".5": 0.5, "-3": -3, "12_000_000": 12_000_000, "010": 10, "0o17": 15, "0xff": 255,
    "1e3": 1000.0, "yes": "yes", "no": "no", "on": "on", "12:30": "12:30", "2018-03-22": "2018-03-22", "true": True,
    "~": None, "null": None, "'3'": "3", '"true"': "true", "!!str 3": "3",
}  # fmt: skip


def test_scalars_are_those_of_yaml_1_2() -> None:
    for text, value in SCALARS.items():
        assert repr(value_of(f"key: {text}")) == repr({"key": value})


def test_every_key_and_value_knows_its_line() -> None:
    root = parse_yaml("a: 1\nb:\n\n  c:\n  - x\n  - y\nd:\ne: 2\n", "x.yaml")
    assert root is not None
    assert str(root.members["b"].where) == "x.yaml:2"
    inner = root.members["b"].node.members["c"]
    assert str(inner.where) == "x.yaml:4"
    assert isinstance(inner.node.value, tuple)
    assert [str(item.where) for item in inner.node.value] == ["x.yaml:5", "x.yaml:6"]
    assert root.members["d"].node.value is None
    assert str(root.members["d"].node.where) == "x.yaml:7"


MERGES = """
base: &base {a: 1, b: 2}
other: &other {b: 3, c: 4}
one: {<<: *base, b: 5}
after: {b: 5, <<: *base}
both: {<<: [*base, *other], d: 6}
again: &again {<<: *base, e: 7}
nested: {<<: *again}
quoted: {'<<': 1}
list: [*base, *base]
"""


def test_anchors_and_merges_agree_with_another_reader() -> None:
    expected = YAML(typ="safe", pure=True).load(MERGES.replace("quoted: {'<<': 1}\n", ""))
    read = value_of(MERGES)
    assert isinstance(read, dict)
    assert read.pop("quoted") == {"<<": 1}
    assert read == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3\n", "x.yaml:3: the key 'a' is given twice (first at line 1)"),
        ("a:\n  b: 1\n  'b': 2\n", "x.yaml:3: the key 'b' is given twice (first at line 2)"),
        ("a: 1\nb: *no\n", "x.yaml:2: the alias '*no' is not defined above this line"),
        ("a: &a\n  b: *a\n", "x.yaml:2: the alias '*a' is used inside itself"),
        ("a: 1\n---\nb: 2\n", "x.yaml:2: a second document ('---') starts here; a suite is one document"),
        ("a: !!python/object/apply:os.system [x]\n", "x.yaml:1: the tag"),
        ("? [a, b]\n: 1\n", "x.yaml:1: a key must be one word or text"),
        ("a: [1, 2\nb: 3\n", "x.yaml:2: is not valid YAML:"),
        ("a:\n\t- b\n", "x.yaml:2: is not valid YAML: found character '\\t'"),
        ("a: 1\nb: .nan\n", "x.yaml:2: .nan is not a finite number"),
        ("a: -.inf\n", "x.yaml:1: -.inf is not a finite number"),
        ("a: 1e999\n", "x.yaml:1: the number 1e999 is out of range"),
        ("a: 9223372036854775808\n", "x.yaml:1: the number 9223372036854775808 is out of range"),
        ("a: 1\nb: \0\n", "x.yaml:2: is not valid YAML: the character U+0000 is not allowed"),
        ('a: "\\ud800"\n', "x.yaml:1: holds the control character U+D800"),
        ('a: "\\UFFFFFFFF"\n', "x.yaml: is not valid YAML:"),
        ("a: {<<: 3}\n", "x.yaml:1: '<<' takes an alias of a block"),
        ("a: " + "[" * 100, "x.yaml:1: is nested more than 40 levels deep"),
    ],
)
def test_refuses_with_line_and_reason(text: str, message: str) -> None:
    with pytest.raises(SuiteError) as caught:
        parse_yaml(text, "x.yaml")
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def bomb(levels: int, copies: int) -> str:
    lines = ["a0: &a0 [" + ", ".join(["lol"] * copies) + "]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * copies)}]" for n in range(1, levels)]
    return "\n".join(lines)


TOO_MANY = "expands to more than 20,000 values, the limit for a suite"


@pytest.mark.parametrize(
    "text",
    [
        bomb(30, 9),
        bomb(2000, 2),
        "a0: &a0 {x: 1}\n" + "\n".join(f"a{n}: &a{n} {{l: *a{n - 1}, r: *a{n - 1}}}" for n in range(1, 200)),
        "a: &a [" + "1, " * 2_000 + "1]\nb: [" + "*a, " * 20 + "]",
    ],
    ids=["lists", "binary", "mappings", "wide"],
)
def test_aliases_cannot_explode_memory(text: str) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(SuiteError, match=TOO_MANY):
            parse_yaml(text, "x.yaml")
        assert tracemalloc.get_traced_memory()[1] < 60e6
    finally:
        tracemalloc.stop()


def test_values_are_counted_without_aliases_too() -> None:
    with pytest.raises(SuiteError, match=TOO_MANY):
        parse_yaml("a: [" + "1, " * (MAX_NODES + 1) + "1]", "x.yaml")


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", ": is empty"),
        (b"---\n", ": is empty"),
        (b"- a\n", ":1: the top level must be a block of keys"),
        (b"a: 1\nb: \xff\n", ":2: is not UTF-8 text"),
        (b" " * (MAX_BYTES + 1), ": cannot be read: is larger than 1,048,576 bytes"),
    ],
)
def test_files_that_hold_no_suite(tmp_path: Path, raw: bytes, message: str) -> None:
    path = tmp_path / "x.yaml"
    path.write_bytes(raw)
    with pytest.raises(SuiteError) as caught:
        read_yaml(path)
    assert str(caught.value).startswith(f"{path}{message}")


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(SuiteError, match=r"no\.yaml: cannot be read: No such file"):
        read_yaml(tmp_path / "no.yaml")
    with pytest.raises(SuiteError, match="cannot be read: is a folder, not a file; give the path of a suite"):
        read_yaml(tmp_path)


def test_a_byte_order_mark_and_windows_line_ends_are_fine(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_bytes(b"\xef\xbb\xbfa: 1\r\nb: [x,\r\n 2]\r\n")
    assert plain(read_yaml(path)) == {"a": 1, "b": ["x", 2]}


YAML_PIECES = st.lists(
    st.sampled_from([*"ab:-?&*!|>%@`{}[],#'\"\\\n\t 019.e_~<=", "<<", "- ", ": ", "&a ", "*a", "---\n", "%YAML 1.1\n"]),
    max_size=40,
).map("".join)


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.text(max_size=60), YAML_PIECES))
def test_any_text_is_read_or_refused_in_one_line(text: str) -> None:
    message = "x.yaml"
    try:
        parse_yaml(text, "x.yaml")
    except SuiteError as error:
        message = str(error)
    assert message.startswith("x.yaml")
    assert "\n" not in message


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc", "Co", "Cn", "Zl", "Zp"]), max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abcxyz_-", min_size=1), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(st.text("abcxyz_-", min_size=1), JSON_VALUES, min_size=1, max_size=4))
def test_json_is_yaml(value: dict[str, object]) -> None:
    assert value_of(json.dumps(value, ensure_ascii=False)) == value
