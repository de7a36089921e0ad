"""A plain folder asks for what the shared cache has already: it gets a copy, and no server is asked for the bytes."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from provision.events import Note, Progress, ProgressEnded
from provision.fetch.disk import disk_errors, require_space, sync_folder
from provision.fetch.fill import Means
from provision.fetch.follower import new_hash
from provision.fetch.types import PlannedFile

_CHUNK_BYTES = 4 << 20


def copy_twin(planned: PlannedFile, means: Means) -> bool:
    """Whether the cache had the right bytes, which now have their final name here. The caller holds the lock.

    A copy and no link: a plain folder is its owner's to edit, and the cache is not.
    """
    twin, home = planned.twin, planned.home
    if twin is None or not os.access(twin, os.R_OK):
        return False
    require_space(home.partial.parent, planned.size_bytes)
    copy = home.partial.with_name(f"{planned.digest}.copy.incomplete")
    try:
        with disk_errors(home.final):
            copy.parent.mkdir(parents=True, exist_ok=True)
            if _copied(twin, copy, planned, means) != planned.digest:
                means.reporter(Note(level="warning", message=f"{planned.file.path} is in the shared cache but damaged: {twin}"))
                return False
            home.final.parent.mkdir(parents=True, exist_ok=True)
            os.replace(copy, home.final)
            sync_folder(home.final.parent)
    finally:
        with contextlib.suppress(OSError):
            copy.unlink(missing_ok=True)
    means.attested.remember(home.final, planned.digest)
    return True


def _copied(source: Path, target: Path, planned: PlannedFile, means: Means) -> str:
    """Copy, and the hash of what was written."""
    state, done = new_hash(planned.digest, planned.size_bytes), 0
    task, label, total = f"fetch:{planned.file.path}", planned.file.path, planned.size_bytes
    try:
        with open(source, "rb", buffering=0) as reader, open(target, "wb", buffering=0) as writer:
            while chunk := reader.read(_CHUNK_BYTES):
                if means.cancel.is_set():
                    raise KeyboardInterrupt
                state.update(chunk)
                view = memoryview(chunk)
                while view:
                    view = view[writer.write(view) :]
                done += len(chunk)
                note = "copying from the shared cache"
                means.reporter(Progress(task=task, label=label, done=done, total=total, unit="bytes", note=note))
            os.fsync(writer.fileno())
    finally:
        means.reporter(ProgressEnded(task=task))
    return state.hexdigest()
