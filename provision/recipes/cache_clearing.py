"""What `cache gc` removes: what provision placed, nothing refers to, was not used lately, and nobody is working on."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from provision.fetch.placed import forget_placed
from provision.fetch.store import lock_now
from provision.recipes.cache_places import Entry
from provision.settings import Settings

DAY_S = 86_400.0


def unreferred(entries: Iterable[Entry]) -> tuple[Entry, ...]:
    """Placed by us, and neither a lock nor a deployment refers to it."""
    return tuple(entry for entry in entries if entry.ours and not entry.referred_by)


def removable(entries: Iterable[Entry], *, now_s: float, unused_for_s: float) -> tuple[Entry, ...]:
    """Of those, what was not used for `unused_for_s` seconds: a model that was fetched a minute ago has no note yet."""
    return tuple(entry for entry in unreferred(entries) if now_s - entry.last_used_s >= unused_for_s)


def remove(entries: Sequence[Entry], *, settings: Settings) -> tuple[Entry, ...]:
    """Remove them and their pointers; returns what really went. What a running download or build works on stays."""
    return tuple(entry for entry in entries if _remove(entry, settings))


def _remove(entry: Entry, settings: Settings) -> bool:
    if entry.path.is_dir() and not entry.path.is_symlink():
        if worked_in(entry.path):
            return False
        shutil.rmtree(entry.path, ignore_errors=True)
        return not entry.path.exists()
    with contextlib.ExitStack() as held:
        if entry.lock is not None and not held.enter_context(lock_now(entry.lock)):
            return False
        try:
            _remove_pointers(entry)
            entry.path.unlink()
        except FileNotFoundError:
            return False
        except OSError:
            # Somebody else's folder, or a read-only disk: it stays, and is not counted as freed.
            return False
        _drop_empty(entry.path.parent, stop=settings.provision_home)
        if entry.kind == "wheel":
            with contextlib.suppress(OSError):
                (entry.path.parent / "wheel.json").unlink()
            _drop_empty(entry.path.parent, stop=settings.provision_home)
        if entry.sha256:
            forget_placed(settings, sha256=entry.sha256, path=entry.path)
    return True


def _remove_pointers(entry: Entry) -> None:
    """A pointer goes before its bytes, so that none leads nowhere; a snapshot that is empty then takes its refs along."""
    repo = entry.path.parent.parent
    for pointer in entry.pointers:
        pointer.unlink(missing_ok=True)
        _drop_empty(pointer.parent, stop=repo)
        commit = pointer.relative_to(repo / "snapshots").parts[0]
        if not (repo / "snapshots" / commit).exists():
            _forget_refs(repo / "refs", commit)


def _forget_refs(refs: Path, commit: str) -> None:
    """What said that a branch is this commit would make other programs look for a snapshot that is gone."""
    for ref in sorted(refs.rglob("*")):
        with contextlib.suppress(OSError, ValueError):
            if ref.is_file() and not ref.is_symlink() and ref.read_text(encoding="utf-8").strip() == commit:
                ref.unlink()


def worked_in(folder: Path) -> bool:
    """Whether a process runs from or in `folder`: a build that is under way. Where there is no /proc, False."""
    inside = f"{os.path.realpath(folder)}/"
    return any(f"{place}/".startswith(inside) for place in _places_of_processes())


def _places_of_processes() -> Iterator[str]:
    for process in Path("/proc").glob("[0-9]*"):
        for what in ("cwd", "exe"):
            with contextlib.suppress(OSError):
                yield os.readlink(process / what)


def _drop_empty(folder: Path, *, stop: Path) -> None:
    while folder != stop and stop in folder.parents:
        try:
            folder.rmdir()
        except OSError:
            return
        folder = folder.parent
