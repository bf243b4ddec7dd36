"""Downloads over HTTP: several mirrors, resume, checksum before use, atomic rename."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias
from urllib.parse import urlsplit

from harness import __version__
from harness.data.download.checksum import mismatch
from harness.data.registry import RemoteFile

if TYPE_CHECKING:
    import httpx

Progress: TypeAlias = Callable[[str, int, "int | None"], None]
"""Called with a file's name, the bytes that are here, and the bytes in all where known."""

# wikitext.smerity.com refuses the default User-Agent of Python's own client.
USER_AGENT = f"lm-harness/{__version__} (+language model benchmark harness; one file, kept in a cache)"
CONNECT_TIMEOUT_S = 10.0
READ_TIMEOUT_S = 30.0
ATTEMPTS_PER_MIRROR = 4
RETRY_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})


class Unavailable(Exception):  # noqa: N818 - `preparation` turns it into a DataError that says what to bring
    """No mirror served the file. The message says what each one did."""


class _TryAgain(Exception):  # noqa: N818
    pass


class _GiveUp(Exception):  # noqa: N818
    pass


def download(remote: RemoteFile, target: Path, *, progress: Progress | None = None, pause_s: float = 0.5) -> None:
    """Bring `remote` to `target`, through `target`.part, which a later call resumes.

    The first pause before a retry is pause_s seconds, the next ones twice the one before.
    Raises Unavailable where every mirror failed; OSError where the file cannot be written.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    reasons: list[str] = []
    with _client() as client:
        for url in remote.urls:
            try:
                _from_mirror(client, url, remote, target, progress, pause_s)
            except _GiveUp as reason:
                reasons.append(f"{urlsplit(url).hostname}: {reason}")
            else:
                return
    raise Unavailable("; ".join(dict.fromkeys(reasons)) or "nobody serves it")


class _Part:
    """The bytes so far, and beside them whose they are."""

    def __init__(self, target: Path) -> None:
        self.path = target.with_name(target.name + ".part")
        self.note = target.with_name(target.name + ".part.json")

    @property
    def size(self) -> int:
        return self.path.stat().st_size if self.path.is_file() else 0

    def discard(self) -> None:
        self.path.unlink(missing_ok=True)
        self.note.unlink(missing_ok=True)

    def remember(self, url: str, etag: str | None) -> None:
        self.note.write_text(json.dumps({"url": url, "etag": etag}), encoding="utf-8")

    def etag(self, url: str) -> str | None:
        """The strong validator that the same mirror gave for these bytes, if any."""
        try:
            note = json.loads(self.note.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        etag = note.get("etag") if isinstance(note, dict) and note.get("url") == url else None
        return etag if isinstance(etag, str) and not etag.startswith("W/") else None


@contextmanager
def _client() -> Iterator[httpx.Client]:
    import httpx

    # identity: a server's own compression would break both Range and the checksum.
    headers = {"User-Agent": USER_AGENT, "Accept-Encoding": "identity"}
    timeout = httpx.Timeout(READ_TIMEOUT_S, connect=CONNECT_TIMEOUT_S)
    with httpx.Client(headers=headers, timeout=timeout, follow_redirects=True) as client:
        yield client


def _from_mirror(
    client: httpx.Client, url: str, remote: RemoteFile, target: Path, progress: Progress | None, pause_s: float
) -> None:
    part = _Part(target)
    for attempt in range(ATTEMPTS_PER_MIRROR):
        if attempt:
            time.sleep(pause_s * 2 ** (attempt - 1))
        resumed = part.size > 0
        try:
            _transfer(client, url, remote, part, progress)
        except _TryAgain as reason:
            last = str(reason)
            continue
        problem = mismatch(part.path, remote)
        if problem is None:
            part.path.replace(target)
            part.discard()
            return
        part.discard()
        last = f"served another file ({problem})"
        if not resumed:
            raise _GiveUp(last)
        # Bytes of two versions or two mirrors may have been joined: once more, from the start.
    raise _GiveUp(last)


def _transfer(client: httpx.Client, url: str, remote: RemoteFile, part: _Part, progress: Progress | None) -> None:
    """Append what is missing to the part. Returns when the part looks whole."""
    import httpx

    offset = part.size
    if remote.size is not None and offset >= remote.size:
        if offset == remote.size:
            return
        part.discard()
        offset = 0
    headers = {}
    if offset:
        headers["Range"] = f"bytes={offset}-"
        etag = part.etag(url)
        if etag is not None:
            headers["If-Range"] = etag
    try:
        with client.stream("GET", url, headers=headers) as response:
            _receive(response, url, remote, part, offset, progress)
    except (httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError) as error:
        raise _GiveUp(f"no connection ({_short(error)})") from None
    except httpx.TransportError as error:
        raise _TryAgain(_short(error)) from None
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise _GiveUp(_short(error)) from None


def _receive(
    response: httpx.Response, url: str, remote: RemoteFile, part: _Part, offset: int, progress: Progress | None
) -> None:
    status = response.status_code
    if status in RETRY_STATUS:
        raise _TryAgain(f"HTTP {status}")
    if status == 416 or (status == 206 and _range_start(response) != offset):
        part.discard()
        raise _TryAgain(f"HTTP {status} for the rest of the file")
    if status not in (200, 206):
        raise _GiveUp(f"HTTP {status}")
    if status == 200:
        offset = 0
    part.remember(url, response.headers.get("ETag"))
    length = response.headers.get("Content-Length", "")
    total = remote.size if remote.size is not None else (offset + int(length) if length.isdigit() else None)
    with part.path.open("ab" if status == 206 else "wb") as file:
        for chunk in response.iter_raw():
            offset += len(chunk)
            if remote.size is not None and offset > remote.size:
                file.close()
                part.discard()
                raise _GiveUp(f"served more than the {remote.size:,} bytes expected")
            file.write(chunk)
            if progress is not None:
                progress(remote.filename, offset, total)
    if total is not None and offset < total:
        raise _TryAgain(f"ended at byte {offset:,} of {total:,}")


def _range_start(response: httpx.Response) -> int | None:
    """The first byte of a 206 answer, from `Content-Range: bytes 5-9/10`."""
    text = response.headers.get("Content-Range", "")
    start = text.removeprefix("bytes ").split("-")[0].strip()
    return int(start) if start.isdigit() else None


def _short(error: Exception) -> str:
    return " ".join((str(error) or type(error).__name__).split())[:120]
