from __future__ import annotations

import os
from pathlib import Path

import pytest

from provision.fetch.displaced import Displaced


def over(kept: Displaced, disk: bytearray, data: bytes, offset: int) -> None:
    """Replace bytes as a transfer does."""
    kept.keep(bytes(disk[offset : offset + len(data)]), offset)
    disk[offset : offset + len(data)] = data


def put_back(kept: Displaced, disk: bytearray) -> bool:
    def write(data: memoryview, offset: int) -> None:
        disk[offset : offset + len(data)] = data

    return kept.restore(write)


def test_the_first_version_comes_back_however_often_it_was_replaced(tmp_path: Path) -> None:
    disk = bytearray(range(100))
    kept = Displaced(tmp_path, size_bytes=100, piece_bytes=16)
    over(kept, disk, b"x" * 10, 5)
    over(kept, disk, b"y" * 20, 0)
    over(kept, disk, b"z" * 3, 97)
    assert put_back(kept, disk)
    assert disk == bytes(range(100))
    over(kept, disk, b"w", 50)
    assert put_back(kept, disk)
    assert disk == bytes(range(100))
    kept.close()
    assert list(tmp_path.iterdir()) == []


def test_what_found_no_room_is_not_put_back_by_half(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = bytearray(100)
    kept = Displaced(tmp_path, size_bytes=100, piece_bytes=16)
    over(kept, disk, b"x", 0)

    def full(fd: int, data: memoryview, offset: int) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        over(kept, disk, b"y", 50)
    assert not put_back(kept, disk)
    assert disk[0:1] == b"x"
    kept.close()
