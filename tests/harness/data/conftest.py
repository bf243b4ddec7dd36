"""A local web server that misbehaves on request, and registration of a dataset for one test."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import tiny_datasets
from tiny_datasets import BODY, Register, byte_dataset

from harness.data import DATASETS, Dataset
from harness.data.download import http


@dataclass
class Page:
    """What one path serves. Each request takes the next entry of `statuses` and of `cut_after`, if any is left."""

    body: bytes
    honours_range: bool = True
    range_shift: int = 0
    sends_length: bool = True
    statuses: list[int] = field(default_factory=list)
    cut_after: list[int] = field(default_factory=list)


@dataclass
class Site:
    port: int = 0
    pages: dict[str, Page] = field(default_factory=dict)
    requests: list[tuple[str, str | None, str]] = field(default_factory=list)  # path, Range, User-Agent

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def serve(self, path: str, body: bytes, **options: Any) -> str:
        self.pages[path] = Page(body, **options)
        return self.url(path)


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test has an empty cache, and no network unless it asks for `site`."""
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setenv("HARNESS_OFFLINE", "1")


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy", "HARNESS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(http, "FIRST_PAUSE_S", 0.001)
    site = Site()

    class Handler(BaseHTTPRequestHandler):
        log_message = Mock()

        def do_GET(self) -> None:
            site.requests.append((self.path, self.headers["Range"], self.headers["User-Agent"]))
            page = site.pages.get(self.path)
            status = page.statuses.pop(0) if page is not None and page.statuses else 200
            if page is None or status >= 400:
                return self.send_error(404 if page is None else status)
            asked = self.headers["Range"] if page.honours_range else None
            start = int(asked.removeprefix("bytes=").rstrip("-")) + page.range_shift if asked else 0
            if asked and start >= len(page.body):
                return self.send_error(416)
            body = page.body[start:]
            self.send_response(206 if asked else 200)
            if asked:
                self.send_header("Content-Range", f"bytes {start}-{len(page.body) - 1}/{len(page.body)}")
            if page.sends_length:
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: page.cut_after.pop(0)] if page.cut_after else body)
            self.close_connection = True
            return None

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.handle_error = Mock()  # type: ignore[method-assign] # some clients hang up
        site.port = server.server_port
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield site
        server.shutdown()


@pytest.fixture
def register(monkeypatch: pytest.MonkeyPatch) -> Register:
    """Adds a dataset to DATASETS for one test."""

    def add(dataset: Dataset) -> Dataset:
        monkeypatch.setattr(tiny_datasets, dataset.name, dataset, raising=False)
        for name in (dataset.name, *dataset.alias_titles):
            monkeypatch.setitem(DATASETS, name, f"tiny_datasets:{dataset.name}")
        return dataset

    return add


@pytest.fixture
def tiny(tmp_path: Path, register: Register) -> Path:
    """The source file of the registered dataset `tiny`, and next to it a text x.txt of the user's."""
    register(byte_dataset(BODY))
    (tmp_path / "x.txt").write_bytes(BODY)
    (tmp_path / "tiny.bin").write_bytes(BODY)
    return tmp_path / "tiny.bin"
