"""The effects on the cache: locks, pointers, refs, and the memory of what was verified."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from provision.events import Note, Reporter
from provision.fetch.disk import disk_errors, sync_folder
from provision.fetch.layout import link_text
from provision.fetch.types import FileHome


@contextlib.contextmanager
def locked(lock: Path, *, what: str, reporter: Reporter) -> Iterator[None]:
    """Hold the official client's own lock for a blob, so that two programs share one download.

    huggingface_hub 2.4.0 (utils/_fixes.py, WeakFileLock): flock on `.locks/<repo>/<etag>.lock`, mode 0664, and a lock that is a
    file's existence where flock is missing. Where flock exists but does nothing, we notice and do the same.
    """
    import filelock

    with disk_errors(lock):
        lock.parent.mkdir(parents=True, exist_ok=True)
        kind: type[filelock.BaseFileLock] = filelock.FileLock if flock_works(lock) else filelock.SoftFileLock
    if kind is filelock.SoftFileLock:
        lock = lock.with_name(lock.name + ".soft")
    held = kind(lock, mode=0o664)
    told = False
    while True:
        try:
            held.acquire(timeout=0.5, poll_interval=0.1)
            break
        except filelock.Timeout:
            if not told:
                ended = f" (if none is running, delete {held.lock_file})" if isinstance(held, filelock.SoftFileLock) else ""
                reporter(Note(level="info", message=f"another process is fetching {what}; waiting for it{ended}"))
                told = True
        except NotImplementedError:
            held = filelock.SoftFileLock(lock.with_name(lock.name + ".soft"), mode=0o664)
        except OSError:
            with disk_errors(lock):
                raise
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            held.release()


@contextlib.contextmanager
def lock_now(lock: Path) -> Iterator[bool]:
    """The same lock if nobody holds it: True, held for as long as the block runs; False at once when somebody does."""
    import filelock

    soft = lock.with_name(lock.name + ".soft")
    if not lock.parent.is_dir():
        # Nobody ever locked anything here.
        yield not soft.exists()
        return
    try:
        held = filelock.FileLock(lock, mode=0o664) if flock_works(lock) else filelock.SoftFileLock(soft, mode=0o664)
        held.acquire(timeout=0)
    except (filelock.Timeout, NotImplementedError, OSError):
        yield False
        return
    try:
        yield True
    finally:
        with contextlib.suppress(OSError):
            held.release()


def flock_works(lock: Path) -> bool:
    """True when a second lock on the same file is refused: on some cluster file systems every flock succeeds.

    Raises the OSError of a folder that cannot be written: there no kind of lock can be had.
    """
    try:
        import fcntl
    except ImportError:  # pragma: no cover - Windows, not tried; filelock uses msvcrt there
        return True
    probe = lock.with_name(f"{lock.name}.{os.getpid()}.{time.monotonic_ns()}.probe")
    first = second = -1
    try:
        first = os.open(probe, os.O_RDWR | os.O_CREAT, 0o664)
        second = os.open(probe, os.O_RDWR)
    except OSError:
        _close(probe, first)
        raise
    try:
        fcntl.flock(first, fcntl.LOCK_EX | fcntl.LOCK_NB)
        try:
            fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
        return False
    except OSError:
        return False
    finally:
        _close(probe, first, second)


def _close(probe: Path, *fds: int) -> None:
    for fd in fds:
        if fd >= 0:
            os.close(fd)
    with contextlib.suppress(OSError):
        probe.unlink()


def point(home: FileHome) -> None:
    """Make the snapshot's name lead to the blob: a relative symlink, else a hard link, else a copy."""
    if home.pointer is None:
        return
    text = link_text(home.pointer, home.final)
    with contextlib.suppress(OSError):
        if os.readlink(home.pointer) == text:
            return
    with contextlib.suppress(OSError):
        if os.path.samefile(home.pointer, home.final) and not home.pointer.is_symlink():
            return
    temporary = home.pointer.with_name(f".{home.pointer.name[:60]}.{os.getpid()}.provision-tmp")
    with disk_errors(home.pointer):
        home.pointer.parent.mkdir(parents=True, exist_ok=True)
        temporary.unlink(missing_ok=True)
        try:
            _link(home.final, text, temporary)
            os.replace(temporary, home.pointer)
        finally:
            temporary.unlink(missing_ok=True)


def _link(blob: Path, text: str, name: Path) -> None:
    with contextlib.suppress(OSError, NotImplementedError):
        os.symlink(text, name)
        return
    with contextlib.suppress(OSError, NotImplementedError):
        os.link(blob, name)
        return
    shutil.copyfile(blob, name)


def write_text(path: Path, text: str) -> None:
    """A small file, whole or not at all; left alone when it says that already."""
    with contextlib.suppress(OSError, UnicodeDecodeError):
        if path.read_text(encoding="utf-8") == text:
            return
    path.parent.mkdir(parents=True, exist_ok=True)
    fd, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:60]}.", suffix=".tmp")
    try:
        with os.fdopen(fd, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o666 & ~_umask())
        os.replace(name, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise
    sync_folder(path.parent)


def _umask() -> int:
    """The umask, read without changing it for other threads where the kernel tells (Linux)."""
    with contextlib.suppress(OSError, ValueError):
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith("Umask:"):
                return int(line.split()[1], 8)
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


class Attested:
    """Remembers which files were verified, by path, size and modification time.

    So an unchanged 40 GB file is not hashed at each start. `provision verify` does not ask it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def knows(self, path: Path, digest: str) -> bool:
        try:
            told = json.loads(self._record(path, digest).read_text(encoding="utf-8"))
            return bool(told == self._signature(path, digest))
        except (OSError, ValueError):
            return False

    def remember(self, path: Path, digest: str) -> None:
        # Losing this memory costs one hash, so a full or read-only disk is no reason to fail here.
        with contextlib.suppress(OSError):
            write_text(self._record(path, digest), json.dumps(self._signature(path, digest)))

    def digest_of(self, path: Path) -> str | None:
        """What a file was when it was verified, by its path alone: the promise `provision verify` holds it to."""
        real = str(path.resolve())
        for record in self._folder.glob("*.json"):
            with contextlib.suppress(OSError, ValueError, AttributeError):
                told = json.loads(record.read_text(encoding="utf-8"))
                if told.get("path") == real:
                    return str(told["digest"])
        return None

    def forget(self, path: Path, digest: str) -> None:
        with contextlib.suppress(OSError):
            self._record(path, digest).unlink()

    def _record(self, path: Path, digest: str) -> Path:
        place = hashlib.sha256(os.fsencode(path.resolve())).hexdigest()[:12]
        return self._folder / f"{digest}-{place}.json"

    @staticmethod
    def _signature(path: Path, digest: str) -> dict[str, object]:
        real = path.resolve()
        stat = real.stat()
        return {"digest": digest, "path": str(real), "size": stat.st_size, "mtime_ns": stat.st_mtime_ns, "inode": stat.st_ino}
