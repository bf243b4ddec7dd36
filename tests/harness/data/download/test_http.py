"""Downloads against a local server that fails in every way a mirror can."""

from __future__ import annotations

import copy
import io
import random
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from rich.console import Console
from tiny_datasets import sha256

from harness.data.download import http
from harness.data.download.http import Unavailable, download, download_bars, download_lines
from harness.data.registry import SourceFile

if TYPE_CHECKING:
    from conftest import Site

BODY = random.Random(1).randbytes(200_000)


def source_of(*urls: str, body: bytes = BODY) -> SourceFile:
    return SourceFile(filename="tiny.bin", size=len(body), sha256=sha256(body), urls=urls)


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
    "busy server": ({"statuses": [408, 425, 429]}, b"", [None] * 4),
    "server errors": ({"statuses": [500, 502, 503]}, b"", [None] * 4),
    "gateway that waited too long": ({"statuses": [504]}, b"", [None, None]),
}


@pytest.mark.parametrize(("options", "part", "ranges"), ONE_MIRROR.values(), ids=ONE_MIRROR)
def test_one_mirror(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], part: bytes,
    ranges: list[str | None],
) -> None:  # fmt: skip
    pauses: list[float] = []
    monkeypatch.setattr(http.time, "sleep", pauses.append)
    url, target = site.serve("/a", BODY, **copy.deepcopy(options)), tmp_path / "f"
    if part:
        (tmp_path / "f.part").write_bytes(part)
    download(source_of(url), target)
    assert target.read_bytes() == BODY
    assert [path.name for path in tmp_path.iterdir()] == ["f"]
    assert [requested for _, requested, _ in site.requests] == ranges
    assert pauses == [0.001, 0.002, 0.004][: len(pauses)]
    assert len(pauses) >= len(ranges) - 1
    assert all(agent.startswith("lm-harness/") and "python" not in agent.lower() for *_, agent in site.requests)


# How a mirror fails -> what it is blamed for.
BAD_MIRRORS: list[tuple[dict[str, Any], str]] = [
    ({"body": BODY[::-1]}, "served another file (expected sha256"),
    ({"body": BODY * 20}, "served more than the 200,000 bytes"),
    ({"cut_after": [100] * 9, "honours_range": False}, "peer closed connection"),
    ({"cut_after": [100] * 9, "honours_range": False, "sends_length": False}, "ended at byte 100 of 200,000"),
    ({"statuses": [500] * 99}, "HTTP 500"),
    ({"statuses": [404] * 99}, "HTTP 404"),
    ({"body": BODY[:500]}, "HTTP 416 for the rest of the file"),
]


@pytest.mark.parametrize(("options", "message"), BAD_MIRRORS)
def test_a_bad_mirror_is_given_up_and_the_next_is_asked(
    site: Site, tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    bad = site.serve("/bad", **{"body": BODY, **copy.deepcopy(options)})
    if "416" in message:
        (tmp_path / "f.part").write_bytes(BODY[:1000])
    else:
        with pytest.raises(Unavailable, match=r"^127\.0\.0\.1: [^\n]*$") as error:
            download(source_of(bad), tmp_path / "f")
        assert message in str(error.value)
        assert [path.name for path in tmp_path.iterdir()] in ([], ["f.part"])
        assert len(site.requests) in (1, 4)
    download(source_of(bad, site.serve("/good", BODY)), tmp_path / "f")
    assert (tmp_path / "f").read_bytes() == BODY
    assert site.requests[-1][0] == "/good"


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
    assert list(tmp_path.iterdir()) == []


def test_progress(site: Site, tmp_path: Path) -> None:
    body, text, lines = BODY * 30, io.StringIO(), list[str]()
    source = source_of(site.serve("/a", body), body=body)
    with download_bars(Console(file=text, force_terminal=True, width=100)) as progress:
        download(source, tmp_path / "new" / "folder" / "f", progress=progress)
    assert "tiny.bin" in text.getvalue()
    download(source, tmp_path / "g", progress=download_lines(lines.append))
    assert 5 <= len(lines) <= 12
    assert lines[-1] == "downloading tiny.bin: 6.0 of 6.0 MB"
