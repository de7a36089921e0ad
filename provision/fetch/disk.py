"""What disks do wrong, in our words; free space; names that survive power loss."""

from __future__ import annotations

import contextlib
import errno
import os
import shlex
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from provision.errors import MachineError
from provision.units import MIB, format_bytes

_MARGIN_BYTES = 64 * MIB
_ELSEWHERE = "choose another place: HF_HUB_CACHE=/other/disk/hub, or --local-dir DIR"


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn every OSError inside into a MachineError that names the folder and says what helps."""
    try:
        yield
    except OSError as error:
        raise _named(error, path) from error


def _named(error: OSError, path: Path) -> MachineError:
    place = path.parent
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return MachineError(
            f"no space left in {place}; what arrived is kept",
            code="disk-full",
            hint=f"free some space (provision cache list) and run the same command again, or {_ELSEWHERE}",
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return MachineError(f"cannot write in {place}: {error.strerror}", code="not-writable", hint=_ELSEWHERE)
    if error.errno == errno.EISDIR:
        return _is_a_folder(path)
    if error.errno in (errno.ENOTDIR, errno.EEXIST):
        return _below_a_file(Path(error.filename) if error.filename else place)
    if error.errno == errno.EFBIG:
        return MachineError(
            f"the file system of {place} cannot hold a file that large (FAT32 ends at 4 GiB)",
            code="file-too-large",
            hint=_ELSEWHERE,
        )
    return MachineError(f"the disk failed at {path}: {error.strerror or error}", code="disk-error", hint="dmesg | tail")


def _is_a_folder(path: Path) -> MachineError:
    return MachineError(
        f"{path} is a folder, and a file of that name belongs there",
        code="is-a-folder",
        hint=f"move it away: mv {shlex.quote(str(path))} {shlex.quote(str(path) + '.old')}",
    )


def _below_a_file(path: Path) -> MachineError:
    return MachineError(f"{path} is a file, or lies below one", code="not-a-folder", hint=_ELSEWHERE)


def require_place(path: Path) -> None:
    """Raise MachineError (`is-a-folder`, `not-a-folder`) when no file can get the name `path`: before the first byte."""
    if path.is_dir():
        raise _is_a_folder(path)
    nearest = next((parent for parent in path.parents if os.path.lexists(parent)), None)
    if nearest is not None and nearest.is_file():
        raise _below_a_file(nearest)


def sync_folder(folder: Path) -> None:
    """Make renames in `folder` survive power loss, where the system can."""
    with contextlib.suppress(OSError):
        fd = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def free_bytes(folder: Path) -> int | None:
    """Free space for us where `folder` is or will be; None when the file system does not say."""
    for place in (folder, *folder.parents):
        if place.exists():
            try:
                return shutil.disk_usage(place).free
            except OSError:
                return None
    return None


def require_space(folder: Path, needed_bytes: int, *, measure: Callable[[Path], int | None] = free_bytes) -> None:
    """Raise MachineError (`disk-full`) unless `needed_bytes` and a small margin fit."""
    free = measure(folder)
    if free is None or not needed_bytes or free >= needed_bytes + min(_MARGIN_BYTES, needed_bytes):
        return
    raise MachineError(
        f"{format_bytes(needed_bytes)} are needed in {folder}, {format_bytes(free)} are free",
        code="disk-full",
        hint=f"free some space (provision cache list), or {_ELSEWHERE}",
    )
