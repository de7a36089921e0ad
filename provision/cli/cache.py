"""`provision cache`: what lies in the caches, whether it is still right, and clearing what nothing needs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from provision.cli.called import as_called
from provision.cli.screen import tell
from provision.cli.session import DryRunOption, JsonOption, ProgressOption, Spoken, open_session
from provision.errors import ExitCode
from provision.result import ErrorItem, Result

if TYPE_CHECKING:
    from rich.console import Console


def register(app: typer.Typer) -> None:
    """Add the group `cache`."""
    group = typer.Typer(
        no_args_is_help=True, help="List, verify and clear what was downloaded and built.", rich_markup_mode=None
    )
    group.command("list")(list_entries)
    group.command("verify")(verify)
    group.command("gc")(gc)
    app.add_typer(group, name="cache")


def list_entries(json: JsonOption = False) -> Spoken:
    """Models, wheels, toolkits, builds and partial downloads: size, last use, and who refers to them."""
    from provision.recipes.cache import list_cache

    session = open_session(json=json)
    entries = list_cache(session.settings)
    data = {
        "entries": [entry.to_data() for entry in entries],
        "size_bytes": sum(entry.size_bytes for entry in entries),
        "hf_hub_cache": str(session.settings.hf_hub_cache),
        "provision_home": str(session.settings.provision_home),
    }
    return Spoken(result=Result(command="cache", data=data), render=_render_list)


def verify(json: JsonOption = False, progress: ProgressOption = "auto") -> Spoken:
    """Hash every model and wheel at rest and compare with what was promised; works offline, several files at a time."""
    from provision.recipes.cache import list_cache, verify_cache

    session = open_session(json=json, progress=progress)
    entries = [entry for entry in list_cache(session.settings) if entry.kind in ("model", "wheel")]
    results = verify_cache(entries, reporter=session.reporter)
    rows = [
        {**result.entry.to_data(), "found_sha256": result.found, "status": "ok" if result.right else "damaged"}
        for result in results
    ]
    damaged = [result for result in results if not result.right]
    errors = [
        ErrorItem(
            code="damaged-at-rest",
            message=f"{result.entry.name} is damaged: its bytes are not those of its name ({result.entry.path})",
            hint=_mend(result.entry.name, result.entry.path),
        )
        for result in damaged
    ]
    result = Result(
        command="cache",
        data={"files": rows},
        status="error" if damaged else "ok",
        exit_code=ExitCode.INTEGRITY if damaged else ExitCode.OK,
        errors=errors,
    )
    return Spoken(result=result, render=_render_verify)


def gc(
    dry_run: DryRunOption = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask on a terminal.")] = False,
    unused_for: Annotated[
        float, typer.Option("--unused-for", metavar="DAYS", min=0, help="Keep what was used within this time.")
    ] = 1,
    json: JsonOption = False,
) -> Spoken:
    """Remove what provision placed, nothing refers to and was not used lately; the rest of the shared cache is left alone."""
    import sys
    import time

    from provision.recipes.cache import list_cache
    from provision.recipes.cache_clearing import DAY_S, removable, remove, unreferred
    from provision.units import format_bytes

    session = open_session(json=json)
    candidates = unreferred(list_cache(session.settings))
    entries = removable(candidates, now_s=time.time(), unused_for_s=unused_for * DAY_S)
    size = sum(entry.size_bytes for entry in entries)
    data: dict[str, Any] = {
        "entries": [entry.to_data() for entry in entries],
        "size_bytes": size,
        "freed_bytes": 0,
        "kept": [{"name": entry.name, "why": "used lately"} for entry in candidates if entry not in entries],
    }
    if entries and not dry_run:
        if sys.stdin.isatty() and not yes and not json:
            for entry in entries:
                tell(sys.stderr, f"  {format_bytes(entry.size_bytes):>10}  {entry.name}")
            if not typer.confirm(f"remove {len(entries)} entries, {format_bytes(size)}?", err=True):
                return Spoken(result=Result(command="cache", data=data), render=_render_gc)
        gone = remove(entries, settings=session.settings)
        data["freed_bytes"] = sum(entry.size_bytes for entry in gone)
        data["entries"] = [entry.to_data() for entry in gone]
        data["kept"] += [{"name": entry.name, "why": "in use"} for entry in entries if entry not in gone]
    return Spoken(result=Result(command="cache", data=data), render=_render_gc)


def _mend(name: str, path: object) -> str:
    repo, separator, file = name.partition(": ")
    return f"provision fetch {repo} --file '{file}'" if separator else f"rm {path}"


def _render_list(console: Console, data: Mapping[str, Any]) -> None:
    from datetime import datetime

    from rich.table import Table

    from provision.units import format_bytes

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("size", justify="right", no_wrap=True)
    table.add_column("kind", no_wrap=True)
    table.add_column("last use", no_wrap=True)
    table.add_column("name", overflow="fold")
    for entry in data["entries"]:
        used = datetime.fromtimestamp(entry["last_used_s"]).strftime("%Y-%m-%d")
        users = len(entry["referred_by"])
        note = (
            f"  ({users} user{'s' if users != 1 else ''})"
            if users
            else ("" if entry["placed_by_provision"] else "  (not ours)")
        )
        table.add_row(format_bytes(entry["size_bytes"]), entry["kind"], used, entry["name"] + note)
    console.print(table)
    console.print(
        f"\n{format_bytes(data['size_bytes'])} in {data['hf_hub_cache']} and {data['provision_home']}",
        markup=False,
        soft_wrap=True,
    )
    console.print(as_called("next: provision cache gc --dry-run"), markup=False)


def _render_verify(console: Console, data: Mapping[str, Any]) -> None:
    for row in data["files"]:
        console.print(f"{'✓' if row['status'] == 'ok' else '✗'} {row['name']}", markup=False, soft_wrap=True)
    if not data["files"]:
        console.print("no models or wheels in the cache", markup=False)


def _render_gc(console: Console, data: Mapping[str, Any]) -> None:
    from provision.units import format_bytes

    for entry in data["entries"]:
        console.print(
            f"{format_bytes(entry['size_bytes']):>10}  {entry['kind']:<8} {entry['name']}", markup=False, soft_wrap=True
        )
    for kept in data["kept"]:
        console.print(f"{'kept':>10}  {kept['name']}: {kept['why']}", markup=False, soft_wrap=True)
    if not data["entries"]:
        console.print("nothing to remove: everything here is needed, in use, or not ours", markup=False)
    elif data["freed_bytes"]:
        console.print(f"freed {format_bytes(data['freed_bytes'])}", markup=False)
    else:
        console.print(f"would free {format_bytes(data['size_bytes'])}; nothing was removed", markup=False)
    if any(kept["why"] == "used lately" for kept in data["kept"]):
        console.print("\nnext, to clear these as well: provision cache gc --unused-for 0", markup=False)
