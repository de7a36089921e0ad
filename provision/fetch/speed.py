"""How fast something moves, judged by its last seconds."""

from __future__ import annotations

from collections import deque

_WINDOW_S = 5.0


class Speedometer:
    """Feed it the count so far; it answers with the mean rate of the last five seconds."""

    def __init__(self) -> None:
        self._marks: deque[tuple[float, int]] = deque()

    def per_s(self, done: int, now: float) -> float | None:
        """Units per second, or None before there is anything to judge by."""
        self._marks.append((now, done))
        while len(self._marks) > 2 and now - self._marks[0][0] > _WINDOW_S:
            self._marks.popleft()
        began, first = self._marks[0]
        if now - began < 0.2 or done <= first:
            return None
        return (done - first) / (now - began)
