"""Writes GGUF headers and sparse files with the shapes of real models, for tests of everything that reads one."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from provision.gguf.tensor_types import BY_NAME

_PACK = {
    "u8": (0, "<B"),
    "u16": (2, "<H"),
    "u32": (4, "<I"),
    "i32": (5, "<i"),
    "f32": (6, "<f"),
    "bool": (7, "<?"),
    "u64": (10, "<Q"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensor:
    """A tensor to write: `dimensions` from the fastest to the slowest, `kind` a name of the type table."""

    name: str
    dimensions: tuple[int, ...]
    kind: str = "F32"

    @property
    def size_bytes(self) -> int:
        kind = BY_NAME[self.kind]
        size = kind.row_bytes(self.dimensions[0])
        for dimension in self.dimensions[1:]:
            size *= dimension
        return size


def text(value: str | bytes) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(data)) + data


def pair(key: str, value: Any) -> bytes:
    """One key-value pair. Python's types choose the GGUF type; `("u64", 7)` names it."""
    return text(key) + _typed(value)


def _typed(value: Any) -> bytes:
    if isinstance(value, tuple) and len(value) == 2 and value[0] in _PACK:
        kind, layout = _PACK[value[0]]
        return struct.pack("<I", kind) + struct.pack(layout, value[1])
    if isinstance(value, bool):
        return _typed(("bool", value))
    if isinstance(value, int):
        return _typed(("u32", value) if value >= 0 else ("i32", value))
    if isinstance(value, float):
        return _typed(("f32", value))
    if isinstance(value, str):
        return struct.pack("<I", 8) + text(value)
    return struct.pack("<I", 9) + _elements(list(value))


def _elements(values: list[Any]) -> bytes:
    if values and isinstance(values[0], str | bytes):
        return struct.pack("<IQ", 8, len(values)) + b"".join(text(value) for value in values)
    name = "i32"
    if values and isinstance(values[0], bool):
        name = "bool"
    elif values and isinstance(values[0], float):
        name = "f32"
    kind, layout = _PACK[name]
    return struct.pack("<IQ", kind, len(values)) + struct.pack(f"<{len(values)}{layout[1:]}", *values)


def header_bytes(
    metadata: Mapping[str, Any], tensors: Sequence[Tensor] = (), *, version: int = 3, alignment: int = 32
) -> tuple[bytes, int]:
    """A header padded to its data section, and the size of the whole file."""
    pairs = dict(metadata)
    if alignment != 32:
        pairs.setdefault("general.alignment", alignment)
    out = [b"GGUF", struct.pack("<IQQ", version, len(tensors), len(pairs))]
    out += [pair(key, value) for key, value in pairs.items()]
    offset = 0
    for tensor in tensors:
        out.append(text(tensor.name) + struct.pack("<I", len(tensor.dimensions)))
        out.append(struct.pack(f"<{len(tensor.dimensions)}Q", *tensor.dimensions))
        out.append(struct.pack("<IQ", BY_NAME[tensor.kind].id, offset))
        offset += tensor.size_bytes + -tensor.size_bytes % alignment
    data = b"".join(out)
    if tensors:
        data += b"\0" * (-len(data) % alignment)
    return data, len(data) + offset


def write_sparse(path: Path, metadata: Mapping[str, Any], tensors: Sequence[Tensor], **options: Any) -> Path:
    """A file of the true size whose data is a hole: the engine loads it, the disk hardly notices."""
    data, size = header_bytes(metadata, tensors, **options)
    with path.open("wb") as file:
        file.write(data)
        file.truncate(size)
    return path
