"""What a check says: findings with remedies as data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from provision.host.types import Host

Status = Literal["ok", "info", "warning", "error", "skipped", "crashed"]
WORST_FIRST: tuple[Status, ...] = ("error", "crashed", "warning", "info", "ok", "skipped")


@dataclass(frozen=True, slots=True, kw_only=True)
class Remedy:
    """What mends a finding: a sentence, commands that can be pasted, and where to read on."""

    text: str
    commands: tuple[str, ...] = ()
    url: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One answer of one check.

    `error`: no verified chat can be reached on this machine as it is, by any backend. `warning`: it can, but slower, on another
    device than the machine offers, or at risk. `info` and `ok` need no act.
    """

    check: str = ""
    status: Status
    summary: str
    detail: str = ""
    remedy: Remedy | None = None

    def to_data(self) -> dict[str, Any]:
        """As the contract writes it."""
        remedy = self.remedy
        return {
            "check": self.check,
            "status": self.status,
            "summary": self.summary,
            "detail": self.detail,
            "remedy": None if remedy is None else {"text": remedy.text, "commands": list(remedy.commands), "url": remedy.url},
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """A question doctor asks of every machine. `about` is its paragraph in docs/reference/checks.md."""

    id: str
    title: str
    about: str
    judge: Callable[[Host], list[Finding]]


def ok(summary: str, *, detail: str = "") -> Finding:
    return Finding(status="ok", summary=summary, detail=detail)


def info(summary: str, *, detail: str = "", remedy: Remedy | None = None) -> Finding:
    return Finding(status="info", summary=summary, detail=detail, remedy=remedy)


def warning(summary: str, *, detail: str = "", remedy: Remedy | None = None) -> Finding:
    return Finding(status="warning", summary=summary, detail=detail, remedy=remedy)


def error(summary: str, *, detail: str = "", remedy: Remedy | None = None) -> Finding:
    return Finding(status="error", summary=summary, detail=detail, remedy=remedy)


def skipped(summary: str) -> Finding:
    return Finding(status="skipped", summary=summary)
