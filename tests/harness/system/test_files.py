"""Writing and deleting: whole or not at all, in one module, and never through a link."""

from __future__ import annotations

import ast
import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.system import files, paths, source

WRITERS = {"write_text", "write_bytes", "touch", "unlink", "rmdir", "rmtree", "rename", "symlink_to", "hardlink_to",
           "copy", "copy2", "copyfile", "copytree", "move", "save_file", "mkstemp", "mkdtemp", "truncate"}  # fmt: skip
# `open` of anything with a mode, `Path.open` too; the mode is its second or first argument.
OPENERS = {"open", "fdopen"}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def writes(call: ast.Call) -> bool:
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    if name in OPENERS:
        # Descriptors are pipes and standard streams.
        if name == "fdopen" or (isinstance(call.func, ast.Attribute) and getattr(call.func.value, "id", "") == "os"):
            return False
        values = [*call.args, *(keyword.value for keyword in call.keywords if keyword.arg == "mode")]
        modes = [v.value for v in values if isinstance(v, ast.Constant) and isinstance(v.value, str)]
        return any(set(mode) <= set("rwaxbt+") and set(mode) & set("wax+") for mode in modes)
    return name in WRITERS


def test_only_one_module_writes_and_deletes() -> None:
    found = []
    for name, path in source.source_files().items():
        if path.suffix != ".py" or path == Path(files.__file__):
            continue
        calls = (node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call))
        found += [f"{name}:{call.lineno}" for call in calls if writes(call)]
    assert found == []


@pytest.mark.parametrize(
    "text",
    ["p.write_text('x')", "open(p, 'w')", "p.open('ab')", "open(p, mode='r+')", "shutil.rmtree(p)", "p.unlink()"],
)
def test_the_check_above_sees_a_write(text: str) -> None:
    [call] = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)]
    assert writes(call)
    assert not any(writes(node) for node in ast.walk(ast.parse("p.open('rb'), open(p)")) if isinstance(node, ast.Call))


@given(
    st.text(max_size=300)
    | st.sampled_from(["..", "../x", "/etc/x", "a/../../b", "C:\\x", "\ud800", "a\x00b", "é" * 101])
)
def test_a_name_from_a_file_stays_in_its_folder_or_is_refused(name: str) -> None:
    root = Path("/somewhere/results")
    if not paths.is_plain(name):
        with pytest.raises(OSError, match="is not a plain name") as refused:
            paths.under(root, name)
        assert refused.value.filename == str(root)
        assert str(refused.value.strerror).isprintable()
        return
    path = paths.under(root, name)
    assert Path(os.path.normpath(path)).parent == root
    assert path.name == name
    assert len(os.fsencode(path.name)) <= paths.MAX_BYTES


@pytest.mark.parametrize("name", ["a", "ptb-char-qrnn-s1-e9ebfb6e14", "2026-01-01T000000+0000", "x" * paths.MAX_BYTES])
def test_plain_names_are_taken(name: str) -> None:
    assert paths.under(Path("root"), name) == Path("root", name)


@pytest.mark.parametrize("content", ["new\r\nä", b"\x00\xff"])
def test_a_file_is_replaced_with_the_rights_of_any_new_file(tmp_path: Path, content: str | bytes) -> None:
    path = tmp_path / "folder" / ("x" * 255)
    files.write_atomic(path, "old")
    files.write_atomic(path, content)
    assert path.read_bytes() == (content.encode() if isinstance(content, str) else content)
    assert names(path.parent) == [path.name]
    (tmp_path / "plain").write_text("")
    assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize("call", ["open", "fsync", "replace"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES, errno.EIO, errno.EROFS])
def test_an_error_of_the_system_names_the_file_and_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, number: int
) -> None:
    path = tmp_path / "file"
    path.write_text("old")

    def fail(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(OSError, match=os.strerror(number)) as caught:
        files.write_atomic(path, "new")
    monkeypatch.undo()
    assert (caught.value.errno, caught.value.filename) == (number, str(path))
    assert (names(tmp_path), path.read_text()) == (["file"], "old")


@pytest.mark.parametrize("write", [lambda p: files.write_atomic(p, "x"), lambda p: files.open_new(p).close()])
@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_a_link_is_replaced_and_its_target_stays(
    tmp_path: Path, write: Callable[[Path], None], link: Callable[[Path, Path], None]
) -> None:
    target, path = tmp_path / "target", tmp_path / "link"
    target.write_text("precious")
    link(target, path)
    write(path)
    assert target.read_text() == "precious"
    assert not path.is_symlink()


def test_what_is_no_regular_file_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for name, reason in {"folder": "is a folder", "pipe": "is not a regular file"}.items():
        with pytest.raises(OSError, match=reason):
            files.write_atomic(tmp_path / name, "x")
    assert names(tmp_path) == ["folder", "pipe"]


def test_a_tree_is_removed_and_the_targets_of_its_links_stay(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").write_text("x")
    (tmp_path / "tree" / "sub").mkdir(parents=True)
    (tmp_path / "tree" / "sub" / "link").symlink_to(precious)
    (tmp_path / "other").symlink_to(precious)
    for name in ("tree", "other", "missing"):
        files.remove_tree(tmp_path / name)
    assert names(tmp_path) == ["precious"]
    assert names(precious) == ["file"]


@pytest.mark.parametrize("place", ["", "sub", "sub/deep", "file"])
def test_a_link_out_of_a_root_is_refused_at_any_depth(tmp_path: Path, place: str) -> None:
    (tmp_path / "elsewhere").mkdir()
    root = tmp_path / "root"
    (root / "run" / "sub").mkdir(parents=True)
    files.refuse_links(root / "run", root)
    (root / "run" / "inner").symlink_to(root / "run" / "sub")
    # A root may itself be a link, to a larger disk.
    (tmp_path / "results").symlink_to(root)
    files.refuse_links(tmp_path / "results" / "run", tmp_path / "results")
    path = root / "run" / place
    if path.exists():
        files.remove_tree(path)
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="leads out of"):
        files.refuse_links(root / "run", root)


def test_a_failed_folder_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()

    def fail(folder: Path) -> None:
        with files.new_folder(folder):
            (folder / "part").write_text("x")
            raise RuntimeError

    for place in ("empty", "a/b/c"):
        with pytest.raises(RuntimeError):
            fail(tmp_path / place)
    assert names(tmp_path) == ["empty"]
    assert names(tmp_path / "empty") == []
    (tmp_path / "file").write_text("x")
    for place in (".", "file"):
        with pytest.raises(OSError, match="name a new folder"), files.new_folder(tmp_path / place):
            pass


def test_what_killed_writers_left_is_removed(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / ".0123.partial").write_text("x")
    (tmp_path / "record.json").write_text("x")
    files.remove_partial(tmp_path)
    assert (names(tmp_path), names(tmp_path / "sub")) == (["record.json", "sub"], [])
