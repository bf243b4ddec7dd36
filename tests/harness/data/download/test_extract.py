"""Archives whose content is not trusted."""

from __future__ import annotations

import io
import random
import tarfile
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from tiny_datasets import refusal, sha256, zip_file

from harness.data.download.extract import extract
from harness.data.registry import SourceFile

BODY = random.Random(1).randbytes(20_000)
MEMBER = "folder/real.txt"


ARCHIVE = SourceFile(filename="a.zip", size=1, md5="0" * 32)
SOURCE = SourceFile(filename="real.txt", size=len(BODY), sha256=sha256(BODY), archive=ARCHIVE, member=MEMBER)


def write_tar(path: Path, members: dict[str, bytes], kind: bytes = tarfile.REGTYPE) -> None:
    with tarfile.open(path, "w:gz") as archive:
        for name, body in members.items():
            info = tarfile.TarInfo(name)
            info.size, info.type, info.linkname = len(body), kind, "/etc/passwd"
            archive.addfile(info, io.BytesIO(body))


def write_zip_link(path: Path) -> None:
    info = zipfile.ZipInfo(MEMBER)
    info.external_attr = 0o120777 << 16
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(info, "/etc/passwd")


def changed(write: Callable[..., object], change: Callable[[bytes], bytes], body: bytes = BODY) -> Callable[..., None]:
    def write_changed(path: Path) -> None:
        write(path, {MEMBER: body})
        path.write_bytes(change(path.read_bytes()))

    return write_changed


LONG, EXPECTED = (size.to_bytes(4, "little") for size in (5_000_000, len(BODY)))
ENDLESS = tarfile.TarInfo("padding")
ENDLESS.size = (1 << 30) - 511  # after a header of 512 bytes


@pytest.mark.parametrize(("write", "member"), [(zip_file, MEMBER), (write_tar, MEMBER), (write_tar, f"./{MEMBER}")])
def test_only_the_requested_member_is_written(
    tmp_path: Path, write: Callable[[Path, dict[str, bytes]], object], member: str
) -> None:
    write(tmp_path / "a", {"folder/other": b"no", member: BODY, "last": b"no"})
    assert extract(tmp_path / "a", [SOURCE], tmp_path / "out") == {"real.txt": tmp_path / "out" / "real.txt"}
    assert [(path.name, path.read_bytes()) for path in (tmp_path / "out").iterdir()] == [("real.txt", BODY)]


WRITERS, LEAVES = (zip_file, write_tar), "would leave its folder"
ESCAPES = ("../real.txt", "folder/../../real.txt", "/etc/real.txt", "..\\real.txt", "C:\\x")


@pytest.mark.parametrize(
    ("write", "message"),
    [
        *[(partial(write, members={name: b"", MEMBER: BODY}), LEAVES) for name in ESCAPES for write in WRITERS],
        (partial(zip_file, members={MEMBER: BODY, "../late": b""}), LEAVES),
        (write_zip_link, "is a link or a folder"),
        (partial(write_tar, members={MEMBER: b""}, kind=tarfile.SYMTYPE), "is a link or a folder"),
        (partial(write_tar, members={MEMBER: b""}, kind=tarfile.LNKTYPE), "is a link or a folder"),
        (partial(zip_file, members={MEMBER: bytes(50_000_000)}), "expected 20,000"),
        (changed(zip_file, lambda content: content.replace(LONG, EXPECTED), bytes(5_000_000)), ""),  # a false header
        (lambda path: path.write_bytes(ENDLESS.tobuf() + bytes(1024)), "unpacks to more than"),
        (partial(zip_file, members={MEMBER: BODY[::-1]}), "expected sha256"),
        (partial(zip_file, members={"b": b""}), f"does not hold {MEMBER}"),
        *[(changed(write_tar, lambda content, n=n: content[: n * len(content) // 10]), "") for n in (1, 5, 9)],
        (changed(zip_file, lambda content: content[:50] + bytes(10) + content[60:]), ""),
        (lambda path: path.write_bytes(b"<html>not found</html>"), "neither a zip nor a tar"),
    ],
)
def test_a_bad_archive_is_refused(tmp_path: Path, write: Callable[[Path], object], message: str) -> None:
    write(tmp_path / "a.zip")
    text = refusal(lambda: extract(tmp_path / "a.zip", [SOURCE], tmp_path / "out"))
    assert (str(tmp_path / "a.zip") in text, message in text) == (True, True)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["a.zip"], "nothing was written"
