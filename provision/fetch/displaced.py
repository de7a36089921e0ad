"""Bytes that a second delivery replaced, kept until it is known who was right. They have no name and go with the process."""

from __future__ import annotations

import contextlib
import os
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

from provision.fetch.pieces import Ledger, Span

_CHUNK_BYTES = 1024 * 1024


class Displaced:
    """The first version of each byte that was replaced; safe from several threads.

    Where the disk has no room for both versions, the older is given up: `restore` then says so.
    """

    def __init__(self, folder: Path, *, size_bytes: int, piece_bytes: int) -> None:
        self._folder = folder
        self._size_bytes, self._piece_bytes = size_bytes, piece_bytes
        self._lock = threading.Lock()
        self._spans: list[Span] = []
        self._whole = True
        self._free = self._ledger()
        self._file = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115 - closed by `close`

    def keep(self, data: bytes, offset: int) -> None:
        """`data` is about to be replaced at `offset`."""
        with self._lock:
            for span in self._free.claim(Span(start=offset, stop=offset + len(data))):
                self._spans.append(span)
                try:
                    _write_all(self._file.fileno(), memoryview(data)[span.start - offset : span.stop - offset], span.start)
                except OSError:
                    self._whole = False

    def restore(self, write: Callable[[memoryview, int], None]) -> bool:
        """Put back what was replaced; False when not all of it was kept, and then nothing is put back."""
        with self._lock:
            spans, whole = self._spans, self._whole
            self._spans, self._whole, self._free = [], True, self._ledger()
            if whole:
                for span in spans:
                    for start in range(span.start, span.stop, _CHUNK_BYTES):
                        count = min(_CHUNK_BYTES, span.stop - start)
                        write(memoryview(os.pread(self._file.fileno(), count, start)), start)
            with contextlib.suppress(OSError):
                os.ftruncate(self._file.fileno(), 0)
            return whole

    def close(self) -> None:
        self._file.close()

    def _ledger(self) -> Ledger:
        return Ledger(size_bytes=self._size_bytes, piece_bytes=self._piece_bytes)


def _write_all(fd: int, data: memoryview, offset: int) -> None:
    while data:
        count = os.pwrite(fd, data, offset)
        data, offset = data[count:], offset + count
