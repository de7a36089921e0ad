"""A file that has its final name already: is it right? Asked without a lock, so that a cache nobody may write to serves too.

No lock is needed: a final name only ever appears at once, over bytes that were verified.
"""

from __future__ import annotations

import os
import shlex
from pathlib import Path

from provision.errors import IntegrityError, MachineError, NotFoundError
from provision.events import Progress, ProgressEnded
from provision.fetch.disk import disk_errors
from provision.fetch.fill import Means
from provision.fetch.follower import hash_file
from provision.fetch.store import locked, point
from provision.fetch.twin import copy_twin
from provision.fetch.types import Action, FetchedFile, FileHome, PlannedFile

_REPORT_EVERY_BYTES = 64 << 20


def look(home: FileHome) -> tuple[int, int, int] | None:
    """Size, time and inode of the file at its final name: another file there is another answer. None when nothing is."""
    try:
        found = os.stat(home.final)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise _unreadable(home, error) from error
    return found.st_size, found.st_mtime_ns, found.st_ino


def is_right(planned: PlannedFile, means: Means) -> bool:
    """Whether the file at its final name is what it must be. Hashes it, unless it was verified before and is unchanged."""
    home = planned.home
    if means.attested.knows(home.final, planned.digest):
        return True
    found = look(home)
    if found is None or found[0] != planned.size_bytes:
        return False
    task, done = f"fetch:{planned.file.path}", 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        if done % _REPORT_EVERY_BYTES < count:
            label, total = planned.file.path, planned.size_bytes
            means.reporter(
                Progress(task=task, label=label, done=done, total=total, unit="bytes", note="checking the file that is here")
            )

    try:
        with disk_errors(home.final):
            actual = hash_file(home.final, planned.digest, on_bytes=advance)
    except MachineError as error:
        if isinstance(error.__cause__, PermissionError):
            raise _unreadable(home, error.__cause__) from error
        raise
    finally:
        means.reporter(ProgressEnded(task=task))
    if actual == planned.digest:
        means.attested.remember(home.final, planned.digest)
    return actual == planned.digest


def keep(planned: PlannedFile, means: Means, *, online: str) -> FetchedFile:
    """The file as it is here, verified, without asking anybody and without taking anything away.

    Raises NotFoundError (`not-cached`) or IntegrityError (`file-damaged`); `online` is the command that helps.
    """
    if look(planned.home) is None:
        if planned.twin is not None:
            with locked(planned.home.lock, what=planned.file.path, reporter=means.reporter):
                if copy_twin(planned, means):
                    return as_fetched(planned, "kept", {}, 0)
            raise _damaged(planned, planned.twin, online)
        raise NotFoundError(f"offline, and not here: {planned.file.path}", code="not-cached", hint=online)
    if not is_right(planned, means):
        raise _damaged(planned, planned.home.final, online)
    return kept(planned)


def kept(planned: PlannedFile) -> FetchedFile:
    """Nothing to do but to lead the snapshot's name there."""
    point(planned.home)
    return as_fetched(planned, "kept", {}, 0)


def as_fetched(planned: PlannedFile, action: Action, sources: dict[str, int], transferred: int) -> FetchedFile:
    """The result for a planned file."""
    return FetchedFile(
        path=planned.file.path,
        local_path=planned.home.local_path,
        size_bytes=planned.size_bytes,
        sha256=planned.file.sha256.lower() if planned.file.sha256 else None,
        action=action,
        transferred_bytes=transferred,
        sources=sources,
    )


def _damaged(planned: PlannedFile, path: Path, online: str) -> IntegrityError:
    return IntegrityError(
        f"offline, and {planned.file.path} is damaged: {path} does not have the hash {planned.digest}",
        code="file-damaged",
        hint=online,
    )


def _unreadable(home: FileHome, error: OSError) -> MachineError:
    return MachineError(
        f"cannot read {home.final}: {error.strerror or error}",
        code="not-readable",
        hint=f"ls -lL {shlex.quote(str(home.final))}",
    )
