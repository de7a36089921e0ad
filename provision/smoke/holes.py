"""Zeros where weights should be: what a download leaves that reserved its space, died, and was taken for finished.

The header is whole and every tensor lies inside the file, so nothing else notices: the model loads, and talks nonsense.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from provision.gguf.header import GgufHeader, TensorInfo
from provision.smoke.types import Check

# No trained matrix holds a page of zeros: even a quantized block of small weights has a scale.
_PAGE = bytes(4096)
_CHUNK = 4 * 1024 * 1024
# Vocabularies are padded, and some converters leave the rows that no token uses at zero.
_MAY_BE_PADDED = ("token_embd.weight", "output.weight", "per_layer_token_embd.weight")
REMEDY = "provision verify MODEL, then provision fetch ORG/REPO (only what is wrong is transferred again)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Hole:
    """The first zeros found in a tensor."""

    tensor: str
    offset: int
    """Byte of the file."""


def check_holes(files: Sequence[tuple[Path, GgufHeader]], *, read_limit_bytes: int | None) -> Check:
    """A2: no matrix has a page of zeros, no norm is zero. Of files over the limit only the file system is asked."""
    reads = read_limit_bytes is None or sum(path.stat().st_size for path, _ in files) <= read_limit_bytes
    found = [(path, hole) for path, header in files for hole in _holes(path, header, reads=reads)]
    if not found:
        how = "no tensor has a hole" if reads else "the file system knows of no hole in it; --profile full reads every byte"
        return Check(id="A2-holes", status="pass", summary=how, value=0, threshold=0)
    harmless = all(hole.tensor in _MAY_BE_PADDED for _, hole in found)
    path, first = found[0]
    extra = f" and {len(found) - 1} more tensors" if len(found) > 1 else ""
    what = "unused rows, or an unfinished download" if harmless else "an unfinished download"
    return Check(
        id="A2-holes",
        status="warn" if harmless else "fail",
        summary=f"{path.name}: only zeros in {first.tensor}{extra}, from byte {first.offset} on: {what}",
        value=len(found),
        threshold=0,
        remedy=REMEDY,
    )


def _holes(path: Path, header: GgufHeader, *, reads: bool) -> list[Hole]:
    found = []
    with path.open("rb") as file:
        known = _first_hole(file.fileno(), header.data_offset, path.stat().st_size)
        for tensor in header.tensors:
            start = header.data_offset + tensor.offset
            matters = len(tensor.dimensions) > 1 or tensor.name.endswith("norm.weight")
            if not matters or tensor.size_bytes == 0:
                continue
            if start <= known < start + tensor.size_bytes - len(_PAGE):
                found.append(Hole(tensor=tensor.name, offset=known))
            elif reads and (at := _zeros(file, tensor, start)) is not None:
                found.append(Hole(tensor=tensor.name, offset=at))
    return found


def _first_hole(handle: int, start: int, size: int) -> int:
    """Where the file system says that the first range without data begins; `size` when it says there is none."""
    try:
        return os.lseek(handle, start, os.SEEK_HOLE)
    except (OSError, AttributeError):  # not every file system or platform can tell
        return size


def _zeros(file: BinaryIO, tensor: TensorInfo, start: int) -> int | None:
    """First byte of a page of zeros in the tensor, or of the whole of a smaller one."""
    file.seek(start)
    left = tensor.size_bytes
    if left <= len(_PAGE):
        return start if not file.read(left).strip(b"\0") else None
    while left:
        chunk = file.read(min(_CHUNK, left))
        at = chunk.find(_PAGE)
        if at >= 0:
            return start + tensor.size_bytes - left + at
        if not chunk:
            return None
        left -= len(chunk)
    return None
