"""Regular files of bounded size are read; everything else is refused at once, with the true reason."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.core.messages import reason
from harness.system.reading import open_regular, read_bytes, read_text


def link_to_pipe(path: Path) -> None:
    os.mkfifo(path.with_name("pipe"))
    path.symlink_to("pipe")


def bind(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as opened:
        opened.bind(str(path))


OTHER_KINDS: list[tuple[Callable[[Path], object], str]] = [
    (Path.mkdir, "is a folder, not a file"),
    (os.mkfifo, "is a named pipe, not a file"),
    (link_to_pipe, "is a named pipe, not a file"),
    (lambda path: path.symlink_to("/dev/zero"), "is a device, not a file"),
    (bind, "is a socket, not a file"),
    (lambda path: path.symlink_to(path), "Too many levels of symbolic links"),
    (lambda path: None, "No such file or directory"),
]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
@pytest.mark.parametrize(("make", "said"), OTHER_KINDS)
def test_what_is_no_regular_file_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[Path], object], said: str
) -> None:
    monkeypatch.chdir(tmp_path)  # the path of a socket may have 108 characters
    make(Path("x"))
    with pytest.raises(OSError, match=said) as caught:
        read_bytes(Path("x"))
    assert (reason(caught.value), caught.value.filename) == (said, "x")


@pytest.mark.parametrize("name", ["a\0b", "\ud800\udfff"])
def test_a_name_that_no_file_can_have_is_missing(tmp_path: Path, name: str) -> None:
    with pytest.raises(FileNotFoundError):
        read_text(tmp_path / name)


def test_a_file_is_read_up_to_its_bound_and_through_links(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"\xc3\xa9\r\n")
    (tmp_path / "b").symlink_to("a")
    assert read_text(tmp_path / "b", most=4) == "é\r\n"
    with pytest.raises(OSError, match="is larger than 3 bytes"):
        read_bytes(tmp_path / "a", most=3)
    # Without an end: the bound must not be judged by the stated size alone.
    with open_regular(Path("/proc/self/status")) as file:
        assert file.read(1)
