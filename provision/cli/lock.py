"""`provision lock` and `provision sync`: write down exactly what runs here, and make another machine equal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from provision.cli.called import as_called
from provision.cli.session import JsonOption, ProgressOption, Spoken, open_session
from provision.errors import ExitCode
from provision.result import ErrorItem, Result

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console

    from provision.cli.session import Session
    from provision.recipes.syncing import Deployment, SyncReport

PythonOption = Annotated[str | None, typer.Option(help="The Python whose environment is meant; default: this one.")]


def register(app: typer.Typer) -> None:
    """Add the commands `lock` and `sync`."""
    app.command("lock")(lock)
    app.command("sync")(sync)


def lock(
    recipe: Annotated[
        str | None, typer.Argument(metavar="RECIPE|org/repo[:QUANT]|FILE.gguf", help="What to lock; not needed with --check.")
    ] = None,
    output: Annotated[str, typer.Option("--output", "-o", help="The lock file.")] = "provision.lock",
    check: Annotated[bool, typer.Option("--check", help="Compare this machine with the lock and change nothing.")] = False,
    python: PythonOption = None,
    json: JsonOption = False,
    progress: ProgressOption = "auto",
) -> Spoken:
    """Set up RECIPE (what is there is kept) and write provision.lock; with --check, compare with the lock instead."""
    import shlex
    from pathlib import Path

    from provision.errors import UsageError

    session = open_session(json=json, progress=progress)
    if check:
        return _report("lock", _deployment(session, Path(output), python=python, frozen=True).check())
    if recipe is None:
        raise UsageError("lock what? name a recipe", code="usage", hint="provision lock demo")
    folder = Path(output).absolute().parent
    if not folder.is_dir():
        raise UsageError(
            f"there is no folder {folder} for the lock", code="no-folder", hint=f"mkdir -p {shlex.quote(str(folder))}"
        )
    return _lock(session, recipe, Path(output), python=python)


def sync(
    lock_file: Annotated[str, typer.Argument(metavar="LOCK", help="A provision.lock.")] = "provision.lock",
    frozen: Annotated[
        bool, typer.Option("--frozen", help="Resolve and build nothing anew: the locked bytes or an error.")
    ] = False,
    python: PythonOption = None,
    json: JsonOption = False,
    progress: ProgressOption = "auto",
) -> Spoken:
    """Make this machine equal to a lock: engine, packages, model, by hash; then prove it."""
    from pathlib import Path

    from provision.recipes.deployment import hashes_of
    from provision.recipes.uses import note_lock

    session = open_session(json=json, progress=progress)
    deployment = _deployment(session, Path(lock_file), python=python, frozen=frozen)
    report = deployment.sync()
    if report.error is None:
        note_lock(session.settings, path=Path(lock_file).absolute(), sha256=hashes_of(deployment.lock))
    return _report("sync", report)


def _lock(session: Session, recipe: str, output: Path, *, python: str | None) -> Spoken:
    import sys
    from pathlib import Path

    from provision.recipes.deployment import hashes_of, lock_deployment, note_report, write_lock_file
    from provision.recipes.entry import real_rooms
    from provision.recipes.lockfile import write_lock
    from provision.recipes.target import understand
    from provision.recipes.uses import note_lock

    target = Path(python or sys.executable)
    rooms = real_rooms(session.settings, python=target, reporter=session.reporter)
    report, made = lock_deployment(
        understand(recipe), rooms=rooms, python=target, settings=session.settings, reporter=session.reporter
    )
    data: dict[str, Any] = {**report.to_data(), "lock": None, "written": None}
    error = report.error
    if made is not None:
        write_lock_file(output, write_lock(made))
        note_lock(session.settings, path=output.absolute(), sha256=hashes_of(made))
        note_report(report, python=target, settings=session.settings)
        data |= {"lock": made.to_data(), "written": str(output)}
    result = Result(
        command="lock",
        data=data,
        status="error" if error else "ok",
        exit_code=error.exit_code if error else ExitCode.OK,
        errors=(ErrorItem.of(error),) if error else (),
    )
    return Spoken(result=result, render=_render_lock)


def _deployment(session: Session, path: Path, *, python: str | None, frozen: bool) -> Deployment:
    import sys
    from pathlib import Path as P

    from provision.recipes.entry import real_rooms
    from provision.recipes.lockfile import read_lock
    from provision.recipes.syncing import Deployment

    target = P(python or sys.executable)
    return Deployment(
        lock=read_lock(path),
        folder=path.absolute().parent,
        python=target,
        settings=session.settings,
        rooms=real_rooms(session.settings, python=target, reporter=session.reporter),
        reporter=session.reporter,
        frozen=frozen,
    )


def _report(command: str, report: SyncReport) -> Spoken:
    error = report.error
    result = Result(
        command=command,
        data=report.to_data(),
        status="error" if error else "ok",
        exit_code=error.exit_code if error else ExitCode.OK,
        errors=(ErrorItem.of(error),) if error else (),
    )
    return Spoken(result=result, render=_render_sync)


def _render_lock(console: Console, data: Mapping[str, Any]) -> None:
    console.print(data["line"], markup=False, soft_wrap=True)
    if data["written"]:
        locked = data["lock"]
        console.print(f"wrote {data['written']}: tree {locked['tree_sha256'][:16]}, {locked['hardware']['name']}", markup=False)
        console.print("\nnext:", markup=False)
        console.print(as_called("  provision lock --check               is this machine still what was locked?"), markup=False)
        console.print(as_called("  provision sync provision.lock        make another machine equal"), markup=False)


def _render_sync(console: Console, data: Mapping[str, Any]) -> None:
    for difference in data["differences"]:
        console.print(f"✗ {difference}", markup=False, soft_wrap=True)
    if data["verdict"] in ("pass", "warn") and not data["differences"]:
        console.print(f"EQUAL  {data['recipe']} · tree {data['tree_sha256'][:16]} · smoke {data['verdict']}", markup=False)
