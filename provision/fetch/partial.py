"""A file being downloaded, on disk: the sparse partial, its journal, and the thread that keeps both safe from power loss."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from provision.errors import MachineError
from provision.fetch import journal
from provision.fetch.disk import disk_errors, sync_folder
from provision.fetch.journal import Identity
from provision.fetch.pieces import Part

_SYNC_EVERY_S = 1.0
_PARTS_AT_MOST_EVERY_S = 8.0
"""Lines about unfinished pieces come after 1, 2, 4, and from then on every 8 seconds: soon enough for a process that is killed
soon, and seldom enough for a journal that stays small over hours."""
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def read_boot_id() -> str | None:
    """Linux's id of this boot; None elsewhere, and then only synced pieces survive even a killed process."""
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip() or None
    except OSError:
        return None


class PartialFile:
    """Opened or resumed partial of one file. Safe to write from many threads, as long as spans do not overlap."""

    def __init__(self, path: Path, journal_path: Path, identity: Identity, *, boot_id: str | None) -> None:
        self.path = path
        self.journal_path = journal_path
        self.identity = identity
        self.sources_of: dict[int, frozenset[str]] = {}
        """Pieces on disk, each with the origins that delivered its bytes."""
        self.parts: dict[int, Part] = {}
        """What is recorded of pieces that are not whole."""
        self._unfinished: Callable[[], Mapping[int, Part]] = dict
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._closing = False
        self._records = self._synced = 0
        self.sync_error: OSError | None = None
        with disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self.fd = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o666)
            try:
                self._open_journal(boot_id)
            except BaseException:
                os.close(self.fd)
                raise
        self._syncer = threading.Thread(target=self._sync_loop, name="fetch-sync", daemon=True)
        self._syncer.start()

    @property
    def written_bytes(self) -> int:
        """How much is recorded, which is what another run finds."""
        with self._lock:
            return journal.bytes_of(self.sources_of, self.parts, self.identity)

    def follow(self, unfinished: Callable[[], Mapping[int, Part]]) -> None:
        """Whom to ask now and then, and at the end, what is on disk of pieces that are not whole."""
        self._unfinished = unfinished

    def write(self, data: memoryview, offset: int) -> None:
        """All of `data` at `offset`; raises MachineError (`disk-full`) or OSError."""
        with disk_errors(self.path):
            while data:
                count = os.pwrite(self.fd, data, offset)
                data, offset = data[count:], offset + count

    def read(self, length: int, offset: int) -> bytes:
        with disk_errors(self.path):
            return os.pread(self.fd, length, offset)

    def record(self, index: int, sources: Iterable[str]) -> None:
        """Piece `index` is written. It survives this process at once, and the machine from the next sync on."""
        with self._lock:
            origins = frozenset(sources)
            self._append(*journal.piece_line(index, origins, chain=self._chain))
            self.sources_of[index] = origins
            self.parts.pop(index, None)
            self._records += 1

    def forget(self, indices: Iterable[int]) -> None:
        """These pieces are wrong."""
        with self._lock:
            for index in indices:
                self._append(*journal.dropped_line(index, chain=self._chain))
                self.sources_of.pop(index, None)
                self.parts.pop(index, None)

    def record_parts(self) -> None:
        """What is written of unfinished pieces: from now on no killed process loses it."""
        # Asked outside our lock: whoever answers holds its own while it calls `record`.
        for index, part in self._unfinished().items():
            with self._lock:
                if index not in self.sources_of and self.parts.get(index) != part:
                    self._append(*journal.part_line(index, part, chain=self._chain))
                    self.parts[index] = part
                    self._records += 1

    def sync(self) -> None:
        """Data to the medium, then the word that it is there."""
        with self._lock:
            records = self._records
            if records == self._synced:
                return
        os.fdatasync(self.fd)
        with self._lock:
            self._append(*journal.synced_line(records, chain=self._chain))
            self._synced = records
        os.fdatasync(self._journal_fd)

    def close(self) -> None:
        """Stop syncing and close; every byte that was written stays for the next run."""
        with self._lock:
            if self._closing:
                return
            self._closing = True
        self._wake.set()
        self._syncer.join()
        # A disk that is full, or broken, takes no more lines; what it took before stays true.
        with contextlib.suppress(OSError, MachineError):
            self.record_parts()
        with contextlib.suppress(OSError, MachineError):
            self.sync()
        os.close(self.fd)
        os.close(self._journal_fd)

    def finish(self, final: Path) -> None:
        """Give the file its final name, once the caller knows that every byte is right."""
        with disk_errors(final):
            os.fsync(self.fd)
            final.parent.mkdir(parents=True, exist_ok=True)
            self.close()
            os.replace(self.path, final)
            sync_folder(final.parent)
            self.journal_path.unlink(missing_ok=True)

    def discard(self) -> None:
        """Throw everything away: its content can never become right."""
        self.close()
        self.path.unlink(missing_ok=True)
        self.journal_path.unlink(missing_ok=True)

    def _open_journal(self, boot_id: str | None) -> None:
        self._journal_fd = os.open(self.journal_path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o666)
        content = _read_all(self._journal_fd)
        known = None
        if os.fstat(self.fd).st_size == self.identity.size_bytes:
            known = journal.replay(content, self.identity, boot_id=boot_id)
        if known is None:
            os.ftruncate(self.fd, 0)
            os.ftruncate(self.fd, self.identity.size_bytes)
            os.ftruncate(self._journal_fd, 0)
            line, self._chain = journal.header_line(self.identity)
            _append_all(self._journal_fd, line)
        else:
            os.ftruncate(self._journal_fd, known.valid_bytes)
            self.sources_of, self.parts, self._chain = dict(known.sources_of), dict(known.parts), known.chain
            self._records = known.records
        self._append(*journal.boot_line(boot_id, chain=self._chain))

    def _append(self, line: bytes, chain: int) -> None:
        with disk_errors(self.journal_path):
            _append_all(self._journal_fd, line)
        self._chain = chain

    def _sync_loop(self) -> None:
        parts_s, passed_s = _SYNC_EVERY_S, 0.0
        while not self._wake.wait(_SYNC_EVERY_S):
            passed_s += _SYNC_EVERY_S
            try:
                if passed_s >= parts_s:
                    self.record_parts()
                    parts_s, passed_s = min(2 * parts_s, _PARTS_AT_MOST_EVERY_S), 0.0
                self.sync()
            except OSError as error:
                # Without a sync the journal only promises less; a dying disk shows itself in write or fsync.
                self.sync_error = error
            except MachineError:
                return


def _append_all(fd: int, line: bytes) -> None:
    os.lseek(fd, 0, os.SEEK_END)
    while line:
        line = line[os.write(fd, line) :]


def _read_all(fd: int) -> bytes:
    parts = []
    while chunk := os.read(fd, 1 << 20):
        parts.append(chunk)
    return b"".join(parts)
