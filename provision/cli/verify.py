"""`provision verify`: what is on the disk, hashed again, without a network."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import replace
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
        str | None,
        typer.Argument(metavar="[ORG/REPO[:QUANT]|FILE|LOCK|BUNDLE]", help="Without it: every model in the cache."),
    ] = None,
    json: JsonOption = False,
    progress: ProgressOption = "auto",
) -> Spoken:
    """Check files at rest against the hashes they promise, offline: a model, a lock's model, a bundle, or the whole cache."""
    if target is not None and _is_bundle(Path(target)):
        from provision.cli.bundle import verify as verify_bundle

        spoken = verify_bundle(target, json=json, progress=progress)
        return Spoken(result=replace(spoken.result, command="verify"), render=spoken.render)
    session = open_session(json=json, progress=progress)
    checked = _check(target, session)
    bad = [file for file in checked if file.status != "ok"]
    errors = [
        ErrorItem(
            code=f"file-{file.status}",
            message=f"{file.path} is {file.status}: {file.local_path}",
            hint=_replacing(target, file.path),
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


def _replacing(target: str | None, path: str) -> str:
    """The command that brings the right bytes back. In the whole cache a file's name begins with its repository."""
    if target is None:
        repo_id, _, name = path.partition(": ")
        return shlex.join(["provision", "fetch", repo_id, "--file", name])
    if Path(target).suffix == ".lock":
        return shlex.join(["provision", "sync", target])
    if Path(target).is_file():
        return "fetch it again: the provision fetch that brought it replaces it"
    return shlex.join(["provision", "fetch", target])


def _check(target: str | None, session: Session) -> tuple[CheckedFile, ...]:
    from provision.fetch.verify import verify_cache, verify_cached, verify_local
    from provision.models.refs import parse_ref

    if target is None:
        return verify_cache(settings=session.settings, reporter=session.reporter)
    path = Path(target)
    if path.is_file() and path.suffix == ".lock":
        return _check_lock(path, session)
    if path.is_file():
        return (verify_local(path.absolute(), settings=session.settings, reporter=session.reporter),)
    return verify_cached(parse_ref(target), settings=session.settings, reporter=session.reporter)


def _check_lock(path: Path, session: Session) -> tuple[CheckedFile, ...]:
    """The model files a lock names; engine and packages are what `provision lock --check` compares."""
    from provision.fetch.verify import check_file
    from provision.recipes.lockfile import read_lock
    from provision.recipes.observe import model_files

    model = read_lock(path).model
    places = model_files(model, settings=session.settings, folder=path.absolute().parent)
    return tuple(
        check_file(locked.path, place, digest=locked.sha256, reporter=session.reporter)
        for locked, (_, place) in zip(model.files, places, strict=True)
    )


def _is_bundle(path: Path) -> bool:
    """A folder with a bundle's table of contents, or a bundle that is one file."""
    return (path / "bundle.json").is_file() or (path.is_file() and path.suffix == ".tar")


def _render(console: Console, data: Mapping[str, Any]) -> None:
    for file in data["files"]:
        mark = "✓" if file["status"] == "ok" else "✗"
        size = format_bytes(file["size_bytes"]) if file["size_bytes"] is not None else "-"
        console.print(f"{mark} {file['path']}  {size}  {file['status']}", markup=False)
    good = sum(file["status"] == "ok" for file in data["files"])
    console.print(f"{good} of {len(data['files'])} files are what they promise to be", markup=False)
