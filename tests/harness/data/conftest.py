"""A local web server that misbehaves on request, and registration of a dataset for one test."""

from __future__ import annotations

import sys
import threading
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

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
    """The pages of a server by path, and the requests seen: (path, headers)."""

    port: int
    pages: dict[str, Page] = field(default_factory=dict)
    requests: list[tuple[str, dict[str, str]]] = field(default_factory=list)

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def serve(self, path: str, body: bytes, **options: Any) -> str:
        self.pages[path] = Page(body, **options)
        return self.url(path)

    def ranges(self) -> list[str | None]:
        return [headers.get("range") for _, headers in self.requests]


def _handler(site: Site) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            headers = {key.lower(): value for key, value in self.headers.items()}
            site.requests.append((self.path, headers))
            page = site.pages.get(self.path)
            status = page.statuses.pop(0) if page is not None and page.statuses else 200
            if page is None or status >= 400:
                self.send_error(404 if page is None else status)
            else:
                self._send(page, headers)

        def _send(self, page: Page, headers: dict[str, str]) -> None:
            asked = headers.get("range") if page.honours_range else None
            start = int(asked.removeprefix("bytes=").rstrip("-")) + page.range_shift if asked else 0
            if asked and start >= len(page.body):
                self.send_error(416)
                return
            body = page.body[start:]
            self.send_response(206 if asked else 200)
            if asked:
                self.send_header("Content-Range", f"bytes {start}-{len(page.body) - 1}/{len(page.body)}")
            if page.sends_length:
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: page.cut_after.pop(0)] if page.cut_after else body)
            self.close_connection = True

    return Handler


class _QuietServer(ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """Some tests are about a client that hangs up."""


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test has an empty cache, and no network unless it asks for `site`."""
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setenv("HARNESS_OFFLINE", "1")


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.delenv("HARNESS_OFFLINE", raising=False)
    monkeypatch.setattr(http, "FIRST_PAUSE_S", 0.001)
    server = _QuietServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    site = Site(server.server_port)
    server.RequestHandlerClass = _handler(site)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield site
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def register(monkeypatch: pytest.MonkeyPatch) -> Callable[[Dataset], Dataset]:
    """Adds a dataset to DATASETS for one test: a module with the entry, and the line that names it."""

    def add(dataset: Dataset) -> Dataset:
        module = types.ModuleType(f"dataset_of_a_test_{dataset.name}")
        module.ENTRY = dataset  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, module.__name__, module)
        for name in (dataset.name, *dataset.alias_titles):
            monkeypatch.setitem(DATASETS, name, f"{module.__name__}:ENTRY")
        return dataset

    return add
