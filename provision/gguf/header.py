"""The header of a GGUF file as data. Large arrays stay packed: a vocabulary of 256k tokens costs its bytes, no objects."""

from __future__ import annotations

import math
import struct
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

from provision.errors import IntegrityError
from provision.gguf.tensor_types import TENSOR_TYPES, TensorType

_U64 = struct.Struct("<Q")


class GgufError(IntegrityError):
    """What is wrong with a GGUF file, and at which byte of it."""

    def __init__(self, message: str, *, offset: int, code: str = "gguf-invalid", hint: str = "") -> None:
        super().__init__(
            f"{message} (byte {offset})",
            code=code,
            hint=hint or "the file is damaged or no GGUF; compare it with its source: provision verify FILE, or fetch it again",
        )
        self.offset = offset


class StringArray:
    """A packed array of GGUF strings, decoded one by one when asked for."""

    __slots__ = ("_data", "_end", "_start", "count")

    def __init__(self, data: bytes, *, start: int, end: int, count: int) -> None:
        self._data = data
        self._start = start
        self._end = end
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[str]:
        """Raises GgufError at the first element that is not UTF-8."""
        position = self._start
        while position < self._end:
            (length,) = _U64.unpack_from(self._data, position)
            position += 8
            try:
                yield self._data[position : position + length].decode("utf-8")
            except UnicodeDecodeError as error:
                raise GgufError("array element is not UTF-8", offset=position + error.start) from None
            position += length


Value: TypeAlias = "int | float | bool | str | array[Any] | StringArray"


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorInfo:
    """One tensor of the file. `dimensions` run from the fastest (elements of a row) to the slowest."""

    name: str
    dimensions: tuple[int, ...]
    type_id: int
    offset: int
    """Of the tensor's first byte, counted from the start of the data section."""
    size_bytes: int
    """Without padding for known types; up to the next tensor for unknown ones."""

    @property
    def elements(self) -> int:
        return math.prod(self.dimensions)

    @property
    def type(self) -> TensorType | None:
        """None for a type this table does not know."""
        return TENSOR_TYPES.get(self.type_id)

    @property
    def type_name(self) -> str:
        kind = self.type
        return kind.name if kind else f"type {self.type_id}"


@dataclass(frozen=True, slots=True, kw_only=True)
class GgufHeader:
    """Everything before the weights."""

    version: int
    metadata: Mapping[str, Value]
    tensors: tuple[TensorInfo, ...]
    alignment: int
    data_offset: int
    """First byte of the data section in the file."""
    file_bytes: int
    """Size of the file: as the source said, else what the tensors need."""
    raw: bytes = field(repr=False)
    """The header itself, bytes [0, data_offset)."""

    @property
    def imatrix(self) -> bool:
        """Whether the quantizer says that it used an importance matrix."""
        return any(key.startswith("quantize.imatrix.") for key in self.metadata)

    @property
    def architecture(self) -> str:
        """`general.architecture`, or an empty string in a file without one."""
        return self.text("general.architecture") or ""

    @property
    def parameters(self) -> int:
        """Elements of all tensors."""
        return sum(tensor.elements for tensor in self.tensors)

    @property
    def tensor_bytes(self) -> int:
        return sum(tensor.size_bytes for tensor in self.tensors)

    def text(self, key: str) -> str | None:
        value = self.metadata.get(key)
        return value if isinstance(value, str) else None

    def integer(self, key: str) -> int | None:
        """A whole number; None when the key is absent or holds something else."""
        value = self.metadata.get(key)
        return int(value) if isinstance(value, int) else None

    def number(self, key: str) -> float | None:
        value = self.metadata.get(key)
        return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None

    def integers(self, key: str) -> tuple[int, ...] | None:
        """An array of whole numbers (or booleans), as a tuple."""
        value = self.metadata.get(key)
        if isinstance(value, array) and value.typecode not in "fd":
            return tuple(value)
        return None

    def length(self, key: str) -> int | None:
        """How many elements an array has."""
        value = self.metadata.get(key)
        return len(value) if isinstance(value, array | StringArray) else None


def joined(headers: Sequence[GgufHeader]) -> GgufHeader:
    """The parts of a split model as one header: metadata of the first, tensors of all. Offsets stay those of each part."""
    first = headers[0]
    if len(headers) == 1:
        return first
    return replace(
        first,
        tensors=tuple(tensor for header in headers for tensor in header.tensors),
        file_bytes=sum(header.file_bytes for header in headers),
    )
