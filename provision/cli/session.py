"""What every command shares: the settings, the reporter, and the pair of a result with its human voice."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from provision.errors import UsageError
from provision.events import Reporter
from provision.result import Result
from provision.settings import Settings, read_settings

if TYPE_CHECKING:
    from rich.console import Console

Renderer = Callable[["Console", Mapping[str, Any]], None]

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout and nothing else.")]
ProgressOption = Annotated[
    str, typer.Option("--progress", metavar="auto|json|plain|none", help="How progress is shown on stderr.", show_default=False)
]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Print the complete plan and change nothing.")]
PROGRESS_MODES = ("auto", "json", "plain", "none")


@dataclass(frozen=True, slots=True, kw_only=True)
class Spoken:
    """What a command function returns: the result, and how to say it to people."""

    result: Result
    render: Renderer


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """Opened once per command."""

    settings: Settings
    reporter: Reporter


def open_session(*, json: bool, progress: str = "auto") -> Session:
    """Settings from the process environment and a reporter on stderr."""
    from provision.cli.progress import make_reporter

    if progress not in PROGRESS_MODES:
        raise UsageError(
            f"--progress {progress!r} is not one of {', '.join(PROGRESS_MODES)}",
            code="bad-option",
            hint="leave it out for auto",
        )
    settings = read_settings(os.environ, home=Path.home())
    return Session(settings=settings, reporter=make_reporter(mode=progress, quiet=json and progress == "auto"))


def human_console(*, stderr: bool = False) -> Console:
    """A console that reads well without colour, at 80 columns and without a TTY."""
    from provision.cli.screen import open_console

    stream = sys.stderr if stderr else sys.stdout
    columns = os.environ.get("COLUMNS", "")
    width = None if stream.isatty() else max(80, int(columns) if columns.isdecimal() else 0)
    return open_console(stream, width=width, no_color=bool(os.environ.get("NO_COLOR")))
