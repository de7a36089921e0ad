"""`provision verify`: what is on the disk, hashed again, without a network."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from provision.cli.session import JsonOption, ProgressOption, Session, Spoken, open_session
from provision.errors import ExitCode
from provision.result import ErrorItem, Result
from provision.units import format_bytes

if TYPE_CHECKING:
    from rich.console import Console

    from provision.fetch.verify import CheckedFile


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("verify")(verify_command)


def verify_command(
    target: Annotated[
        str | None, typer.Argument(metavar="[ORG/REPO[:QUANT] | FILE]", help="Without it: everything in the cache.")
    ] = None,
    json: JsonOption = False,
    progress: ProgressOption = "auto",
) -> Spoken:
    """Check cached model files against their hashes, offline."""
    session = open_session(json=json, progress=progress)
    checked = _check(target, session)
    bad = [file for file in checked if file.status != "ok"]
    errors = [
        ErrorItem(
            code=f"file-{file.status}",
            message=f"{file.path} is {file.status}: {file.local_path}",
            hint="fetch it again: the same provision fetch replaces it",
        )
        for file in bad
    ]
    result = Result(
        command="verify",
        data={"files": [file.to_data() for file in checked]},
        exit_code=ExitCode.INTEGRITY if bad else ExitCode.OK,
        status="error" if bad else "ok",
        errors=errors,
    )
    return Spoken(result=result, render=_render)


def _check(target: str | None, session: Session) -> tuple[CheckedFile, ...]:
    from provision.fetch.verify import verify_cache, verify_cached, verify_local
    from provision.models.refs import parse_ref

    if target is None:
        return verify_cache(settings=session.settings, reporter=session.reporter)
    path = Path(target)
    if path.exists() and path.is_file():
        return (verify_local(path.absolute(), settings=session.settings, reporter=session.reporter),)
    return verify_cached(parse_ref(target), settings=session.settings, reporter=session.reporter)


def _render(console: Console, data: Mapping[str, Any]) -> None:
    for file in data["files"]:
        mark = "✓" if file["status"] == "ok" else "✗"
        size = format_bytes(file["size_bytes"]) if file["size_bytes"] is not None else "-"
        console.print(f"{mark} {file['path']}  {size}  {file['status']}", markup=False)
    good = sum(file["status"] == "ok" for file in data["files"])
    console.print(f"{good} of {len(data['files'])} files are what they promise to be", markup=False)
