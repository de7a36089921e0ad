"""How long one source may deliver nothing before it is given up. Pure: the clock is the caller's."""

from __future__ import annotations

from dataclasses import dataclass

from provision.fetch.judge import backoff_s

_MIN_TRIES = 4


@dataclass(slots=True)
class Patience:
    """Counts from the first failure after the last byte. The longest wait that the server asked for is granted once, on top."""

    total_s: float
    _since_s: float | None = None
    _failures: int = 0
    _granted_s: float = 0.0

    def failed(self, now: float, *, wait_s: float | None = None, since_s: float | None = None) -> float | None:
        """When to ask again after a failure; None when patience is over. `since_s`: when that try began, if it took long."""
        if self._since_s is None:
            self._since_s = now if since_s is None else since_s
        self._failures += 1
        self._granted_s = max(self._granted_s, wait_s or 0.0)
        again_s, end_s = now + backoff_s(self._failures, asked_s=wait_s), self._since_s + self.limit_s
        if wait_s is not None:
            return again_s if again_s <= end_s else None
        # A few quick tries more, for a patience shorter than those; tries that take long by themselves are not waited for.
        over = now >= end_s and (self._failures >= _MIN_TRIES or now >= end_s + self.total_s)
        return None if over else again_s

    def delivered(self) -> None:
        """A byte came: all is forgiven."""
        self._since_s, self._failures, self._granted_s = None, 0, 0.0

    @property
    def limit_s(self) -> float:
        return self.total_s + self._granted_s

    def waited_s(self, now: float) -> float:
        return 0.0 if self._since_s is None else now - self._since_s
