"""A local web site that misbehaves on request, and datasets of a few bytes."""

from __future__ import annotations

import hashlib
import sys
import threading
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from harness.data import DATASETS
from harness.data.registry import Dataset, Encoding, RemoteFile, SourceFile
from harness.data.text import characters


@dataclass
class Page:
    """What one path serves. Each request takes the next entry of `statuses` and of `cut_after`, if any is left."""

    body: bytes
    honours_range: bool = True
    range_shift: int = 0
    etag: str | None = None
    sends_length: bool = True
    statuses: list[int] = field(default_factory=list)
    cut_after: list[int] = field(default_factory=list)


@dataclass
class Site:
    """`url(path)` of a page, the pages, and the requests seen: (path, headers)."""

    port: int
    pages: dict[str, Page] = field(default_factory=dict)
    requests: list[tuple[str, dict[str, str]]] = field(default_factory=list)

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def serve(self, path: str, body: bytes, **options: object) -> str:
        self.pages[path] = Page(body, **options)  # type: ignore[arg-type]
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
                return
            self._send(page, headers)

        def _send(self, page: Page, headers: dict[str, str]) -> None:
            wanted = headers.get("range") if page.honours_range else None
            if "if-range" in headers and headers["if-range"] != page.etag:
                wanted = None
            start = int(wanted.removeprefix("bytes=").rstrip("-")) + page.range_shift if wanted else 0
            if wanted and start >= len(page.body):
                self.send_error(416)
                return
            body = page.body[start:]
            self.send_response(206 if wanted else 200)
            if wanted:
                self.send_header("Content-Range", f"bytes {start}-{len(page.body) - 1}/{len(page.body)}")
            if page.etag:
                self.send_header("ETag", page.etag)
            if page.sends_length:
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: page.cut_after.pop(0)] if page.cut_after else body)
            self.close_connection = True

    return Handler


class _QuietServer(ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is what some of the tests are about."""


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("HARNESS_OFFLINE", raising=False)
    server = _QuietServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    site = Site(server.server_port)
    server.RequestHandlerClass = _handler(site)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield site
    server.shutdown()
    server.server_close()
    thread.join()


def _tiny_row(
    body: bytes, *, name: str = "tiny", urls: tuple[str, ...] = (), archive: RemoteFile | None = None
) -> Dataset:
    """A byte dataset like enwik8: the first half trains, then two quarters. Its file is called tiny.bin."""
    quarter = len(body) // 4
    sizes = {"train": len(body) - 2 * quarter, "valid": quarter, "test": quarter}

    def encode(files: dict[str, Path]) -> Encoding:
        return characters.encode_bytes(characters.cut_bytes(files["tiny.bin"], sizes), name=characters.byte_number)

    source = SourceFile(
        filename="tiny.bin",
        size=len(body),
        sha256=hashlib.sha256(body).hexdigest(),
        urls=urls,
        archive=archive,
        member="folder/tiny.bin" if archive is not None else None,
    )
    return Dataset(
        name=name,
        title="Tiny",
        unit="byte",
        event_space="bytes",
        vocab_size=len(set(body)),
        num_tokens=sizes,
        sources=(source,),
        encode=encode,  # type: ignore[arg-type]
    )


@pytest.fixture
def register(monkeypatch: pytest.MonkeyPatch) -> Callable[[Dataset], Dataset]:
    """Puts a row into DATASETS for one test."""

    def put(row: Dataset) -> Dataset:
        module = types.ModuleType(f"dataset_of_a_test_{row.name}")
        module.ROW = row  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, module.__name__, module)
        monkeypatch.setitem(DATASETS, row.name, f"{module.__name__}:ROW")
        return row

    return put


@pytest.fixture
def tiny_row() -> Callable[..., Dataset]:
    """Builds a row whose one file is the given bytes; see `_tiny_row`."""
    return _tiny_row
