"""A process and its descendants, followed without the cost of listing all processes at every reading."""

from __future__ import annotations

import os
import time

import psutil

LIST_SHARE = 500.0
"""The tree is listed anew no sooner than this many times the CPU time one listing takes: at most 0.2 % of a core."""

LEAST_S = 1.0


class ProcessTree:
    """Processes of the tree under `pid`, the calling process left out.

    A process once seen stays a member when its parent ends before it. One that lives for less than a second may
    never be seen; its time is still counted, in its parent's account of ended children.
    """

    def __init__(self, pid: int) -> None:
        """Raises psutil.NoSuchProcess."""
        self.root = psutil.Process(pid)
        self._members = {pid: self.root}
        self._pids = frozenset((pid,))
        self._list_at = 0.0

    @property
    def pids(self) -> frozenset[int]:
        """Process ids of the last listing; a snapshot that another thread may read."""
        return self._pids

    def alive(self) -> bool:
        """Whether the root still runs: a zombie has ended."""
        try:
            return bool(self.root.is_running() and self.root.status() != psutil.STATUS_ZOMBIE)
        except psutil.Error:
            return False

    def members(self) -> list[psutil.Process]:
        """The processes, listed anew where that is due."""
        now = time.monotonic()
        if now >= self._list_at:
            before = time.thread_time()
            self._list()
            self._list_at = now + max(LEAST_S, LIST_SHARE * (time.thread_time() - before))
        return list(self._members.values())

    def forget(self, process: psutil.Process) -> None:
        """Drop one that has ended."""
        if process.pid != self.root.pid:
            self._members.pop(process.pid, None)

    def _list(self) -> None:
        try:
            found = self.root.children(recursive=True)
        except psutil.Error:
            return
        for process in found:
            if process.pid != os.getpid() and self._members.get(process.pid) != process:
                self._members[process.pid] = process
        self._pids = frozenset(self._members)
