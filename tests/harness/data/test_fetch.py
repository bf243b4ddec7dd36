"""Downloads against a local server that fails in every way a mirror can."""

from __future__ import annotations

import hashlib
import io
import random
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.data.download import http
from harness.data.download.http import Unavailable, download
from harness.data.progress import download_bars, download_lines
from harness.data.registry import RemoteFile

if TYPE_CHECKING:
    from conftest import Site

BODY = random.Random(1).randbytes(200_000)


def remote_of(body: bytes, *urls: str, filename: str = "tiny.bin") -> RemoteFile:
    return RemoteFile(filename=filename, size=len(body), sha256=hashlib.sha256(body).hexdigest(), urls=urls)


def fetch_to(path: Path, *urls: str, body: bytes = BODY) -> bytes:
    download(remote_of(body, *urls), path, pause_s=0.001)
    return path.read_bytes()


def leftovers(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_whole_download_is_renamed_and_reports_progress(site: Site, tmp_path: Path) -> None:
    url = site.serve("/a", BODY)
    seen: list[tuple[str, int, int | None]] = []
    target = tmp_path / "deep" / "tiny.bin"
    download(remote_of(BODY, url), target, progress=lambda *state: seen.append(state))
    assert target.read_bytes() == BODY
    assert leftovers(target.parent) == {"tiny.bin"}
    assert seen[-1] == ("tiny.bin", len(BODY), len(BODY))
    assert site.requests[0][1]["user-agent"].startswith("lm-harness/")
    assert "python" not in site.requests[0][1]["user-agent"].lower()


def test_an_interrupted_download_goes_on_where_it_stopped(site: Site, tmp_path: Path) -> None:
    url = site.serve("/a", BODY, cut_after=[70_000], etag='"one"')
    assert fetch_to(tmp_path / "f", url) == BODY
    first, second = site.ranges()
    assert first is None
    assert second == "bytes=70000-"
    assert site.requests[1][1]["if-range"] == '"one"'


def test_a_part_of_an_earlier_call_is_taken_up(site: Site, tmp_path: Path) -> None:
    (tmp_path / "f.part").write_bytes(BODY[:123_456])
    assert fetch_to(tmp_path / "f", site.serve("/a", BODY)) == BODY
    assert site.ranges() == ["bytes=123456-"]


def test_a_whole_part_needs_no_request(site: Site, tmp_path: Path) -> None:
    (tmp_path / "f.part").write_bytes(BODY)
    assert fetch_to(tmp_path / "f", site.serve("/a", BODY)) == BODY
    assert site.requests == []


@pytest.mark.parametrize("length", [len(BODY), len(BODY) + 10])
def test_a_damaged_part_is_thrown_away(site: Site, tmp_path: Path, length: int) -> None:
    (tmp_path / "f.part").write_bytes(b"x" * length)
    assert fetch_to(tmp_path / "f", site.serve("/a", BODY)) == BODY
    assert site.ranges() == [None]


def test_a_server_that_ignores_range_starts_the_file_again(site: Site, tmp_path: Path) -> None:
    url = site.serve("/a", BODY, cut_after=[70_000], honours_range=False)
    assert fetch_to(tmp_path / "f", url) == BODY
    assert len(site.requests) == 2


def test_changed_content_behind_an_etag_is_fetched_whole(site: Site, tmp_path: Path) -> None:
    url = site.serve("/a", BODY, etag='"new"')
    (tmp_path / "f.part").write_bytes(b"old" * 100)
    (tmp_path / "f.part.json").write_text(f'{{"url": "{url}", "etag": "\\"old\\""}}')
    assert fetch_to(tmp_path / "f", url) == BODY
    assert len(site.requests) == 1


def test_bytes_of_two_versions_joined_are_noticed_and_fetched_again(site: Site, tmp_path: Path) -> None:
    (tmp_path / "f.part").write_bytes(b"old" * 100)
    assert fetch_to(tmp_path / "f", site.serve("/a", BODY)) == BODY
    assert site.ranges() == ["bytes=300-", None]


def test_an_answer_with_another_range_than_asked_is_not_appended(site: Site, tmp_path: Path) -> None:
    (tmp_path / "f.part").write_bytes(BODY[:1000])
    assert fetch_to(tmp_path / "f", site.serve("/a", BODY, range_shift=7)) == BODY


def test_range_not_satisfiable_starts_again(site: Site, tmp_path: Path) -> None:
    short = site.serve("/a", BODY[:500])
    whole = site.serve("/b", BODY)
    (tmp_path / "f.part").write_bytes(BODY[:1000])
    assert fetch_to(tmp_path / "f", short, whole) == BODY


def test_a_server_error_is_tried_again_then_the_next_mirror_serves(site: Site, tmp_path: Path) -> None:
    bad = site.serve("/bad", BODY, statuses=[500] * 99)
    assert fetch_to(tmp_path / "f", bad, site.serve("/good", BODY)) == BODY
    assert [path for path, _ in site.requests] == ["/bad"] * http.ATTEMPTS_PER_MIRROR + ["/good"]


def test_one_server_error_is_overcome_on_the_same_mirror(site: Site, tmp_path: Path) -> None:
    assert fetch_to(tmp_path / "f", site.serve("/a", BODY, statuses=[503])) == BODY


def test_a_missing_page_is_not_asked_for_twice(site: Site, tmp_path: Path) -> None:
    assert fetch_to(tmp_path / "f", site.url("/none"), site.serve("/good", BODY)) == BODY
    assert [path for path, _ in site.requests] == ["/none", "/good"]


def test_a_wrong_checksum_leaves_nothing_behind(site: Site, tmp_path: Path) -> None:
    url = site.serve("/a", BODY[::-1])
    with pytest.raises(Unavailable, match="expected sha256") as error:
        fetch_to(tmp_path / "f", url)
    assert "\n" not in str(error.value)
    assert leftovers(tmp_path) == set()


@pytest.mark.parametrize("sends_length", [True, False])
def test_a_body_that_always_ends_early_is_given_up(site: Site, tmp_path: Path, sends_length: bool) -> None:
    cuts = [100] * http.ATTEMPTS_PER_MIRROR
    url = site.serve("/a", BODY, cut_after=cuts, honours_range=False, sends_length=sends_length)
    with pytest.raises(Unavailable, match=r"127\.0\.0\.1"):
        fetch_to(tmp_path / "f", url)
    assert not (tmp_path / "f").exists()


def test_a_body_without_length_that_ends_early_is_resumed(site: Site, tmp_path: Path) -> None:
    assert fetch_to(tmp_path / "f", site.serve("/a", BODY, cut_after=[5_000], sends_length=False)) == BODY
    assert site.ranges() == [None, "bytes=5000-"]


def test_a_body_larger_than_expected_is_cut_off(site: Site, tmp_path: Path) -> None:
    url = site.serve("/a", BODY * 20)
    with pytest.raises(Unavailable, match="more than the 200,000 bytes"):
        fetch_to(tmp_path / "f", url)
    assert leftovers(tmp_path) == set()


def test_nobody_listens(tmp_path: Path, site: Site) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/a"
        with pytest.raises(Unavailable, match="no connection"):
            fetch_to(tmp_path / "f", url)
    assert leftovers(tmp_path) == set()


def test_a_silent_server_times_out(tmp_path: Path, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "READ_TIMEOUT_S", 0.05)
    monkeypatch.setattr(http, "ATTEMPTS_PER_MIRROR", 2)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/a"
        with pytest.raises(Unavailable, match="timed out"):
            fetch_to(tmp_path / "f", url)


def test_an_unknown_size_is_taken_from_the_answer(site: Site, tmp_path: Path) -> None:
    from dataclasses import replace

    remote = replace(remote_of(BODY, site.serve("/a", BODY, cut_after=[10_000])), size=None)
    download(remote, tmp_path / "f", pause_s=0.001)
    assert (tmp_path / "f").read_bytes() == BODY


def test_a_bar_is_drawn_only_where_asked_for(site: Site, tmp_path: Path) -> None:
    from rich.console import Console

    text = io.StringIO()
    console = Console(file=text, force_terminal=True, width=100)
    with download_bars(console) as progress:
        download(remote_of(BODY, site.serve("/a", BODY)), tmp_path / "f", progress=progress)
    assert "tiny.bin" in text.getvalue()


def test_lines_are_few(site: Site, tmp_path: Path) -> None:
    lines: list[str] = []
    body = BODY * 30
    progress = download_lines(lines.append)
    download(remote_of(body, site.serve("/a", body)), tmp_path / "f", progress=progress)
    assert 5 <= len(lines) <= 12
    assert lines[-1] == "downloading tiny.bin: 6.0 of 6.0 MB"
    progress("other", 1, None)
    assert lines[-1] == "downloading other: 0.0 MB"
