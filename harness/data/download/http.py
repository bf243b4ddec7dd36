"""Downloads over HTTP: several mirrors, resume, checksum before use, atomic rename, and their progress."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias
from urllib.parse import urlsplit

from harness.core.messages import reason
from harness.data.registry import SourceFile
from harness.system.files import open_new, remove_tree
from harness.system.source import VERSION

if TYPE_CHECKING:
    import httpx
    from rich.console import Console

# Called with a file's name, the bytes received so far, and its size in bytes.
Progress: TypeAlias = Callable[[str, int, int], None]

# wikitext.smerity.com refuses the default User-Agent of Python's own client.
USER_AGENT = f"lm-harness/{VERSION} (+language model benchmark harness; one file, kept in a cache)"
CONNECT_TIMEOUT_S = 10.0
READ_TIMEOUT_S = 30.0
ATTEMPTS_PER_MIRROR = 4
FIRST_PAUSE_S = 0.5  # before the first retry; each later pause is twice the one before
RETRY_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})


class Unavailable(Exception):  # noqa: N818 - `obtain` turns it into a DataError that says what to bring
    """No mirror served the file. The message says what each one did."""


class _TryAgain(Exception):  # noqa: N818
    """The same mirror may succeed at another attempt."""


class _GiveUp(Exception):  # noqa: N818
    """The mirror cannot serve the file."""


def download(source: SourceFile, target: Path, *, progress: Progress | None = None) -> None:
    """Download a file through `target`.part, which a later call resumes.

    Args:
        source: the file; its urls are tried in order.
        target: its path once its size and checksum are right.
        progress: called after every chunk.

    Raises:
        Unavailable: every mirror failed.
        OSError: the file cannot be written.
    """
    import httpx

    target.parent.mkdir(parents=True, exist_ok=True)
    reasons: list[str] = []
    # identity: a server's own compression would break both Range and the checksum.
    headers = {"User-Agent": USER_AGENT, "Accept-Encoding": "identity"}
    timeout = httpx.Timeout(READ_TIMEOUT_S, connect=CONNECT_TIMEOUT_S)
    with httpx.Client(headers=headers, timeout=timeout, follow_redirects=True) as client:
        for url in source.urls:
            try:
                _Transfer(client, url, source, target, progress).run()
            except _GiveUp as reason:
                reasons.append(f"{urlsplit(url).hostname}: {reason}")
            else:
                return
    raise Unavailable("; ".join(dict.fromkeys(reasons)) or "no server has it")


@dataclass(frozen=True, slots=True)
class _Transfer:
    """The download of one file from one mirror."""

    client: httpx.Client
    url: str
    source: SourceFile
    target: Path
    progress: Progress | None

    @property
    def part(self) -> Path:
        """The bytes received so far."""
        return self.target.with_name(self.target.name + ".part")

    def run(self) -> None:
        """Raises _GiveUp if the mirror serves another file, or nothing after all attempts."""
        for attempt in range(ATTEMPTS_PER_MIRROR):
            if attempt:
                time.sleep(FIRST_PAUSE_S * 2 ** (attempt - 1))  # a busy server needs longer than a lost packet
            is_resumed = self.part.is_file() and self.part.stat().st_size > 0
            try:
                self._request(self.part.stat().st_size if is_resumed else 0)
            except _TryAgain as reason:
                last = str(reason)
                continue
            if (problem := self.source.find_mismatch(self.part)) is None:
                self.part.replace(self.target)
                return
            remove_tree(self.part)
            last = f"served another file ({problem})"
            if not is_resumed:
                raise _GiveUp(last)
            # The part may join bytes of two versions or two mirrors, which only the checksum shows: start again once.
        raise _GiveUp(last)

    def _request(self, offset: int) -> None:
        """Append the missing bytes to the part. Returns if the part has the right size."""
        import httpx

        if offset == self.source.size:
            return
        if offset > self.source.size:
            remove_tree(self.part)
            offset = 0
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        try:
            with self.client.stream("GET", self.url, headers=headers) as response:
                self._receive(response, offset)
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError) as error:
            raise _GiveUp(f"no connection ({reason(error)})") from None
        except httpx.TransportError as error:
            raise _TryAgain(reason(error)) from None  # a timeout, or a connection lost on the way
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise _GiveUp(reason(error)) from None

    def _receive(self, response: httpx.Response, offset: int) -> None:
        """Append the answer's body to the part, which has `offset` bytes."""
        status, size = response.status_code, self.source.size
        if status in RETRY_STATUS:
            raise _TryAgain(f"HTTP {status}")
        # 416 and a wrong start mean that the part fits no longer: ask for all bytes.
        # 206 with `Content-Range: bytes 5-9/10` starts at byte 5, which need not be the one requested.
        start = response.headers.get("Content-Range", "").removeprefix("bytes ").split("-")[0].strip()
        if status == 416 or (status == 206 and start != str(offset)):
            remove_tree(self.part)
            raise _TryAgain(f"HTTP {status} for the rest of the file")
        if status not in (200, 206):
            raise _GiveUp(f"HTTP {status}")
        if status == 200:  # the server ignored the range
            offset = 0
        with open_new(self.part, append=status == 206) as file:
            for chunk in response.iter_raw():
                offset += len(chunk)
                if offset > size:
                    file.close()
                    remove_tree(self.part)
                    raise _GiveUp(f"served more than the {size:,} bytes expected")
                file.write(chunk)
                if self.progress is not None:
                    self.progress(self.source.filename, offset, size)
        if offset < size:
            raise _TryAgain(f"ended at byte {offset:,} of {size:,}")


@contextmanager
def download_bars(console: Console | None = None) -> Iterator[Progress]:
    """Yield a callback for `prepare` that draws one rich bar per file."""
    from rich import progress

    columns = (progress.TextColumn("{task.description}", markup=False), progress.BarColumn(), progress.DownloadColumn())
    rate = (progress.TransferSpeedColumn(), progress.TimeRemainingColumn())
    with progress.Progress(*columns, *rate, console=console, transient=True) as bars:
        tasks = {}

        def advance(filename: str, num_bytes: int, size: int) -> None:
            if filename not in tasks:
                tasks[filename] = bars.add_task(filename, total=size)
            bars.update(tasks[filename], completed=num_bytes)

        yield advance


def download_lines(write: Callable[[str], None]) -> Progress:
    """Return a callback for `prepare` that writes a line at a file's start and after every tenth of it."""
    tenths: dict[str, int] = {}

    def advance(filename: str, num_bytes: int, size: int) -> None:
        tenth = 10 * num_bytes // size
        if tenths.get(filename) != tenth:
            tenths[filename] = tenth
            write(f"downloading {filename}: {num_bytes / 1e6:.1f} of {size / 1e6:.1f} MB")

    return advance
