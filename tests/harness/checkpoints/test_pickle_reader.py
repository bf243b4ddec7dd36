"""Pickles read as data: values against `pickle` itself, and refusals."""

from __future__ import annotations

import collections
import io
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from official_files import Call, Global, Instance, Raw, pickled, run_limited

from harness.checkpoints.awd_lstm_lm import pickle_reader
from harness.checkpoints.awd_lstm_lm.allow_list import BOUND_METHOD, MalformedError, Name, Pairs, Record


def read(data: bytes) -> Any:
    return pickle_reader.read(io.BytesIO(data), lambda value: value)


def plain(value: Any) -> Any:
    if isinstance(value, Pairs):
        return {key: plain(item) for key, item in value.pairs}
    return type(value)(map(plain, value)) if isinstance(value, list | tuple) else value


scalars = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(max_size=20)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.lists(inner, max_size=5).map(tuple)
        | st.dictionaries(st.text(max_size=5) | st.integers(0, 99), inner, max_size=5)
    ),
    max_leaves=20,
)


@settings(max_examples=60, deadline=None)
@given(values, st.sampled_from([2, 3, 4]))
def test_plain_values_are_read_as_pickle_wrote_them(value: Any, protocol: int) -> None:
    assert plain(read(pickle.dumps(value, protocol))) == value


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_a_value_or_one_line_of_refusal(data: bytes) -> None:
    message = ""
    try:
        read(b"\x80\x02" + data)
    except MalformedError as error:
        message = str(error)
    assert "\n" not in message


class Evil:
    def __init__(self, *command: Any) -> None:
        self.command = command

    def __reduce__(self) -> Any:
        return self.command


@pytest.mark.parametrize("protocol", [2, 5])
@pytest.mark.parametrize(
    ("value", "named"),
    [
        (Evil(os.system, ("touch owned",)), rf"names {os.name}\.system"),
        (Evil(eval, ("1",)), r"names builtins\.eval"),
        (Evil(__import__, ("os",)), r"names builtins\.__import__"),
        (Evil(subprocess.Popen, (["true"],)), r"names (subprocess|commands)\.Popen"),
        (collections.Counter(), r"names collections\.Counter"),
        ([{"a": (Evil(os.system, ("true",)),)}], rf"names {os.name}\.system"),
        (Evil(getattr, (Evil(__import__, ("os",)), "system")), r"names builtins\.__import__"),
        (Evil(getattr, ("text", "format")), r"calls builtins\.getattr with arguments"),
        (Evil(bytearray, (1 << 30,)), r"names builtins\.bytearray"),
    ],
)
def test_names_outside_the_allow_list_are_refused(value: Any, named: str, protocol: int) -> None:
    with pytest.raises(MalformedError, match=named):
        read(pickle.dumps(value, protocol))


DROP = Instance(Global("weight_drop", "WeightDrop"))
ORDERED = Global("collections", "OrderedDict")
GETATTR = Global("__builtin__", "getattr")
UNUSUAL = "with arguments that no official checkpoint has"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (Call(Call(ORDERED, ()), ()), "calls something that is not a name"),
        (Call(Global("model", "RNNModel"), ()), r"calls model\.RNNModel"),
        (Call(Global("__builtin__", "list"), ()), r"calls builtins\.list"),
        (Instance(ORDERED), r"makes an instance of collections\.OrderedDict"),
        (Instance(GETATTR), r"makes an instance of builtins\.getattr"),
        (Call(GETATTR, (DROP, "__class__")), UNUSUAL),
        (Call(GETATTR, (ORDERED, "__init__")), UNUSUAL),
        (Call(Global("torch._utils", "_rebuild_parameter"), ("x",)), UNUSUAL),
        (Call(Global("torch._utils", "_rebuild_tensor_v2"), (1, 2, 3, 4)), UNUSUAL),
        (Call(Global("collections", "defaultdict"), (ORDERED,)), UNUSUAL),
        (Call(ORDERED, (1, 2)), UNUSUAL),
        (Raw(b"cos\nsystem\n(S'true'\ntR"), r"names os\.system"),
        (Raw(b"(S'true'\nios\nsystem\n"), "opcode STRING"),
        (Raw(b"\x82\x01"), "opcode EXT1"),
        (Raw(b"\xfe"), "xfe' unknown"),
        (Raw(b"cos\x1b[31m\nsystem\n"), r"names os\\x1b\[31m\.system"),
        (Raw(b"c" + b"a" * 1000), "no newline"),
        (Raw(b"cos\\d\nx\n"), "names|invalid escape"),
        (Raw(b"h\x05"), "memo slot 5 is read before"),
        (Raw(b"Nr\xff\xff\xff\xff"), "memo slot 4,294,967,295 is beyond"),
        (Raw(b"X\xff\xff\xff\xffshort"), "expected 4294967295 bytes"),
        (Raw(b"\x8e" + b"\xff" * 8), "damaged"),
        (Raw(b"\x8b\xff\xff\xff\x7f"), "not enough data"),
        (Raw(b"X\x01\x00\x00\x00\xff"), "utf-8"),
        (Raw(b"R"), "more from its stack"),
        (Raw(b"(NR"), "more from its stack"),
        (Raw(b"NNa"), "appends to something"),
        (Raw(b"NNNs"), "sets items of something"),
        (Raw(b"}(Nu"), "sets items of something"),
        (Raw(b"NNb"), "gives a state to something"),
        (Raw(b"NN"), "does not end with one value"),
        (Raw(b"\x80\x09"), "protocol 9"),
    ],
)
def test_what_no_checkpoint_holds_is_refused(value: Any, message: str) -> None:
    with pytest.raises(MalformedError, match=message):
        read(pickled(value))


def test_allowed_names_become_inert_records() -> None:
    bound = Call(GETATTR, (DROP, BOUND_METHOD))
    items = Call(ORDERED, ([["a", 1], ["b", (2,)]],))
    model = Instance(Global("model", "RNNModel"), {"a": 1})
    value = read(pickled([model, bound, Global("__builtin__", "list"), items]))
    assert [type(item) for item in value] == [Record, Record, Name, Pairs]
    assert (value[0].path, value[0].state.by_text()) == ("model.RNNModel", {"a": 1})
    assert plain(value[3]) == {"a": 1, "b": (2,)}


# A tuple of two, sixty times over: 2**60 leaves for anything that walks, hashes or prints it.
DOUBLED = b")" + b"q\x00h\x00\x86" * 60

BOMBS = {
    "lists": b"]" * 2_000_000,
    "nested lists": b"](" * 100_000,
    "deep tuples": b")" + b"\x85" * 240_000 + b".",
    "a doubled tuple": DOUBLED + b".",
    "a doubled tuple as a key": b"}" + DOUBLED + b"Ns.",
    "a doubled tuple as a name": b"N" + DOUBLED + b"\x93.",
    "a doubled tuple as a callee": DOUBLED + b")R.",
    "a doubled tuple as an id": DOUBLED + b"Q.",
    "a long list in many calls": (
        b"(](" + b"N" * 100_000 + b"e\x85q\x01ccollections\nOrderedDict\nq\x02" + b"h\x02h\x01R" * 45_000 + b"t."
    ),
    "a tensor of many dimensions": (
        b"((" + b"K\x01" * 50_000 + b"tq\x00ctorch._utils\n_rebuild_tensor\nq\x01(NK\x00h\x00h\x00tq\x03"
        + b"h\x01h\x03R" * 60_000 + b"t."
    ),
    "a huge text": b"X\xff\xff\xff\xff",
    "a huge memo": b"Nr\xff\xff\xff\x7f",
    "a huge number": b"\x8b\xff\xff\xff\x7f",
}  # fmt: skip
READ_ALL = """
import io, resource, sys
from pathlib import Path
from harness.checkpoints.awd_lstm_lm import allow_list, pickle_reader

def persistent_id(value):
    raise allow_list.MalformedError("no ids here")

limit = 400 << 20
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
files = [Path(path).read_bytes() for path in sys.argv[1:]]
events = []
kinds = ("os.", "subprocess", "pickle", "exec", "compile", "socket", "import", "open")
sys.addaudithook(lambda event, args: events.append(event) if event.startswith(kinds) else None)
lines = []
for data in files:
    try:
        pickle_reader.read(io.BytesIO(data), persistent_id)
        lines.append("a value")
    except allow_list.MalformedError as error:
        lines.append(str(error))
print(*lines, sep="\\n")
assert events == [], events
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the memory limit works on Linux only")
def test_bombs_are_read_within_400_mib_and_without_side_effects(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in BOMBS]
    for path, data in zip(paths, BOMBS.values(), strict=True):
        path.write_bytes(b"\x80\x02" + data)
    run = run_limited(READ_ALL, *paths)
    assert run.returncode == 0, run.stderr
    assert len(run.stdout.splitlines()) == len(BOMBS), "each is a value or one line of refusal"
