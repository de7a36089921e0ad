"""What a served file holds: real bytes, a file on disk, or gigabytes that exist only when somebody reads them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Protocol

_BLOCK = 1 << 20
_ZEROS = bytes(_BLOCK)


class Content(Protocol):
    @property
    def size_bytes(self) -> int: ...

    @property
    def sha256(self) -> str: ...

    def read(self, offset: int, length: int) -> bytes | memoryview:
        """At most `length` bytes at `offset`; fewer only at the end. May return less than asked, never nothing before it."""


def hash_of(content: Content) -> str:
    digest = hashlib.sha256()
    offset = 0
    while offset < content.size_bytes:
        block = content.read(offset, _BLOCK)
        digest.update(block)
        offset += len(block)
    return digest.hexdigest()


def git_sha1(content: Content) -> str:
    digest = hashlib.sha1(f"blob {content.size_bytes}\0".encode(), usedforsecurity=False)
    offset = 0
    while offset < content.size_bytes:
        block = content.read(offset, _BLOCK)
        digest.update(block)
        offset += len(block)
    return digest.hexdigest()


@dataclass(frozen=True)
class Literal:
    """Bytes in memory."""

    data: bytes

    @property
    def size_bytes(self) -> int:
        return len(self.data)

    @cached_property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()

    def read(self, offset: int, length: int) -> memoryview:
        return memoryview(self.data)[offset : offset + length]


@dataclass(frozen=True)
class OnDisk:
    """A file; read anew at each request, so a test may change it behind the server's back."""

    path: Path

    @property
    def size_bytes(self) -> int:
        return self.path.stat().st_size

    @cached_property
    def sha256(self) -> str:
        return hash_of(self)

    def read(self, offset: int, length: int) -> bytes:
        with self.path.open("rb", buffering=0) as stream:
            stream.seek(offset)
            return stream.read(min(length, _BLOCK))


@dataclass(frozen=True)
class Zeros:
    """Nothing but zeros, of any size. `promised` is its sha256 when hashing hundreds of gigabytes would take too long."""

    size_bytes: int
    promised: str | None = None

    @cached_property
    def sha256(self) -> str:
        return self.promised or hash_of(self)

    def read(self, offset: int, length: int) -> memoryview:
        return memoryview(_ZEROS)[: max(0, min(length, _BLOCK, self.size_bytes - offset))]


@dataclass(frozen=True)
class Noise:
    """Bytes that look random and follow from `seed`: every block differs, so a piece in the wrong place is noticed."""

    size_bytes: int
    seed: int = 0
    _base: bytes = field(init=False, repr=False, compare=False, default=b"")

    def __post_init__(self) -> None:
        object.__setattr__(self, "_base", hashlib.shake_256(f"noise {self.seed}".encode()).digest(_BLOCK))

    @cached_property
    def sha256(self) -> str:
        return hash_of(self)

    def read(self, offset: int, length: int) -> bytes:
        length = max(0, min(length, self.size_bytes - offset))
        number, start = divmod(offset, _BLOCK)
        # A block is the base rotated by its number, headed by the number itself.
        turn = number * 4099 % _BLOCK
        block = number.to_bytes(8, "little") + self._base[turn:] + self._base[:turn]
        return block[start : min(start + length, _BLOCK)]
