"""`provision up`: from here to a verified chat in one command."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from provision.cli.called import program
from provision.cli.session import DryRunOption, JsonOption, ProgressOption, Spoken, open_session
from provision.errors import ExitCode
from provision.result import ErrorItem, Result

if TYPE_CHECKING:
    from rich.console import Console

_DEFAULT = "demo"


def register(app: typer.Typer) -> None:
    """Add the command `up`."""
    app.command("up")(up)


def up(
    target: Annotated[
        str, typer.Argument(metavar="RECIPE|org/repo[:QUANT]|FILE.gguf", help="What to set up; `demo` needs no hub.")
    ] = _DEFAULT,
    plan: Annotated[bool, typer.Option("--plan", help="Show everything that would happen and change nothing.")] = False,
    dry_run: DryRunOption = False,
    python: Annotated[str | None, typer.Option(help="The Python whose environment gets the engine; default: this one.")] = None,
    json: JsonOption = False,
    progress: ProgressOption = "auto",
) -> Spoken:
    """doctor, install, fit, fetch and smoke test in one; run it again and it goes on where it stopped."""
    import sys
    from pathlib import Path

    from provision.recipes.deployment import note_report
    from provision.recipes.entry import real_rooms
    from provision.recipes.target import understand
    from provision.recipes.up import run_up
    from provision.recipes.up_plan import plan_up

    session = open_session(json=json, progress=progress)
    wanted = understand(target)
    rooms = real_rooms(session.settings, python=Path(python) if python else None, reporter=session.reporter)
    if plan or dry_run:
        data = plan_up(wanted, rooms=rooms)
        return Spoken(result=Result(command="up", data=data), render=_render_plan)
    report = run_up(wanted, rooms=rooms, reporter=session.reporter)
    error = report.error
    if error is None:
        note_report(report, python=Path(python or sys.executable), settings=session.settings)
    result = Result(
        command="up",
        data=report.to_data(),
        status="error" if error else "ok",
        exit_code=error.exit_code if error else ExitCode.OK,
        errors=(ErrorItem.of(error),) if error else (),
    )
    return Spoken(result=result, render=_render_up)


def _render_up(console: Console, data: Mapping[str, Any]) -> None:
    # soft_wrap: the last line is what scripts grep for and people copy; it must stay one line.
    console.print(data["line"], markup=False, soft_wrap=True)
    if data["verdict"] in ("pass", "warn"):
        console.print("\nnext:", markup=False)
        own = program()
        for words, what in (
            ("chat", "talk to it"),
            ("serve", "an OpenAI-compatible server on this machine"),
            ("lock", "write down exactly what was installed"),
        ):
            command = f"{own} {words} {data['recipe']}"
            console.print(f"  {command:<40} {what}", markup=False, soft_wrap=True)


def _render_plan(console: Console, data: Mapping[str, Any]) -> None:
    console.print(f"plan for {data['recipe']}; nothing was changed", markup=False)
    for number, step in enumerate(data["plan"], 1):
        console.print(f"{number}. {step['name']:<8} {step['summary']}", markup=False, soft_wrap=True)
        for detail in step["details"]:
            console.print(f"            {detail}", markup=False, soft_wrap=True)
