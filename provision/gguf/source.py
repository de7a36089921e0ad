"""Where header bytes come from: anything that can read a range."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol


class ByteSource(Protocol):
    """Random access to one file, local or remote."""

    @property
    def size_bytes(self) -> int | None:
        """Size of the whole file, None when the server does not say."""
        ...

    def read(self, offset: int, length: int) -> bytes:
        """Up to `length` bytes from `offset`; fewer only at the end of the file."""
        ...


class BytesSource:
    """Bytes in memory. `size_bytes` may claim more than is there, as for a header without its data."""

    def __init__(self, data: bytes, *, size_bytes: int | None = None) -> None:
        self._data = data
        self.size_bytes: int | None = len(data) if size_bytes is None else size_bytes

    def read(self, offset: int, length: int) -> bytes:
        return self._data[offset : offset + length]


class FileSource:
    """A local file, opened per read: headers take one to three reads."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.size_bytes: int | None = os.stat(path).st_size

    def read(self, offset: int, length: int) -> bytes:
        with self._path.open("rb") as file:
            file.seek(offset)
            return file.read(length)
