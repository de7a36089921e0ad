"""Laws of the reader: a header or an error, never anything else, and never more memory than promised."""

import struct
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provision.gguf.header import GgufError, GgufHeader
from provision.gguf.reader import read_header
from provision.gguf.source import BytesSource
from tests.support.ggufs import Tensor, header_bytes

KINDS = st.sampled_from(["F32", "F16", "Q8_0", "Q4_K"])
TENSORS = st.lists(st.builds(lambda rows, kind: (256, rows, kind), st.integers(1, 8), KINDS), min_size=1, max_size=4).map(
    lambda rows: [Tensor(name=f"blk.{i}.w", dimensions=(row[0], row[1]), kind=row[2]) for i, row in enumerate(rows)]
)
VALUES = st.one_of(
    st.booleans(),
    st.integers(0, 2**32 - 1),
    st.floats(width=32, allow_nan=False),
    st.text(max_size=20),
    st.lists(st.text(max_size=8), min_size=1, max_size=6),
    st.lists(st.integers(-(2**31), 2**31 - 1), min_size=1, max_size=6),
)
METADATA = st.dictionaries(st.text(min_size=1, max_size=12).filter(lambda key: key != "general.alignment"), VALUES, max_size=5)


@given(METADATA, TENSORS, st.sampled_from([2, 3]), st.sampled_from([32, 64, 256]))
def test_what_was_written_is_read(metadata, tensors, version, alignment) -> None:  # type: ignore[no-untyped-def]
    data, size = header_bytes(metadata, tensors, version=version, alignment=alignment)
    header = read_header(BytesSource(data, size_bytes=size))
    assert set(metadata) <= set(header.metadata)
    assert [tensor.dimensions for tensor in header.tensors] == [tensor.dimensions for tensor in tensors]
    assert header.data_offset == len(data)
    assert header.tensor_bytes == sum(tensor.size_bytes for tensor in tensors)


@given(METADATA, TENSORS, st.data())
def test_every_strict_prefix_raises(metadata, tensors, draw) -> None:  # type: ignore[no-untyped-def]
    data, size = header_bytes(metadata, tensors)
    whole = data + b"\0" * (size - len(data))
    whole = whole[: len(data) + sum(-(-t.size_bytes // 32) * 32 for t in tensors[:-1]) + tensors[-1].size_bytes]
    length = draw.draw(st.integers(0, len(whole) - 1))
    with pytest.raises(GgufError) as caught:
        read_header(BytesSource(whole[:length]))
    assert 0 <= caught.value.offset <= length


@given(st.binary(max_size=400), st.booleans())
def test_any_bytes_give_a_header_or_an_error(data: bytes, begin_well: bool) -> None:
    if begin_well:
        data = b"GGUF" + struct.pack("<I", 3) + data
    _ = read_or_error(data)


@given(METADATA, TENSORS, st.data())
def test_any_flipped_byte_gives_a_header_or_an_error(metadata, tensors, draw) -> None:  # type: ignore[no-untyped-def]
    data, size = header_bytes(metadata, tensors)
    at = draw.draw(st.integers(0, len(data) - 1))
    broken = bytearray(data)
    broken[at] ^= draw.draw(st.integers(1, 255))
    _ = read_or_error(bytes(broken), size_bytes=size)


@given(st.integers(0, 2**64 - 1), st.integers(0, 12))
def test_no_claimed_length_costs_memory(count: int, kind: int) -> None:
    data = b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + struct.pack("<Q", 1) + b"k" + struct.pack("<IIQ", 9, kind, count)
    tracemalloc.start()
    _ = read_or_error(data + b"\0" * 64, size_bytes=1 << 60)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * 1024 * 1024


def read_or_error(data: bytes, *, size_bytes: int | None = None) -> GgufHeader | GgufError:
    try:
        return read_header(BytesSource(data, size_bytes=size_bytes))
    except GgufError as caught:
        error = caught
    assert 0 <= error.offset <= max(len(data), size_bytes or 0)
    return error
