"""`harness compress` and `harness decompress`: the same bytes, or one line and no file."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from invoking import call
from pretrained_factory import TEXT, save

import harness
import lm_models
from harness.checkpoints import format, model
from harness.checkpoints.model import model_config
from harness.core.interfaces import LoadedModel
from harness.evaluation.coding import compressor
from harness.system.source import SEARCH_PATH

pytestmark = pytest.mark.skipif(find_spec("constriction") is None, reason="the extra audit is not installed")

BLOCK = {"builder": "awd-lstm", "layers": 1, "hidden": 8, "embedding": 8}
VOCABULARIES = {
    "byte": [str(value) for value in range(256)],
    "char": ["<eos>", "_", *"abcdefghij"],
    "word": ["<eos>", "<unk>", "the", "cat", "sat"],
}
CONTENT = b" the cat sat\non a mat, \xc3\xa9 \xff\n" * 20


def saved(folder: Path, vocabulary: list[str], seed: int = 0) -> Path:
    torch.manual_seed(seed)
    built = lm_models.build("awd-lstm", model_config(BLOCK), vocab_size=len(vocabulary))
    format.save(folder, {"model": built.state_dict()}, {"model": BLOCK, "vocabulary": vocabulary})
    return folder


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("checkpoints")
    return {unit: saved(folder / unit, vocabulary) for unit, vocabulary in VOCABULARIES.items()}


@pytest.fixture(scope="module")
def loaded(checkpoints: dict[str, Path]) -> dict[str, LoadedModel]:
    return {unit: model.load(folder, device="cpu") for unit, folder in checkpoints.items()}


@pytest.fixture(scope="module")
def compressed(checkpoints: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """CONTENT as the command compresses it."""
    folder = tmp_path_factory.mktemp("compressed")
    (folder / "text").write_bytes(CONTENT)
    done = call("compress", checkpoints["char"], folder / "text", folder / "made", "--device", "cpu")
    assert done.exit_code == 0, done.stderr
    return (folder / "made").read_bytes()


@pytest.fixture
def made(compressed: bytes, tmp_path: Path) -> Path:
    """A compressed file of CONTENT, and the text in the same folder."""
    (tmp_path / "text").write_bytes(CONTENT)
    (tmp_path / "made").write_bytes(compressed)
    return tmp_path / "made"


def refused(*arguments: object, out: Path, says: str) -> None:
    done = call(*arguments, "--device", "cpu")
    assert done.exit_code == 2
    lines = [line for line in done.stderr.splitlines() if line.startswith("harness: ")]
    assert len(lines) == 1, done.stderr
    assert says in lines[0]
    assert "Traceback" not in done.stderr
    assert not out.exists()


@pytest.mark.parametrize("unit", VOCABULARIES)
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    content=st.binary(max_size=40) | st.text("the cat\n\u00e9_<", max_size=40).map(str.encode),
    streams=st.integers(1, 9),
)
def test_any_bytes_come_back(unit: str, content: bytes, streams: int, loaded: dict[str, LoadedModel]) -> None:
    file = compressor.compress(loaded[unit], content, streams=streams).file
    assert compressor.decompress(loaded[unit], file).content == content


@pytest.mark.parametrize("unit", VOCABULARIES)
def test_a_file_comes_back(unit: str, checkpoints: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "text").write_bytes(CONTENT)
    done = call("compress", checkpoints[unit], tmp_path / "text", tmp_path / "made", "--device", "cpu", "--json")
    answer = json.loads(done.stdout)
    parts = ("code_bytes", "residual_bytes", "header_bytes")
    size = (tmp_path / "made").stat().st_size
    assert answer["compressed_bytes"] == size == sum(answer[name] for name in parts)
    assert answer["bits_per_byte"] == 8 * size / len(CONTENT)
    assert answer["bits_per_char"] is None  # not UTF-8
    back = call("decompress", checkpoints[unit], tmp_path / "made", tmp_path / "back", "--device", "cpu")
    assert back.exit_code == 0, back.stderr
    assert (tmp_path / "back").read_bytes() == CONTENT
    assert f"{size:,} bytes to {len(CONTENT):,}" in back.stdout


def test_the_closing_line_has_sizes_rates_and_speed(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "text").write_text("abc é\n" * 50)
    done = call(
        "compress", checkpoints["byte"], tmp_path / "text", tmp_path / "made", "--streams", 3, "--device", "cpu"
    )
    size = (tmp_path / "made").stat().st_size
    assert f": 350 bytes to {size:,} (" in done.stdout
    assert f"{8 * size / 350:.4f} bits per byte, {8 * size / 300:.4f} bits per character; 3 streams" in done.stdout
    assert "MB/s, checked in" in done.stdout


def test_python_does_the_same(checkpoints: dict[str, Path], made: Path, tmp_path: Path) -> None:
    parts: list[tuple[str, int]] = []

    def on_start(part: str, num_tokens: int) -> Any:
        parts.append((part, num_tokens))
        return parts.append

    compressed = harness.compress(
        checkpoints["char"], tmp_path / "text", tmp_path / "again", device="cpu", on_start=on_start
    )
    assert compressed.file == made.read_bytes() == (tmp_path / "again").read_bytes()
    assert [part for part in parts if isinstance(part, tuple)] == [
        ("compressing", compressed.num_tokens), ("checking", compressed.num_tokens)
    ]  # fmt: skip
    assert sum(part for part in parts if isinstance(part, int)) == 2 * compressed.num_tokens  # type: ignore[misc]
    harness.decompress(checkpoints["char"], made, tmp_path / "back", device="cpu")
    assert (tmp_path / "back").read_bytes() == CONTENT


def test_a_damaged_byte_anywhere_is_never_a_wrong_text(loaded: dict[str, LoadedModel]) -> None:
    file = compressor.compress(loaded["char"], CONTENT[:60]).file
    for place in range(len(file)):
        changed = file[:place] + bytes([file[place] ^ 0x10]) + file[place + 1 :]
        with pytest.raises(harness.HarnessError):
            compressor.decompress(loaded["char"], changed)


def test_a_damaged_cut_or_longer_file_is_one_line(checkpoints: dict[str, Path], made: Path, tmp_path: Path) -> None:
    sound = made.read_bytes()
    middle = len(sound) - 60
    changed = sound[:middle] + bytes([sound[middle] ^ 1]) + sound[middle + 1 :]
    for content in (changed, sound[:-1], sound[: len(sound) // 2], sound + b"\0", b"", CONTENT):
        made.write_bytes(content)
        says = "damaged" if content != CONTENT else "none of `harness compress`"
        refused("decompress", checkpoints["char"], made, tmp_path / "back", out=tmp_path / "back", says=says)


def test_another_model_is_refused(made: Path, tmp_path: Path) -> None:
    other = saved(tmp_path / "other", VOCABULARIES["char"], seed=1)
    refused("decompress", other, made, tmp_path / "back", out=tmp_path / "back", says="coded with another model")


def test_another_number_of_threads_is_refused(checkpoints: dict[str, Path], made: Path, tmp_path: Path) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(before + 1)
    try:
        says = f"threads {before}, here it is {before + 1}"
        refused("decompress", checkpoints["char"], made, tmp_path / "back", out=tmp_path / "back", says=says)
    finally:
        torch.set_num_threads(before)


def test_a_model_that_differs_from_pass_to_pass_makes_no_file(
    checkpoints: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "text").write_bytes(CONTENT)
    unsteady, count = type(model.load(checkpoints["char"], device="cpu").model), iter(range(10**6))
    steady = unsteady.log_probs
    monkeypatch.setattr(
        unsteady, "log_probs", lambda self, h: torch.log_softmax(steady(self, h) * (1 + next(count) / 99), -1)
    )
    out = tmp_path / "made"
    refused("compress", checkpoints["char"], tmp_path / "text", out, out=out, says="differ from one pass to the next")


def test_an_existing_file_stays(checkpoints: dict[str, Path], made: Path, tmp_path: Path) -> None:
    sound = made.read_bytes()
    for command, file in (("compress", tmp_path / "text"), ("decompress", made)):
        done = call(command, checkpoints["char"], file, made, "--device", "cpu")
        assert done.exit_code == 2
        assert done.stderr.endswith(f"harness: {made}: exists; name a new file\n")
    assert made.read_bytes() == sound


def test_what_cannot_be_read_is_one_line(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "made"
    refused("compress", checkpoints["char"], tmp_path / "none", out, out=out, says="none cannot be read: No such file")
    refused("compress", checkpoints["char"], tmp_path, out, out=out, says="is a folder, not a file")
    (tmp_path / "text").write_bytes(CONTENT)
    refused("compress", tmp_path / "nothing", tmp_path / "text", out, out=out, says="nothing")


def test_a_full_disk_leaves_no_file(
    checkpoints: dict[str, Path], made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    for command, file in (("compress", tmp_path / "text"), ("decompress", made)):
        out = tmp_path / f"out-{command}"
        refused(command, checkpoints["char"], file, out, out=out, says=f"{out}: cannot be written: No space left")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["made", "text"]


@contextmanager
def running(*arguments: object) -> Iterator[subprocess.Popen[bytes]]:
    code = "import harness.runs.reporter as r; r.PLAIN_EVERY_S = 0; from harness.commands.main import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments), "--device", "cpu"],
        env={**os.environ, "PYTHONPATH": SEARCH_PATH},
        stderr=subprocess.PIPE,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize(
    "end", [signal.SIGTERM, *(pytest.param(each, marks=pytest.mark.slow) for each in (signal.SIGINT, signal.SIGKILL))]
)
def test_a_stopped_command_leaves_no_file(end: signal.Signals, checkpoints: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "text").write_bytes(CONTENT * 2000)
    with running("compress", checkpoints["char"], tmp_path / "text", tmp_path / "made", "--streams", 1) as process:
        assert process.stderr
        assert b"compressing" in process.stderr.readline()
        process.send_signal(end)
        rest = process.stderr.read()
        status = process.wait()
    assert [path.name for path in tmp_path.iterdir()] == ["text"]
    if end != signal.SIGKILL:
        assert status == 130
        assert rest.splitlines()[-1:] == [b"harness: stopped"]


def test_a_pretrained_model_compresses_its_own_tokens(tmp_path: Path) -> None:
    pytest.importorskip("transformers", reason="the extra hf is not installed")
    name = f"hf:{save(tmp_path / 'tiny')}"
    (tmp_path / "text").write_bytes(TEXT.encode()[:400])
    done = call("compress", name, tmp_path / "text", tmp_path / "made", "--device", "cpu", "--streams", 3)
    assert done.exit_code == 0, done.stderr
    back = call("decompress", name, tmp_path / "made", tmp_path / "back", "--device", "cpu")
    assert back.exit_code == 0, back.stderr
    assert (tmp_path / "back").read_bytes() == TEXT.encode()[:400]
    (tmp_path / "text").write_bytes(b"\xff\n")
    out = tmp_path / "more"
    refused("compress", name, tmp_path / "text", out, out=out, says="cannot say this file: byte 0 is not UTF-8")
