"""Changing an environment so that it works at every moment: prepared aside, moved in by renames, undone after a kill.

Every entry (a package folder, a file) is swapped in one atomic step where the system can (`renameat2` with RENAME_EXCHANGE on
Linux). A journal lists the moves before the first one; while it lies there, the next run puts everything back.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

JOURNAL = "journal.json"
_RENAME_EXCHANGE = 2
_AT_FDCWD = -100


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """One entry: `staged` (or None: remove) goes to `final`; what was there (or None: nothing) goes to `backup`."""

    final: str
    staged: str | None
    backup: str
    old_inode: int | None
    new_inode: int | None


def plan_move(final: Path, *, staged: Path | None, backup: Path) -> Move:
    """The move with the identities of both sides, by which recovery tells old from new."""
    return Move(
        final=str(final),
        staged=str(staged) if staged is not None else None,
        backup=str(backup),
        old_inode=_inode(final),
        new_inode=_inode(staged) if staged is not None else None,
    )


def apply(moves: Sequence[Move], *, state_dir: Path) -> None:
    """Carry the moves out; on any failure everything is put back and the failure goes on."""
    journal = state_dir / JOURNAL
    write_json(journal, {"schema": 1, "moves": [asdict(move) for move in moves]})
    try:
        for move in moves:
            _carry_out(move)
    except BaseException:
        _undo(moves)
        journal.unlink(missing_ok=True)
        raise
    journal.unlink()


def recover(state_dir: Path) -> bool:
    """Undo what a killed run left half done; True when there was something."""
    journal = state_dir / JOURNAL
    try:
        moves = [Move(**row) for row in json.loads(journal.read_text(encoding="utf-8"))["moves"]]
    except FileNotFoundError:
        return False
    except (ValueError, KeyError, TypeError):
        # write_json renames a whole file into place, so a torn journal is not ours; nothing was moved under it.
        journal.unlink(missing_ok=True)
        return False
    _undo(moves)
    journal.unlink(missing_ok=True)
    return True


def write_json(path: Path, data: object) -> None:
    """A whole JSON file under its name or none."""
    write_text(path, json.dumps(data, indent=1))


def write_text(path: Path, text: str) -> None:
    """A whole file under its name or none: temporary, fsync, rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with temporary.open("w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(temporary, path)


def remove_tree(path: Path) -> None:
    """Remove a folder or a file; what is already gone is fine."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _carry_out(move: Move) -> None:
    final, backup = Path(move.final), Path(move.backup)
    backup.parent.mkdir(parents=True, exist_ok=True)
    if move.staged is None:
        os.rename(final, backup)
        return
    staged = Path(move.staged)
    final.parent.mkdir(parents=True, exist_ok=True)
    if move.old_inode is None:
        os.rename(staged, final)
        return
    if _exchange(staged, final):
        os.rename(staged, backup)
    else:
        os.rename(final, backup)
        os.rename(staged, final)


def _undo(moves: Sequence[Move]) -> None:
    for move in reversed(moves):
        final = Path(move.final)
        now = _inode(final)
        if move.old_inode is None:
            if now is not None and now == move.new_inode:
                remove_tree(final)
            continue
        if now == move.old_inode:
            continue
        places = [Path(move.backup)] + ([Path(move.staged)] if move.staged else [])
        old = next((place for place in places if _inode(place) == move.old_inode), None)
        if old is None:
            continue
        if now is None:
            os.rename(old, final)
        elif not _exchange(old, final):
            aside = final.with_name(f".{final.name}.{os.getpid()}.aside")
            os.rename(final, aside)
            os.rename(old, final)
            remove_tree(aside)
        else:
            remove_tree(old)


def _inode(path: Path) -> int | None:
    try:
        return path.lstat().st_ino
    except (FileNotFoundError, NotADirectoryError):
        return None


def _exchange(one: Path, other: Path) -> bool:
    """Swap two paths in one step; False when this system has no such call."""
    if sys.platform != "linux":  # pragma: no cover - macOS has renamex_np, not tried
        return False
    call = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if call is None:
        return False
    if call(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0:
        return True
    code = ctypes.get_errno()
    if code in (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP):
        return False
    raise OSError(code, os.strerror(code), str(one), None, str(other))
