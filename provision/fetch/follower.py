"""A hash that follows the contiguous front of a growing file, so that it is ready when the last byte is."""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
from collections.abc import Callable

_CHUNK_BYTES = 1024 * 1024


class Follower:
    """Hashes the first `front()` bytes of `fd` as they appear, in a thread of its own."""

    def __init__(self, fd: int, *, size_bytes: int, digest: str, front: Callable[[], int]) -> None:
        self._fd = fd
        self._size_bytes = size_bytes
        self._hash = new_hash(digest, size_bytes)
        self._front = front
        self._wake = threading.Condition()
        self._stopped = False
        self.hashed_bytes = 0
        self.error: OSError | None = None
        self._thread = threading.Thread(target=self._run, name="fetch-hash", daemon=True)
        self._thread.start()

    def nudge(self) -> None:
        """The front may have moved."""
        with self._wake:
            self._wake.notify()

    def stop(self) -> None:
        with self._wake:
            self._stopped = True
            self._wake.notify()
        self._thread.join()

    @property
    def finished(self) -> bool:
        return not self._thread.is_alive()

    def join(self, timeout_s: float) -> bool:
        self._thread.join(timeout_s)
        return self.finished

    def hexdigest(self) -> str:
        """Once `finished`. Raises the OSError that reading raised."""
        if self.error is not None:
            raise self.error
        return self._hash.hexdigest()

    def _run(self) -> None:
        buffer = bytearray(_CHUNK_BYTES)
        view = memoryview(buffer)
        try:
            while self.hashed_bytes < self._size_bytes:
                front = self._front()
                with self._wake:
                    if self._stopped:
                        return
                    if front <= self.hashed_bytes:
                        self._wake.wait(0.5)
                        continue
                while self.hashed_bytes < front and not self._stopped:
                    most = min(_CHUNK_BYTES, front - self.hashed_bytes)
                    count = os.preadv(self._fd, [view[:most]], self.hashed_bytes)
                    if count == 0:
                        raise OSError("the partial file became shorter while it was being read")
                    self._hash.update(view[:count])
                    self.hashed_bytes += count
        except OSError as error:
            self.error = error


class Recheck:
    """Hashes the whole file anew after each `nudge`, in a thread of its own; calls `on_match` when the hash is right."""

    def __init__(self, fd: int, *, size_bytes: int, digest: str, on_match: Callable[[], None]) -> None:
        self._fd = fd
        self._size_bytes = size_bytes
        self._digest = digest
        self._on_match = on_match
        self._wake = threading.Event()
        self._stopped = False
        self._thread: threading.Thread | None = None
        self.matched = False

    def nudge(self) -> None:
        """A piece was replaced. From one thread at a time."""
        self._wake.set()
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="fetch-recheck", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        self._stopped = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while not self.matched:
            self._wake.wait()
            if self._stopped:
                return
            self._wake.clear()
            # What cannot be read now is read again, and reported, when everything is here.
            with contextlib.suppress(OSError):
                actual = hash_of(self._fd, self._digest, self._size_bytes, until=self._wake.is_set)
                self.matched = actual == self._digest
        self._on_match()


def hash_of(fd: int, digest: str, size_bytes: int, *, until: Callable[[], bool] = lambda: False) -> str:
    """The hash of an open file, of the kind that `digest` is; of its beginning when `until` says stop. Raises OSError."""
    state, view, offset = new_hash(digest, size_bytes), memoryview(bytearray(_CHUNK_BYTES)), 0
    while not until() and (count := os.preadv(fd, [view], offset)):
        state.update(view[:count])
        offset += count
    return state.hexdigest()


def new_hash(digest: str, size_bytes: int) -> hashlib._Hash:
    """The hash a digest of this length is made with: sha256, or git's sha1 with its header."""
    if len(digest) == 64:
        return hashlib.sha256()
    # git hashes "blob <size>\0" before the content; sha1 is what the server's git uses, not a choice of ours.
    return hashlib.sha1(b"blob %d\x00" % size_bytes, usedforsecurity=False)


def hash_file(path: os.PathLike[str], digest: str, *, on_bytes: Callable[[int], None] | None = None) -> str:
    """The hash of a whole file, of the kind that `digest` is. Raises OSError."""
    with open(path, "rb", buffering=0) as file:
        size_bytes = os.fstat(file.fileno()).st_size
        state = new_hash(digest, size_bytes)
        view = memoryview(bytearray(_CHUNK_BYTES))
        while count := file.readinto(view):
            state.update(view[:count])
            if on_bytes is not None:
                on_bytes(count)
    return state.hexdigest()
