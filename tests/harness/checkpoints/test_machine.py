"""What a pickle may say, and what is refused. `pickle` itself writes the oracle's side."""

from __future__ import annotations

import collections
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pickle_assembler import Call, Global, Instance, Raw, pickled

from harness.checkpoints.awd_lstm_lm import unpickler
from harness.checkpoints.awd_lstm_lm.values import MalformedError, Mapping, Name, Record
from harness.system.source import ROOT


def read(data: bytes) -> Any:
    value, end = unpickler.read(data, 0, lambda value: value)
    assert end == len(data)
    return value


def plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.pairs}
    if isinstance(value, list | tuple):
        return type(value)(map(plain, value))
    return value


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
def test_plain_values_come_out_as_pickle_wrote_them(value: Any, protocol: int) -> None:
    assert plain(read(pickle.dumps(value, protocol))) == value


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_a_value_or_one_refusal(data: bytes) -> None:
    try:
        unpickler.read(b"\x80\x02" + data, 0, lambda value: value)
    except MalformedError as error:
        said = str(error)
    else:
        said = ""
    assert "\n" not in said


class Evil:
    def __init__(self, *command: Any) -> None:
        self.command = command

    def __reduce__(self) -> Any:
        return self.command


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize(
    ("what", "named"),
    [
        (Evil(os.system, ("touch owned",)), rf"names {os.name}\.system"),
        (Evil(eval, ("1",)), r"names (builtins|__builtin__)\.eval"),
        (Evil(exec, ("1",)), r"names (builtins|__builtin__)\.exec"),
        (Evil(__import__, ("os",)), r"names (builtins|__builtin__)\.__import__"),
        (Evil(subprocess.Popen, (["true"],)), r"names (subprocess|commands)\.Popen"),
        (collections.Counter(), r"names collections\.Counter"),
        ([{"a": (Evil(os.system, ("true",)),)}], rf"names {os.name}\.system"),
        (Evil(getattr, (Evil(__import__, ("os",)), "system")), r"names (builtins|__builtin__)\.__import__"),
        (Evil(getattr, ("text", "format")), r"calls (builtins|__builtin__)\.getattr on something other"),
    ],
)
def test_what_is_not_on_the_list_is_refused_by_its_name(what: Any, named: str, protocol: int) -> None:
    with pytest.raises(MalformedError, match=named):
        read(pickle.dumps(what, protocol))


DROP = Instance(Global("weight_drop", "WeightDrop"))
ORDERED = Global("collections", "OrderedDict")


@pytest.mark.parametrize(
    ("what", "message"),
    [
        (Call(Call(ORDERED, ()), ()), "calls something that is not a name"),
        (Call(Global("model", "RNNModel"), ()), "calls model.RNNModel"),
        (Call(Global("__builtin__", "list"), ()), "calls __builtin__.list"),
        (Instance(Global("collections", "OrderedDict")), "makes an instance of collections.OrderedDict"),
        (Instance(Global("__builtin__", "getattr")), "makes an instance of __builtin__.getattr"),
        (Call(Global("__builtin__", "getattr"), (DROP, "__class__")), "other than WeightDrop's widget_demagnetizer"),
        (Call(Global("__builtin__", "getattr"), (ORDERED, "__init__")), "other than WeightDrop's widget_demagnetizer"),
        (Call(Global("torch._utils", "_rebuild_parameter"), ("x",)), "with arguments no official checkpoint"),
        (Call(Global("torch._utils", "_rebuild_tensor_v2"), (1, 2, 3, 4)), "with arguments no official checkpoint"),
        (Call(Global("collections", "defaultdict"), (ORDERED,)), "with arguments no official checkpoint"),
        (Call(ORDERED, (1, 2)), "with arguments no official checkpoint"),
        (Raw(b"cos\nsystem\n(S'true'\ntR"), "names os.system"),
        (Raw(b"(S'true'\nios\nsystem\n"), "opcode STRING"),
        (Raw(b"\x82\x01"), "opcode EXT1"),
        (Raw(b"\xfe"), "byte 0xfe"),
        (Raw(b"cos\x1b[31m\nsystem\n"), r"names os\\x1b\[31m\.system"),
        (Raw(b"c" + b"a" * 1000), "does not end"),
        (Raw(b"h\x05"), "memo slot 5 is read before"),
        (Raw(b"Nr\xff\xff\xff\xff"), "memo slot 4,294,967,295 is beyond"),
        (Raw(b"X\xff\xff\xff\xffshort"), "wants 4,294,967,295 bytes"),
        (Raw(b"\x8e" + b"\xff" * 8), "opcode BINBYTES8"),
        (Raw(b"\x8b\xff\xff\xff\x7f"), "opcode LONG4"),
        (Raw(b"X\x01\x00\x00\x00\xff"), "not UTF-8"),
        (Raw(b"R"), "more from its stack"),
        (Raw(b"(NR"), "more from its stack"),
        (Raw(b"NNa"), "appends to something"),
        (Raw(b"NNNs"), "sets items of something"),
        (Raw(b"}(Nu"), "sets items of something"),
        (Raw(b"NNb"), "gives a state to something"),
        (Raw(b"NN"), "values left over"),
        (Raw(b"\x80\x09"), "protocol 9"),
    ],
)
def test_what_a_checkpoint_never_does_is_refused_in_words(what: Any, message: str) -> None:
    with pytest.raises(MalformedError, match=message):
        read(pickled(what))


def test_allowed_names_become_records_and_nothing_else() -> None:
    bound = Call(Global("__builtin__", "getattr"), (DROP, "widget_demagnetizer_y2k_edition"))
    value = read(pickled([Instance(Global("model", "RNNModel"), {"a": 1}), bound, Global("__builtin__", "list")]))
    assert isinstance(value[0], Record)
    assert (value[0].name.full, value[0].state.by_text()) == ("model.RNNModel", {"a": 1})
    assert isinstance(value[1], Record)
    assert isinstance(value[2], Name)


def test_an_ordered_dict_of_python_2_brings_its_items_along() -> None:
    items = [["a", 1], ["b", (2,)]]
    assert plain(read(pickled(Call(ORDERED, (items,))))) == {"a": 1, "b": (2,)}


DOUBLED = b")" + b"q\x00h\x00\x86" * 60
"""A tuple of two, sixty times over: 2**60 leaves for whatever walks, hashes or prints it."""

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
WATCHED = """
import sys, resource
from pathlib import Path
from harness.checkpoints.awd_lstm_lm import unpickler as machine
from harness.checkpoints.awd_lstm_lm.values import MalformedError

def persistent(value):
    raise MalformedError("no ids here")

limit = 400 << 20
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
files = [(path, Path(path).read_bytes()) for path in sys.argv[1:]]
done = []
kinds = ("os.", "subprocess", "pickle", "exec", "compile", "socket", "import", "open")
sys.addaudithook(lambda event, args: done.append(event) if event.startswith(kinds) else None)
said = []
for path, data in files:
    try:
        machine.read(data, 0, persistent)
        said.append("a value")
    except MalformedError as error:
        said.append(str(error))
print(*said, sep="\\n")
assert done == [], done
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits of memory are Linux's here")
def test_bombs_are_read_within_a_limit_of_memory_and_nothing_is_done(tmp_path: Path) -> None:
    paths = []
    for name, data in BOMBS.items():
        paths.append(tmp_path / name)
        paths[-1].write_bytes(b"\x80\x02" + data)
    run = subprocess.run(
        [sys.executable, "-c", WATCHED, *map(str, paths)], capture_output=True, text=True, cwd=ROOT, timeout=200
    )
    assert run.returncode == 0, run.stderr
    assert len(run.stdout.splitlines()) == len(BOMBS), "each is a value or refused in one line"
