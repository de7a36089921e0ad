"""Bytes to a GGUF header: strict, streaming, in bounded memory.

Layout from docs/gguf.md of ggml and ggml/src/gguf.cpp (ggml 0.25.3): magic, version, counts, key-value pairs, tensor infos,
padding to the alignment, data. Versions 2 and 3 differ in nothing we read. What the engine refuses is refused here too, earlier
and with the byte where it went wrong. Whatever a file claims, at most `MAX_HEADER_BYTES` are held.
"""

from __future__ import annotations

import struct
import sys
from array import array
from typing import Any

from provision.gguf.header import GgufError, GgufHeader, StringArray, TensorInfo, Value
from provision.gguf.source import ByteSource
from provision.gguf.tensor_types import TENSOR_TYPES
from provision.gguf.window import MAX_HEADER_BYTES, Window

__all__ = ["MAX_HEADER_BYTES", "read_header"]

MAX_PAIRS = 1 << 16
MAX_TENSORS = 1 << 17
_MAX_NAME = 63  # GGML_MAX_NAME - 1, ggml/include/ggml.h
_MAX_DIMENSIONS = 4  # GGML_MAX_DIMS
_MAX_KEY = 65_535  # docs/gguf.md
_DEFAULT_ALIGNMENT = 32
_INT64_MAX = (1 << 63) - 1

_UINT8, _BOOL, _STRING, _ARRAY, _UINT32 = 0, 7, 8, 9, 4
_SCALARS: dict[int, struct.Struct] = {
    0: struct.Struct("<B"),
    1: struct.Struct("<b"),
    2: struct.Struct("<H"),
    3: struct.Struct("<h"),
    4: struct.Struct("<I"),
    5: struct.Struct("<i"),
    6: struct.Struct("<f"),
    7: struct.Struct("<?"),
    10: struct.Struct("<Q"),
    11: struct.Struct("<q"),
    12: struct.Struct("<d"),
}
_ARRAY_CODES = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "B", 10: "Q", 11: "q", 12: "d"}
_U64 = struct.Struct("<Q")


def read_header(source: ByteSource, *, whole_file: bool = True) -> GgufHeader:
    """The header of the GGUF file behind `source`, in one to three reads for files as they are published.

    Raises GgufError (an IntegrityError with `.offset`) for anything that is not a sound GGUF of version 2 or 3. With
    `whole_file` and a source that knows its size, the data of every tensor must lie inside the file.
    """
    window = Window(source)
    version = _read_preamble(window)
    n_tensors = _read_count(window, "tensor count", limit=MAX_TENSORS)
    n_pairs = _read_count(window, "key-value count", limit=MAX_PAIRS)
    window.expect_tensors(n_tensors)
    packed: list[tuple[str, int, int, int]] = []
    metadata: dict[str, Value] = {}
    for _ in range(n_pairs):
        at = window.position
        key = _read_string(window, "key", limit=_MAX_KEY)
        if not key:
            raise GgufError("a key is empty", offset=at)
        if key in metadata:
            raise GgufError(f"key {key!r} appears twice", offset=at)
        metadata[key] = _read_value(window, key, packed)
    alignment = _alignment(metadata, window.position)
    infos = _read_tensor_infos(window, n_tensors)
    data_offset = window.position + -window.position % alignment
    # The padding belongs to the header: a file cut inside it is cut.
    if n_tensors:
        window.skip_to(data_offset, "padding before the data")
    raw = window.taken(data_offset)
    for key, start, end, count in packed:
        metadata[key] = StringArray(raw, start=start, end=end, count=count)
    size = source.size_bytes if whole_file else None
    tensors, data_end = _place(infos, alignment=alignment, data_offset=data_offset, file_bytes=size)
    return GgufHeader(
        version=version,
        metadata=metadata,
        tensors=tensors,
        alignment=alignment,
        data_offset=data_offset,
        file_bytes=source.size_bytes if source.size_bytes is not None else data_offset + data_end,
        raw=raw,
    )


def _read_preamble(window: Window) -> int:
    magic = window.take(4, "magic")
    if magic != b"GGUF":
        raise GgufError(f"not a GGUF file: it begins with {magic!r}", offset=0, code="not-gguf")
    version = int.from_bytes(window.take(4, "version"), "little")
    if version & 0xFFFF == 0 and version != 0:
        raise GgufError(
            "a big-endian GGUF file, which little-endian machines can't load",
            offset=4,
            code="gguf-big-endian",
            hint="choose a little-endian file; most repositories name the other kind `-be`",
        )
    if version not in (2, 3):
        raise GgufError(
            f"GGUF version {version} is not supported, only 2 and 3",
            offset=4,
            code="gguf-version",
            hint="choose a newer conversion of this model" if version == 1 else "provision install --engine-version latest",
        )
    return version


def _read_count(window: Window, what: str, *, limit: int) -> int:
    at = window.position
    count = int.from_bytes(window.take(8, what), "little")
    if count > limit:
        raise GgufError(f"{what} {count} is implausible (more than {limit})", offset=at)
    return count


def _read_string(window: Window, what: str, *, limit: int = MAX_HEADER_BYTES) -> str:
    at = window.position
    length = int.from_bytes(window.take(8, f"length of {what}"), "little")
    if length > limit:
        raise GgufError(f"{what} claims {length} bytes (more than {limit})", offset=at)
    at = window.position
    data = window.take(length, what)
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise GgufError(f"{what} is not UTF-8", offset=at + error.start) from None


def _read_u32(window: Window, what: str) -> int:
    return int.from_bytes(window.take(4, what), "little")


def _read_value(window: Window, key: str, packed: list[tuple[str, int, int, int]]) -> Value:
    at = window.position
    kind = _read_u32(window, f"type of {key!r}")
    if kind == _STRING:
        text = _read_string(window, f"value of {key!r}")
        if key == "tokenizer.ggml.model":
            window.expect_tokenizer(text)
        return text
    if kind == _ARRAY:
        return _read_array(window, key, packed)
    return _read_scalar(window, key, kind, at)


def _read_scalar(window: Window, key: str, kind: int, at: int) -> Value:
    layout = _SCALARS.get(kind)
    if layout is None:
        raise GgufError(f"key {key!r} has the unknown type {kind}", offset=at)
    at = window.position
    data = window.take(layout.size, f"value of {key!r}")
    if kind == _BOOL and data not in (b"\0", b"\1"):
        raise GgufError(f"key {key!r} holds {data[0]}, which is no boolean", offset=at)
    value: int | float | bool = layout.unpack(data)[0]
    return value


def _read_array(window: Window, key: str, packed: list[tuple[str, int, int, int]]) -> Value:
    at = window.position
    kind = _read_u32(window, f"element type of {key!r}")
    if kind == _ARRAY:
        raise GgufError(f"key {key!r} is an array of arrays, which the engine does not read", offset=at)
    layout = _SCALARS.get(kind)
    if layout is None and kind != _STRING:
        raise GgufError(f"key {key!r} has elements of the unknown type {kind}", offset=at)
    at = window.position
    count = int.from_bytes(window.take(8, f"length of {key!r}"), "little")
    smallest = layout.size if layout else 8
    if count * smallest > window.room:
        raise GgufError(
            f"key {key!r} claims {count} elements, more than the file holds or a header may have",
            offset=at,
            code="gguf-truncated",
        )
    if layout is None:
        start = window.position
        _skip_strings(window, key, count)
        packed.append((key, start, window.position, count))
        return StringArray(b"", start=0, end=0, count=count)  # replaced once the whole header is in one piece
    at = window.position
    numbers = array(_ARRAY_CODES[kind])
    if numbers.itemsize != layout.size:  # pragma: no cover - no supported platform has another int
        raise GgufError("this platform's C types have other sizes", offset=at)
    numbers.frombytes(window.take(count * layout.size, f"elements of {key!r}"))
    if sys.byteorder == "big":  # pragma: no cover - no big-endian machine at hand
        numbers.byteswap()
    if kind == _BOOL and count and max(numbers) > 1:
        raise GgufError(f"key {key!r} holds {max(numbers)}, which is no boolean", offset=at)
    return numbers


def _skip_strings(window: Window, key: str, count: int) -> None:
    """Walk over `count` strings. The hot loop of the reader: a vocabulary has 256k of them and as many merges."""
    unpack = _U64.unpack_from
    data, position = window.data, window.position
    done, start = 0, position
    while done < count:
        limit = len(data)
        try:
            while done < count:
                following = position + 8 + unpack(data, position)[0]
                if following > limit:
                    break
                position = following
                done += 1
        except struct.error:
            pass
        if done < count:
            window.position = position
            need = 8
            if position + 8 <= limit:
                need += unpack(data, position)[0]
            mean = (position - start) / done if done else 16.0
            window.grow(need, f"element {done} of {key!r}", soon=int((count - done) * mean), list_of=(key, count))
    window.position = position


def _alignment(metadata: dict[str, Value], at: int) -> int:
    value = metadata.get("general.alignment", _DEFAULT_ALIGNMENT)
    if not isinstance(value, int) or isinstance(value, bool):
        raise GgufError("general.alignment is not a whole number", offset=at)
    if value <= 0 or value & (value - 1) or value > 1 << 20:
        raise GgufError(f"general.alignment {value} is not a power of two up to 1 MiB", offset=at)
    return value


_Info = tuple[str, tuple[int, ...], int, int, int]


def _read_tensor_infos(window: Window, count: int) -> list[_Info]:
    infos: list[_Info] = []
    seen: set[str] = set()
    for _ in range(count):
        at = window.position
        name = _read_string(window, "tensor name", limit=_MAX_NAME)
        if name in seen:
            raise GgufError(f"tensor {name!r} appears twice", offset=at)
        seen.add(name)
        n_dimensions = _read_u32(window, f"dimensions of {name!r}")
        if n_dimensions > _MAX_DIMENSIONS:
            raise GgufError(f"tensor {name!r} has {n_dimensions} dimensions", offset=window.position - 4)
        shape_at = window.position
        dimensions = struct.unpack(f"<{n_dimensions}Q", window.take(8 * n_dimensions, f"shape of {name!r}"))
        elements = 1
        for dimension in dimensions:
            elements *= max(dimension, 1)
        if elements > _INT64_MAX or any(dimension > _INT64_MAX for dimension in dimensions):
            raise GgufError(f"tensor {name!r} has an impossible shape {dimensions}", offset=shape_at)
        type_id = _read_u32(window, f"type of {name!r}")
        offset = int.from_bytes(window.take(8, f"offset of {name!r}"), "little")
        infos.append((name, dimensions, type_id, offset, at))
    return infos


def _place(
    infos: list[_Info], *, alignment: int, data_offset: int, file_bytes: int | None
) -> tuple[tuple[TensorInfo, ...], int]:
    """Sizes of all tensors and the end of the data, after checking that they follow each other as ggml wants them."""
    available = file_bytes - data_offset if file_bytes is not None else None
    placed: list[TensorInfo] = []
    expected = 0
    for index, (name, dimensions, type_id, offset, at) in enumerate(infos):
        if offset % alignment:
            raise GgufError(f"tensor {name!r} begins at {offset}, which is not aligned to {alignment}", offset=at)
        if offset != expected:
            word = "overlaps the one before it" if offset < expected else "leaves a gap before it"
            raise GgufError(f"tensor {name!r} begins at {offset} instead of {expected}: it {word}", offset=at)
        size = _size_of(name, dimensions, type_id, at)
        if size is None:
            after = infos[index + 1][3] if index + 1 < len(infos) else available
            if after is None:
                raise GgufError(
                    f"tensor {name!r} has the unknown type {type_id}, is the last one, and the file's size is not known",
                    offset=at,
                    code="gguf-unknown-type",
                )
            size = after - offset
            if size < 0:
                raise GgufError(f"tensor {name!r} begins behind the end of the file", offset=at, code="gguf-truncated")
        if available is not None and offset + size > available:
            raise GgufError(
                f"the data of tensor {name!r} should end at byte {data_offset + offset + size}, the file ends at {file_bytes}",
                offset=file_bytes or 0,
                code="gguf-truncated",
            )
        placed.append(TensorInfo(name=name, dimensions=dimensions, type_id=type_id, offset=offset, size_bytes=size))
        expected = offset + size + -size % alignment
    end = placed[-1].offset + placed[-1].size_bytes if placed else 0
    return tuple(placed), end


def _size_of(name: str, dimensions: tuple[int, ...], type_id: int, at: int) -> int | None:
    kind = TENSOR_TYPES.get(type_id)
    if kind is None:
        return None
    row = dimensions[0] if dimensions else 1
    if row % kind.block_elements:
        raise GgufError(
            f"tensor {name!r} of type {kind.name} has rows of {row}, not a multiple of {kind.block_elements}", offset=at
        )
    size: Any = row // kind.block_elements * kind.block_bytes
    for dimension in dimensions[1:]:
        size *= dimension
    if size > _INT64_MAX:
        raise GgufError(f"tensor {name!r} has an impossible shape {dimensions}", offset=at)
    return int(size)
