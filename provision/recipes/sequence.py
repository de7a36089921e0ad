"""The bare bones of `up`: named steps in order, each timed and reported, stopping at the first named reason.

Nothing here knows what a step does. A step that finds its work already done says so (`kept`), which is what makes the sequence
resumable: whatever was interrupted, running it again goes through the same steps and only the missing work is done.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from provision.errors import ProvisionError
from provision.events import Reporter, StepEnded, StepStarted

Status = Literal["done", "kept", "skipped", "failed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a step says when it is through: its status and one line for people."""

    status: Literal["done", "kept", "skipped"]
    summary: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step: `run` does the work, or finds it done, and raises ProvisionError when it cannot."""

    name: str
    title: str
    run: Callable[[], Outcome]


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRecord:
    """How a step ended."""

    name: str
    status: Status
    summary: str
    elapsed_s: float

    def to_data(self) -> dict[str, Any]:
        return {"name": self.name, "status": self.status, "summary": self.summary, "elapsed_s": round(self.elapsed_s, 3)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Walked:
    """The steps that ran, and the reason the walk stopped early, if it did."""

    records: tuple[StepRecord, ...]
    error: ProvisionError | None = None


def walk(steps: Sequence[Step], *, reporter: Reporter, now: Callable[[], float] = time.monotonic) -> Walked:
    """Run `steps` in order. A ProvisionError ends the walk and is returned, any other exception passes through."""
    records: list[StepRecord] = []
    for step in steps:
        reporter(StepStarted(step=step.name, title=step.title))
        started = now()
        error: ProvisionError | None = None
        try:
            outcome = step.run()
            record = StepRecord(name=step.name, status=outcome.status, summary=outcome.summary, elapsed_s=now() - started)
        except ProvisionError as caught:
            error = caught
            first_line = caught.message.splitlines()[0] if caught.message else caught.code
            record = StepRecord(name=step.name, status="failed", summary=first_line, elapsed_s=now() - started)
        records.append(record)
        reporter(
            StepEnded(
                step=record.name,
                status=record.status,
                summary=f"{record.name}: {record.summary}",
                elapsed_s=record.elapsed_s,
            )
        )
        if error is not None:
            return Walked(records=tuple(records), error=error)
    return Walked(records=tuple(records))
