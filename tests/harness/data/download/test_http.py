"""Downloads against a local server that fails in every way a mirror can."""

from __future__ import annotations

import copy
import io
import random
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tiny_datasets import sha256

from harness.data.download import http
from harness.data.download.http import Unavailable, download, download_bars, download_lines
from harness.data.registry import SourceFile

if TYPE_CHECKING:
    from conftest import Site

BODY = random.Random(1).randbytes(200_000)


def source_of(*urls: str, body: bytes = BODY) -> SourceFile:
    return SourceFile(filename="tiny.bin", size=len(body), sha256=sha256(body), urls=urls)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


# Case -> how the page is served, the part from an earlier call, and the ranges that are requested.
ONE_MIRROR: dict[str, tuple[dict[str, Any], bytes, list[str | None]]] = {
    "complete answer": ({}, b"", [None]),
    "interrupted answer": ({"cut_after": [70_000]}, b"", [None, "bytes=70000-"]),
    "interrupted answer without length": ({"cut_after": [5_000], "sends_length": False}, b"", [None, "bytes=5000-"]),
    "part of an earlier call": ({}, BODY[:123_456], ["bytes=123456-"]),
    "complete part": ({}, BODY, []),
    "damaged part": ({}, b"x" * len(BODY), [None]),
    "part that is too long": ({}, b"x" * (len(BODY) + 10), [None]),
    "part of another version": ({}, b"old" * 100, ["bytes=300-", None]),
    "server that ignores ranges": ({"cut_after": [9], "honours_range": False}, b"", [None, "bytes=9-"]),
    "answer with another range": ({"range_shift": 7}, BODY[:1000], ["bytes=1000-", None]),
    "one server error": ({"statuses": [503]}, b"", [None, None]),
}


@pytest.mark.parametrize(("options", "part", "ranges"), ONE_MIRROR.values(), ids=ONE_MIRROR)
def test_one_mirror(site: Site, tmp_path: Path, options: dict[str, Any], part: bytes, ranges: list[str | None]) -> None:
    url, target = site.serve("/a", BODY, **copy.deepcopy(options)), tmp_path / "f"
    if part:
        (tmp_path / "f.part").write_bytes(part)
    download(source_of(url), target)
    assert target.read_bytes() == BODY
    assert names(tmp_path) == {"f"}
    assert site.ranges() == ranges


def test_progress_and_user_agent(site: Site, tmp_path: Path) -> None:
    calls: list[tuple[str, int, int]] = []
    download(source_of(site.serve("/a", BODY)), tmp_path / "new" / "f", progress=lambda *call: calls.append(call))
    assert calls[-1] == ("tiny.bin", len(BODY), len(BODY))
    assert site.requests[0][1]["user-agent"].startswith("lm-harness/")
    assert "python" not in site.requests[0][1]["user-agent"].lower()


@pytest.mark.parametrize(
    ("options", "num_requests"),
    [({"statuses": [500] * 99}, http.ATTEMPTS_PER_MIRROR), (None, 1), ({"body": BODY[:500]}, None)],
    ids=["server errors", "missing page", "range not satisfiable"],
)
def test_the_next_mirror_is_asked(
    site: Site, tmp_path: Path, options: dict[str, Any] | None, num_requests: int | None
) -> None:
    if options is not None:
        site.serve("/bad", **{"body": BODY, **options})
    if num_requests is None:
        (tmp_path / "f.part").write_bytes(BODY[:1000])
    download(source_of(site.url("/bad"), site.serve("/good", BODY)), tmp_path / "f")
    assert (tmp_path / "f").read_bytes() == BODY
    paths = [path for path, _ in site.requests]
    assert paths[-1] == "/good"
    assert num_requests in (None, paths.count("/bad"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"body": BODY[::-1]}, "served another file (expected sha256"),
        ({"body": BODY * 20}, "served more than the 200,000 bytes"),
        ({"cut_after": [100] * 9, "honours_range": False}, "peer closed connection"),
        ({"cut_after": [100] * 9, "honours_range": False, "sends_length": False}, "ended at byte 100 of 200,000"),
    ],
    ids=["other content", "too large", "ends early", "ends early without length"],
)
def test_a_mirror_is_given_up(site: Site, tmp_path: Path, options: dict[str, Any], message: str) -> None:
    source = source_of(site.serve("/a", **{"body": BODY, **options}))
    with pytest.raises(Unavailable, match=r"^127\.0\.0\.1: ") as error:
        download(source, tmp_path / "f")
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert names(tmp_path) <= {"f.part"}


@pytest.mark.parametrize(("listens", "message"), [(False, "no connection"), (True, "timed out")])
@pytest.mark.usefixtures("site")
def test_no_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, listens: bool, message: str) -> None:
    monkeypatch.setattr(http, "READ_TIMEOUT_S", 0.05)
    monkeypatch.setattr(http, "ATTEMPTS_PER_MIRROR", 2)
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        if listens:
            server.listen()
        with pytest.raises(Unavailable, match=message):
            download(source_of(f"http://127.0.0.1:{server.getsockname()[1]}/a"), tmp_path / "f")
    assert names(tmp_path) == set()


def test_bars_and_lines(site: Site, tmp_path: Path) -> None:
    from rich.console import Console

    body, text, lines = BODY * 30, io.StringIO(), list[str]()
    source = source_of(site.serve("/a", body), body=body)
    with download_bars(Console(file=text, force_terminal=True, width=100)) as progress:
        download(source, tmp_path / "f", progress=progress)
    assert "tiny.bin" in text.getvalue()
    download(source, tmp_path / "g", progress=download_lines(lines.append))
    assert 5 <= len(lines) <= 12
    assert lines[-1] == "downloading tiny.bin: 6.0 of 6.0 MB"
