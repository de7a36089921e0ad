"""Progress on stderr: bars on a terminal, plain lines elsewhere, JSON lines for programs."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, TextIO

from provision.cli.screen import open_console, tell
from provision.events import Event, LogLine, Note, Progress, ProgressEnded, Reporter, StepEnded, StepStarted
from provision.result import json_text
from provision.units import format_bytes, format_rate, format_seconds

if TYPE_CHECKING:
    from rich.progress import TaskID

    from provision.cli.bars import Bars

_MARKS = {"done": "✓", "kept": "✓", "skipped": "-", "failed": "✗"}
_PLAIN_EVERY_S = 5.0


def make_reporter(*, mode: str, quiet: bool = False, stream: TextIO | None = None) -> Reporter:
    """A reporter for `mode` auto, json, plain or none. `quiet` (of --json) keeps auto silent except for warnings."""
    out = stream or sys.stderr
    if mode == "none":
        return lambda event: None
    if mode == "json":
        return _JsonReporter(out)
    if mode == "auto" and quiet:
        return _WarningReporter(out)
    # A dumb terminal cannot move its cursor back to a bar.
    if mode == "auto" and out.isatty() and os.environ.get("TERM", "").lower() not in ("dumb", "unknown"):
        return _BarReporter(out)
    return _PlainReporter(out, now=time.monotonic)


def describe(event: Progress) -> str:
    """`weights  1.2 GiB / 4.6 GiB (26 %) · 38 MiB/s · 1 min 30 s left`."""
    parts = []
    if event.unit == "bytes":
        total = f" / {format_bytes(event.total)}" if event.total is not None else ""
        parts.append(f"{format_bytes(event.done)}{total}")
    else:
        parts.append(f"{event.done}/{event.total if event.total is not None else '?'} {event.unit}")
    if event.total:
        parts[0] += f" ({100 * event.done // event.total} %)"
    if event.per_s:
        parts.append(format_rate(event.per_s) if event.unit == "bytes" else f"{event.per_s:.1f} {event.unit}/s")
    if event.left_s is not None:
        parts.append(f"{format_seconds(event.left_s)} left")
    if event.note:
        parts.append(event.note)
    return f"{event.label}  " + " · ".join(parts)


class _JsonReporter:
    def __init__(self, out: TextIO) -> None:
        self._out = out

    def __call__(self, event: Event) -> None:
        line = {"event": type(event).__name__, **asdict(event)}
        self._out.write(json_text(line) + "\n")
        self._out.flush()


class _WarningReporter:
    def __init__(self, out: TextIO) -> None:
        self._out = out

    def __call__(self, event: Event) -> None:
        if isinstance(event, Note) and event.level == "warning":
            tell(self._out, f"warning: {event.message}")


class _PlainReporter:
    """One line per step, and one per task every few seconds."""

    def __init__(self, out: TextIO, *, now: Callable[[], float]) -> None:
        self._out = out
        self._now = now
        self._last: dict[str, float] = {}

    def __call__(self, event: Event) -> None:
        line = self._line(event)
        if line is not None:
            tell(self._out, line)

    def _line(self, event: Event) -> str | None:
        match event:
            case StepStarted():
                return f"→ {event.title}"
            case StepEnded():
                return f"{_MARKS[event.status]} {event.summary} ({format_seconds(event.elapsed_s)})"
            case Note():
                return f"  {'warning: ' if event.level == 'warning' else ''}{event.message}"
            case Progress():
                last = self._last.get(event.task)
                if last is None:
                    # The first state says little; the clock starts here, so quick tasks print nothing.
                    self._last[event.task] = self._now()
                    return None
                if self._now() - last < _PLAIN_EVERY_S:
                    return None
                self._last[event.task] = self._now()
                return "  " + describe(event)
            case ProgressEnded():
                self._last.pop(event.task, None)
                return None
            case LogLine():
                return None


class _BarReporter:
    """Bars that vanish when their task ends; steps and notes stay as lines above them."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._bars: Bars | None = None
        self._tasks: dict[str, TaskID] = {}
        # Probes and downloads report from threads of their own; rich guards its drawing, not our table of tasks.
        self._lock = threading.RLock()

    def __call__(self, event: Event) -> None:
        with self._lock:
            self._take(event)

    def _take(self, event: Event) -> None:
        match event:
            case Progress():
                self._show(event)
            case ProgressEnded():
                self._drop(event.task)
            case StepStarted():
                self._say(f"→ {event.title}")
            case StepEnded():
                self._say(f"{_MARKS[event.status]} {event.summary} ({format_seconds(event.elapsed_s)})")
            case Note():
                self._say(f"  {'warning: ' if event.level == 'warning' else ''}{event.message}")
            case LogLine():
                pass

    def _say(self, line: str) -> None:
        if self._bars is not None:
            self._bars.console.print(line, markup=False, highlight=False)
        else:
            tell(self._out, line)

    def _show(self, event: Progress) -> None:
        from provision.cli.bars import Bars

        if self._bars is None:
            self._bars = Bars(console=open_console(self._out), transient=True)
            self._bars.start()
        self._tasks[event.task] = self._bars.follow(event, self._tasks.get(event.task))

    def _drop(self, task: str) -> None:
        task_id = self._tasks.pop(task, None)
        if self._bars is None or task_id is None:
            return
        self._bars.remove_task(task_id)
        if not self._tasks:
            self._bars.stop()
            self._bars = None
