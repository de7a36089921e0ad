"""What happens while a command works, told as data. Rooms emit events; only the CLI knows how to show them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Unit = Literal["bytes", "steps", "tokens"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StepStarted:
    """A named step of a longer sequence (`install` of `up`) begins."""

    step: str
    title: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StepEnded:
    """The step ended with `status` and one line for people."""

    step: str
    status: Literal["done", "kept", "skipped", "failed"]
    summary: str
    elapsed_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """State of one task, complete in itself: a printer needs no memory of earlier events. `total` None means unknown."""

    task: str
    label: str
    done: int
    total: int | None
    unit: Unit
    per_s: float | None = None
    left_s: float | None = None
    note: str = ""
    brief: str = ""
    """The note in fewer letters, for a narrow screen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgressEnded:
    """The task is over, well or badly; its bar can go."""

    task: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """One sentence people should see while the work goes on: a retry, a fallback, a warning."""

    level: Literal["info", "warning"]
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LogLine:
    """A raw line of a tool we run; shown only on request."""

    source: str
    line: str


Event = StepStarted | StepEnded | Progress | ProgressEnded | Note | LogLine
Reporter = Callable[[Event], None]


def silent(event: Event) -> None:
    """The reporter that says nothing."""
