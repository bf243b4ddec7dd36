"""Ray within one process: tasks are threads, an actor is a thread with a loop, and all that is sent is pickled.

It starts in no time, where Ray takes seconds, and it loses no node. Not a test file.
"""

from __future__ import annotations

import asyncio
import itertools
import pickle
import threading
from collections.abc import Callable
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

_OBJECTS: dict[int, Ref] = {}
_NUMBERS = itertools.count()


class Ref:
    """A reference: it is sent as its number."""

    def __init__(self, future: Future[Any]) -> None:
        self.number = next(_NUMBERS)
        self._future = future
        _OBJECTS[self.number] = self

    def future(self) -> Future[Any]:
        return self._future

    def __reduce__(self) -> tuple[Any, ...]:
        return _of, (self.number,)


def _of(number: int) -> Ref:
    return _OBJECTS[number]


def _sent(value: Any) -> Any:
    return pickle.loads(pickle.dumps(value))


class Actor:
    """Handle of an actor whose methods are coroutines."""

    def __init__(self, actor: Any) -> None:
        self._actor, self._loop = actor, asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def __getattr__(self, name: str) -> Any:
        def remote(*arguments: Any) -> Ref:
            return Ref(asyncio.run_coroutine_threadsafe(getattr(self._actor, name)(*_sent(arguments)), self._loop))

        return SimpleNamespace(remote=remote)

    def __reduce__(self) -> tuple[Any, ...]:
        _OBJECTS[-1] = self  # type: ignore[assignment]
        return _of, (-1,)

    def end(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class ThreadRay:
    """What `harness.runs.cluster` uses of the module, with one node."""

    exceptions = SimpleNamespace(RayError=OSError, RayTaskError=RuntimeError, TaskCancelledError=KeyError)

    def __init__(self, num_cpus: float) -> None:
        self.num_cpus = num_cpus

    def remote(self, function: Callable[..., Any]) -> Any:
        def submit(*arguments: Any) -> Ref:
            future: Future[Any] = Future()

            def run() -> None:
                try:
                    future.set_result(_sent(function(*_sent(arguments))))
                except BaseException as error:
                    future.set_exception(error)

            threading.Thread(target=run, daemon=True).start()
            return Ref(future)

        return SimpleNamespace(options=lambda **options: SimpleNamespace(remote=submit))

    def put(self, value: Any) -> Ref:
        future: Future[Any] = Future()
        future.set_result(_sent(value))
        return Ref(future)

    def get(self, reference: Ref, timeout: float | None = None) -> Any:
        return _sent(reference.future().result(timeout))

    def kill(self, actor: Actor) -> None:
        actor.end()

    def nodes(self) -> list[dict[str, Any]]:
        return [{"NodeID": "one", "Alive": True, "Resources": {"CPU": self.num_cpus}}]

    def get_runtime_context(self) -> Any:
        return SimpleNamespace(get_node_id=lambda: "one")
