"""The actor between the tasks, which post to it, and the driver, which takes from it. `connection` starts it."""

from __future__ import annotations

import asyncio
from typing import Any


class Mailbox:
    """Messages of all tasks in the order of their arrival, and the answers to them.

    It holds references to snapshots and not their bytes, so it stays small. Methods are coroutines: one that waits does
    not hold up the others.
    """

    def __init__(self) -> None:
        self._messages: asyncio.Queue[tuple[str, Any]] = asyncio.Queue()
        self._received: dict[str, int] = {}
        self._is_stopped = False
        self._stopped: set[str] = set()

    async def post(self, key: str, message: Any) -> tuple[bool, int]:
        """Leave a message of a task; returns whether the task must stop, and what the driver has received of it."""
        await self._messages.put((key, message))
        return self._is_stopped or key in self._stopped, self._received.get(key, 0)

    async def take(self, wait_s: float) -> list[tuple[str, Any]]:
        """All messages, after the first has arrived or `wait_s` seconds have passed."""
        try:
            taken = [await asyncio.wait_for(self._messages.get(), wait_s)]
        except TimeoutError:
            return []
        while not self._messages.empty():
            taken.append(self._messages.get_nowait())
        return taken

    async def received(self, key: str, number: int) -> None:
        """Note that the driver is done with a message of a task."""
        self._received[key] = number

    async def forget(self, key: str) -> None:
        """Drop the notes on a task that has ended."""
        self._received.pop(key, None)
        self._stopped.discard(key)

    async def stop_one(self, key: str) -> None:
        """Tell one task to save and end."""
        self._stopped.add(key)

    async def stop(self) -> None:
        """Tell every task to save and end, also those that start later."""
        self._is_stopped = True
