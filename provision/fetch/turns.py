"""Turns at the CPU: how many connections may decrypt or write at the same time.

More readers than CPUs bring no byte sooner. They hand Python's lock round after each TLS record of 16 KiB, and they take the
CPU from the thread that hashes, which then ends last. Waiting for the network needs no turn.
"""

from __future__ import annotations

import os
import queue
from types import TracebackType

_MOST = 4
"""One reader moves more than most lines; from here on the lock is what they would wait for."""


class Turns:
    """Enter it for work on bytes that are here; never while waiting for somebody else's."""

    def __init__(self, count: int) -> None:
        # A queue of permits costs less than threading.Semaphore, which is written in Python.
        self._permits: queue.SimpleQueue[None] = queue.SimpleQueue()
        for _ in range(count):
            self._permits.put(None)

    def __enter__(self) -> None:
        self._permits.get()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._permits.put(None)


def turns_for(cpus: int) -> int:
    """One CPU is left to the hash, where there are two."""
    return max(1, min(_MOST, cpus - 1))


def usable_cpus() -> int:
    """CPUs this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1  # pragma: no cover - macOS and Windows, not tried
