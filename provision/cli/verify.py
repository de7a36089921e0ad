"""`provision verify`: what is on the disk, hashed again, without a network."""

from __future__ import annotations

import os
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


_MARKS = {"ok": "✓", "unknown": "?"}


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
    bad = [file for file in checked if file.status not in ("ok", "unknown")]
    unsaid = [file for file in checked if file.status == "unknown"]
    errors = [
        ErrorItem(code=f"file-{file.status}", message=_problem(file), hint=_replacing(target, file)) for file in [*bad, *unsaid]
    ]
    result = Result(
        command="verify",
        data={"files": [file.to_data() for file in checked]},
        exit_code=ExitCode.INTEGRITY if bad else ExitCode.NOT_FOUND if unsaid else ExitCode.OK,
        status="error" if errors else "ok",
        errors=errors,
    )
    return Spoken(result=result, render=_render)


def _problem(file: CheckedFile) -> str:
    if file.status == "unknown":
        return f"nothing says what {file.path} should contain, so it was not checked: {file.local_path}"
    return f"{file.path} is {file.status}: {file.local_path}"


def _replacing(target: str | None, file: CheckedFile) -> str:
    """The command that brings the right bytes back: of this very file, in this very revision."""
    promise = file.promise
    if promise is None and target is not None and Path(target).suffix == ".lock":
        return shlex.join(["provision", "sync", target])
    if promise is None or promise.repo_id is None:
        folder = file.local_path.parent
        return shlex.join(["provision", "fetch", "ORG/REPO", "--file", file.path, "--local-dir", str(folder)])
    if "/" not in promise.repo_id:
        # A repository of the Hub's first days, without an organization: the official client brought it.
        revision = ["--revision", promise.revision] if promise.revision else []
        return shlex.join(["hf", "download", promise.repo_id, promise.path, *revision, "--force-download"])
    name = f"{promise.repo_id}@{promise.revision}" if promise.revision else promise.repo_id
    words = ["provision", "fetch", name, "--file", promise.path]
    words += ["--source", promise.source] if promise.source != "hf" else []
    return shlex.join([*words, *(["--local-dir", str(promise.folder)] if promise.folder is not None else [])])


def _check(target: str | None, session: Session) -> tuple[CheckedFile, ...]:
    from provision.fetch.verify import verify_cache, verify_cached, verify_folder, verify_local
    from provision.models.refs import is_ref, parse_ref

    if target is None:
        return verify_cache(settings=session.settings, reporter=session.reporter)
    path = Path(target)
    if path.is_file() and path.suffix == ".lock":
        return _check_lock(path, session)
    if not is_ref(target) and path.is_dir():
        return verify_folder(path.absolute(), reporter=session.reporter)
    if (os.path.lexists(path) and not path.is_dir()) or (_is_path(target) and not is_ref(target)):
        return (verify_local(path.absolute(), settings=session.settings, reporter=session.reporter),)
    return verify_cached(parse_ref(target), settings=session.settings, reporter=session.reporter)


def _is_path(text: str) -> bool:
    """Whether a person means a file by it, be it there or not."""
    return "://" not in text and (text.startswith(("/", "./", "../", "~")) or Path(text).suffix in (".gguf", ".lock", ".tar"))


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
    files = data["files"]
    names = [file["path"] for file in files]
    for file in files:
        mark = _MARKS.get(file["status"], "✗")
        size = format_bytes(file["size_bytes"]) if file["size_bytes"] is not None else "-"
        # Only where one name stands for several contents.
        at = f" at {file['revision'][:12]}" if file["revision"] and names.count(file["path"]) > 1 else ""
        console.print(f"{mark} {file['path']}{at}  {size}  {file['status']}", soft_wrap=True)
    unsaid = sum(file["status"] == "unknown" for file in files)
    good = sum(file["status"] == "ok" for file in files)
    if not files:
        console.print("no model is in the cache, so nothing was checked", markup=False)
    elif unsaid < len(files):
        console.print(f"{good} of {len(files) - unsaid} files are what they promise to be", markup=False)
    if unsaid:
        count = f"{unsaid} file{'s' if unsaid != 1 else ''}"
        console.print(f"unknown: {count} without a promise, not checked", markup=False)
