"""A rate limit shared by all connections: a bucket that fills with time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

_BURST_S = 0.25


class RateLimit:
    """At most `bytes_per_s` on average, in bursts of a quarter second. `take` sleeps as long as is needed."""

    def __init__(
        self, bytes_per_s: int, *, clock: Callable[[], float] = time.monotonic, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self.bytes_per_s = bytes_per_s
        self.chunk_bytes = max(1024, min(1024 * 1024, bytes_per_s // 16))
        self._clock = clock
        self._sleep = sleep
        self._lock = threading.Lock()
        self._due_s = clock()

    def take(self, count: int) -> None:
        with self._lock:
            now = self._clock()
            # Unused time is kept only up to the burst, so an idle minute does not become a flood.
            self._due_s = max(self._due_s, now - _BURST_S) + count / self.bytes_per_s
            wait_s = self._due_s - now
        if wait_s > 0:
            self._sleep(wait_s)
