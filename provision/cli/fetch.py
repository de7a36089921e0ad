"""`provision fetch`: files of a repository into the shared cache, verified."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from provision.cli.session import DryRunOption, JsonOption, ProgressOption, Session, Spoken, open_session
from provision.result import Result
from provision.units import format_bytes, format_rate, format_seconds, parse_size

if TYPE_CHECKING:
    from rich.console import Console

    from provision.fetch.types import FetchWish
    from provision.models.types import RepoRef

# Planning hashes nothing, so `keep` is said only of what was verified before.
_PLANNED = {
    "keep": "verified before and unchanged",
    "check": "right size, hash not checked yet",
    "copy": "in the shared cache; will be copied from there",
    "repair": "not what it should be; at most {} to fetch",
}
_MARKS = {"downloaded": "✓", "resumed": "✓", "kept": "=", "repaired": "✓"}
_FEW = 4


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("fetch")(fetch_command)


def fetch_command(
    repository: Annotated[str, typer.Argument(metavar="ORG/REPO[:QUANT]", help="Repository, with the quant you want.")],
    quant: Annotated[str | None, typer.Option("--quant", help="Quant label, or auto: the best that fits here.")] = None,
    file: Annotated[list[str] | None, typer.Option("--file", metavar="NAME", help="Exactly this file; repeatable.")] = None,
    include: Annotated[list[str] | None, typer.Option("--include", metavar="GLOB", help="Files that match.")] = None,
    exclude: Annotated[list[str] | None, typer.Option("--exclude", metavar="GLOB", help="But not these.")] = None,
    revision: Annotated[str | None, typer.Option("--revision", help="Branch, tag or commit; default main.")] = None,
    endpoint: Annotated[
        list[str] | None,
        typer.Option("--endpoint", metavar="URL", help="Hub, mirror or peer; repeatable. The first lists, all deliver."),
    ] = None,
    source: Annotated[list[str] | None, typer.Option("--source", metavar="hf|modelscope", help="Kinds of servers.")] = None,
    connections: Annotated[
        int | None,
        typer.Option("--connections", help="Connections per file, 1 to 64; left out, 8, and up to 16 where that helps."),
    ] = None,
    limit_rate: Annotated[
        str | None, typer.Option("--limit-rate", metavar="RATE", help="At most this many bytes per second, e.g. 10M.")
    ] = None,
    local_dir: Annotated[Path | None, typer.Option("--local-dir", help="A plain folder instead of the cache.")] = None,
    with_mmproj: Annotated[bool, typer.Option("--with-mmproj", help="Also the multimodal projector.")] = False,
    offline: Annotated[bool, typer.Option("--offline", help="Use only what is here.")] = False,
    dry_run: DryRunOption = False,
    json: JsonOption = False,
    progress: ProgressOption = "auto",
) -> Spoken:
    """Download model files: parallel, resumable, verified, into the cache that hf, transformers and llama.cpp share."""
    from provision.fetch.choose import asked_quant
    from provision.fetch.service import fetch, plan_fetch
    from provision.fetch.types import FetchWish
    from provision.models.refs import parse_ref

    session = open_session(json=json, progress=progress)
    ref = parse_ref(repository)
    wish = FetchWish(
        quant=quant,
        names=tuple(file or ()),
        include=tuple(include or ()),
        exclude=tuple(exclude or ()),
        revision=revision,
        with_mmproj=with_mmproj,
        endpoints=tuple(endpoint or ()),
        sources=tuple(source or ()),
        connections=connections,
        limit_bytes_per_s=_rate(limit_rate),
        local_dir=_folder(local_dir),
        offline=offline,
    )
    if asked_quant(ref, wish) == "auto":
        ref, wish = _choose_quant(session, ref, wish)
    if dry_run:
        plan = plan_fetch(ref, wish, settings=session.settings, reporter=session.reporter)
        return Spoken(result=Result(command="fetch", data=plan.to_data()), render=_render_plan)
    done = fetch(ref, wish, settings=session.settings, reporter=session.reporter)
    return Spoken(result=Result(command="fetch", data=done.to_data()), render=_render)


def _folder(path: Path | None) -> Path | None:
    """A `~` in quotes, or after `=`, reaches us as it is; it means the same as everywhere."""
    try:
        return path.expanduser().absolute() if path is not None else None
    except RuntimeError as error:
        from provision.errors import UsageError

        raise UsageError(f"--local-dir {path}: {error}", code="bad-option", hint="for example: --local-dir ~/models") from error


def _rate(text: str | None) -> int | None:
    if text is None:
        return None
    from provision.errors import UsageError

    rate = parse_size(text.removesuffix("/s"), example="--limit-rate 10M")
    if rate < 16 * 1024:
        raise UsageError(f"--limit-rate {text} is less than 16 KiB/s", code="bad-option", hint="for example: --limit-rate 10M")
    return rate


def _choose_quant(session: Session, ref: RepoRef, wish: FetchWish) -> tuple[RepoRef, FetchWish]:
    """`auto`: the quant that fit would choose for this machine."""
    from dataclasses import replace

    from provision.errors import DoesNotFitError
    from provision.fit.service import fit
    from provision.fit.types import FitWish
    from provision.host.probe import probe_host

    host = probe_host(session.settings, reporter=session.reporter)
    asked = FitWish(revision=wish.revision or ref.revision, endpoint=wish.endpoints[0] if wish.endpoints else None)
    fitted = fit(ref.repo_id, asked, host=host, settings=session.settings, reporter=session.reporter)
    if fitted.chosen is None:
        raise DoesNotFitError(
            f"no quant of {ref.repo_id} fits this machine", code="nothing-fits", hint=f"provision fit {ref.repo_id} --explain"
        )
    return replace(ref, quant=None), replace(wish, quant=fitted.chosen.quant)


def _render(console: Console, data: Mapping[str, Any]) -> None:
    folder = _shared_folder(data["files"])
    for file in data["files"]:
        told = f"{_MARKS[file['action']]} {file['path']}  {format_bytes(file['size_bytes'])}  {file['action']}"
        # Names are never broken in two: they are to be copied, and read by other programs.
        console.print(told, soft_wrap=True)
        if folder is None:
            console.print(f"    {file['local_path']}", soft_wrap=True)
        if len(file["sources"]) > 1:
            shares = ", ".join(f"{origin} {format_bytes(count)}" for origin, count in file["sources"].items())
            console.print(f"    from {shares}", soft_wrap=True)
    if folder is not None:
        console.print(f"all in {folder}", soft_wrap=True)
    moved = sum(file["transferred_bytes"] for file in data["files"])
    rate = f" at {format_rate(data['bytes_per_s'])}" if data["bytes_per_s"] else ""
    what = f"{format_bytes(moved)} in {format_seconds(data['elapsed_s'])}{rate}" if moved else "nothing had to be downloaded"
    console.print(f"{data['repo_id']} at {data['commit'][:12]}: {what}; every file verified", soft_wrap=True)


def _render_plan(console: Console, data: Mapping[str, Any]) -> None:
    folder = _shared_folder(data["files"])
    for file in data["files"]:
        missing = _PLANNED.get(file["action"], "{} to fetch").format(format_bytes(file["missing_bytes"]))
        console.print(f"{file['action']:<9} {file['path']}  {format_bytes(file['size_bytes'])}, {missing}", soft_wrap=True)
        if folder is None:
            console.print(f"          {file['local_path']}", soft_wrap=True)
    if folder is not None:
        console.print(f"all in {folder}", soft_wrap=True)
    free = f"; {format_bytes(data['free_bytes'])} free" if data["free_bytes"] is not None else ""
    console.print(f"{data['repo_id']} at {data['commit'][:12]} from {', '.join(data['sources'])}", soft_wrap=True)
    console.print(f"{format_bytes(data['missing_bytes'])} to fetch{free}; nothing was changed")


def _shared_folder(files: Sequence[Mapping[str, Any]]) -> str | None:
    """The folder to say once, when there are more files than one looks at one by one."""
    folders = {file["local_path"].removesuffix(file["path"]) for file in files}
    return folders.pop() if len(files) > _FEW and len(folders) == 1 else None
