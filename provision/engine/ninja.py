"""Ninja's `[12/187]` turned into progress with a rate and the time left. Pure: the clock comes in."""

from __future__ import annotations

import re
from collections.abc import Callable

from provision.events import Progress

_STATUS = re.compile(r"^\s*\[(\d+)/(\d+)\]\s+(.*)$")
_OBJECT = re.compile(r"(?:^|\s)-o\s+(\S+)")


class NinjaProgress:
    """Feeds on the lines of one build. Sub-builds (ggml's shader generator) count for themselves and are passed over."""

    def __init__(self, *, now: Callable[[], float], task: str = "build", label: str = "compiling") -> None:
        self._now = now
        self._task = task
        self._label = label
        self._total = 0
        self._first: tuple[int, float] | None = None

    def feed(self, line: str) -> Progress | None:
        """The state after `line`, or None when the line says nothing about the whole."""
        match = _STATUS.match(line)
        if match is None:
            return None
        done, total = int(match[1]), int(match[2])
        if total < self._total or done > total:
            return None
        self._total = total
        now = self._now()
        if self._first is None or done < self._first[0]:
            self._first = (done, now)
        steps, elapsed = done - self._first[0], now - self._first[1]
        per_s = steps / elapsed if steps > 0 and elapsed > 0 else None
        return Progress(
            task=self._task,
            label=self._label,
            done=done,
            total=total,
            unit="steps",
            per_s=per_s,
            left_s=(total - done) / per_s if per_s else None,
            note=_what(match[3]),
        )


def _what(command: str) -> str:
    """The file a compiler command makes, without its folders."""
    match = _OBJECT.search(command)
    return match[1].rsplit("/", 1)[-1].removesuffix(".o") if match else ""
