"""Archives that nobody vouches for."""

from __future__ import annotations

import hashlib
import io
import random
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.core.errors import DataError
from harness.data.download.extract import extract
from harness.data.registry import RemoteFile, SourceFile

BODY = b"the real thing\n" * 100
ARCHIVE = RemoteFile(filename="a.zip", md5="0" * 32)


def wanted(member: str = "folder/real.txt", body: bytes = BODY) -> SourceFile:
    sha256 = hashlib.sha256(body).hexdigest()
    return SourceFile(filename="real.txt", size=len(body), sha256=sha256, archive=ARCHIVE, member=member)


def zip_of(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, body in members.items():
            archive.writestr(name, body)
    return path


def tar_of(path: Path, members: list[tuple[tarfile.TarInfo, bytes]]) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for info, body in members:
            info.size = len(body)
            archive.addfile(info, io.BytesIO(body))
    return path


def refused(archive: Path, tmp_path: Path, source: SourceFile | None = None) -> str:
    """The message; and nothing was written, inside or outside the folder."""
    before = {path for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(DataError) as error:
        extract(archive, [source or wanted()], tmp_path / "out")
    assert {path for path in tmp_path.rglob("*") if path.is_file()} == before
    assert "\n" not in str(error.value)
    assert str(archive) in str(error.value)
    return str(error.value)


def test_only_the_wanted_member_of_a_zip_is_written(tmp_path: Path) -> None:
    archive = zip_of(tmp_path / "a.zip", {"folder/other": b"no", "folder/real.txt": BODY, "last": b"no"})
    assert extract(archive, [wanted()], tmp_path / "out") == {"real.txt": tmp_path / "out" / "real.txt"}
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["real.txt"]
    assert (tmp_path / "out" / "real.txt").read_bytes() == BODY


def test_a_tar_with_dot_names_is_read(tmp_path: Path) -> None:
    members = [(tarfile.TarInfo("./folder/real.txt"), BODY), (tarfile.TarInfo("./x"), b"x")]
    archive = tar_of(tmp_path / "a.tgz", members)
    extract(archive, [wanted()], tmp_path / "out")
    assert (tmp_path / "out" / "real.txt").read_bytes() == BODY


@pytest.mark.parametrize("name", ["../real.txt", "folder/../../real.txt", "/etc/real.txt", "..\\real.txt", "C:\\x"])
def test_a_path_that_would_leave_the_folder_condemns_the_archive(tmp_path: Path, name: str) -> None:
    archive = zip_of(tmp_path / "a.zip", {name: b"evil", "folder/real.txt": BODY})
    assert "would leave its folder" in refused(archive, tmp_path)
    archive = tar_of(tmp_path / "a.tar", [(tarfile.TarInfo(name), b"evil"), (tarfile.TarInfo("folder/real.txt"), BODY)])
    assert "would leave its folder" in refused(archive, tmp_path)


def zip_link(path: Path) -> Path:
    info = zipfile.ZipInfo("folder/real.txt")
    info.external_attr = 0o120777 << 16
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(info, "/etc/passwd")
    return path


def tar_link(kind: bytes) -> Callable[[Path], Path]:
    def make(path: Path) -> Path:
        info = tarfile.TarInfo("folder/real.txt")
        info.type, info.linkname = kind, "/etc/passwd"
        return tar_of(path, [(info, b"")])

    return make


@pytest.mark.parametrize("make", [zip_link, tar_link(tarfile.SYMTYPE), tar_link(tarfile.LNKTYPE)])
def test_links_are_refused(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    assert "link" in refused(make(tmp_path / "a"), tmp_path)


def test_a_bomb_is_refused_by_its_header(tmp_path: Path) -> None:
    archive = zip_of(tmp_path / "a.zip", {"folder/real.txt": bytes(50_000_000)})
    assert archive.stat().st_size < 100_000
    assert "expected 1,500" in refused(archive, tmp_path)


def test_a_bomb_whose_header_lies_is_refused(tmp_path: Path) -> None:
    archive = zip_of(tmp_path / "a.zip", {"folder/real.txt": bytes(5_000_000)})
    true_size, lie = (5_000_000).to_bytes(4, "little"), len(BODY).to_bytes(4, "little")
    archive.write_bytes(archive.read_bytes().replace(true_size, lie))
    refused(archive, tmp_path)


def test_a_tar_that_unpacks_without_end_is_refused(tmp_path: Path) -> None:
    header = tarfile.TarInfo("padding")
    header.size = 3 << 30
    (tmp_path / "a.tar").write_bytes(header.tobuf() + bytes(1024))
    assert "unpacks to more than" in refused(tmp_path / "a.tar", tmp_path)


def test_other_content_of_the_right_size_is_refused(tmp_path: Path) -> None:
    archive = zip_of(tmp_path / "a.zip", {"folder/real.txt": BODY[::-1]})
    assert "expected sha256" in refused(archive, tmp_path)


def test_a_missing_member_is_named(tmp_path: Path) -> None:
    assert "does not hold folder/real.txt" in refused(zip_of(tmp_path / "a.zip", {"b": b""}), tmp_path)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_an_archive_that_ends_early(tmp_path: Path, share: float) -> None:
    body = random.Random(1).randbytes(20_000)
    whole = tar_of(tmp_path / "a.tgz", [(tarfile.TarInfo("folder/real.txt"), body)]).read_bytes()
    (tmp_path / "a.tgz").write_bytes(whole[: int(len(whole) * share)])
    refused(tmp_path / "a.tgz", tmp_path, wanted(body=body))


def test_damage_inside_a_zip(tmp_path: Path) -> None:
    archive = zip_of(tmp_path / "a.zip", {"folder/real.txt": bytes(range(256)) * 10})
    data = bytearray(archive.read_bytes())
    data[60:90] = bytes(30)
    archive.write_bytes(data)
    refused(archive, tmp_path, wanted(body=bytes(range(256)) * 10))


def test_something_that_is_no_archive(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(b"<html>not found</html>")
    assert "neither a zip nor a tar" in refused(tmp_path / "a.zip", tmp_path)
