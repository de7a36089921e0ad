import struct
import time
import tracemalloc

import pytest

from provision.errors import ExitCode
from provision.gguf.header import GgufError, StringArray
from provision.gguf.reader import MAX_HEADER_BYTES, read_header
from provision.gguf.source import BytesSource, FileSource
from tests.support.ggufs import Tensor, header_bytes, text, write_sparse

TENSORS = (
    Tensor(name="token_embd.weight", dimensions=(64, 100), kind="Q8_0"),
    Tensor(name="blk.0.attn_norm.weight", dimensions=(64,)),
    Tensor(name="blk.0.ffn_down.weight", dimensions=(256, 64), kind="Q4_K"),
)
METADATA = {
    "general.architecture": "llama",
    "llama.block_count": 1,
    "llama.rope.freq_base": 10000.0,
    "llama.flag": True,
    "llama.per_layer": [3, -1],
    "tokenizer.ggml.tokens": ["<s>", "é", "中国"],
}


def whole(**options: object) -> bytes:
    data, size = header_bytes(METADATA, TENSORS, **options)  # type: ignore[arg-type]
    return data + b"\0" * (size - len(data))


def preamble(*, version: int = 3, tensors: int = 0, pairs: int = 0) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, tensors, pairs)


def refused(data: bytes, *, size_bytes: int | None = None) -> GgufError:
    with pytest.raises(GgufError) as caught:
        read_header(BytesSource(data, size_bytes=size_bytes))
    assert caught.value.exit_code is ExitCode.INTEGRITY
    assert caught.value.hint
    assert f"byte {caught.value.offset}" in caught.value.message
    return caught.value


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("alignment", [32, 64])
def test_a_sound_file_is_read(version: int, alignment: int) -> None:
    data = whole(version=version, alignment=alignment)
    header = read_header(BytesSource(data))
    assert header.version == version
    assert header.architecture == "llama"
    assert header.integer("llama.block_count") == 1
    assert header.number("llama.rope.freq_base") == 10000.0
    assert header.metadata["llama.flag"] is True
    assert header.integers("llama.per_layer") == (3, -1)
    tokens = header.metadata["tokenizer.ggml.tokens"]
    assert isinstance(tokens, StringArray)
    assert list(tokens) == ["<s>", "é", "中国"]
    assert [tensor.size_bytes for tensor in header.tensors] == [6800, 256, 9216]
    assert header.parameters == 6400 + 64 + 16384
    assert header.data_offset % alignment == 0
    assert header.raw == data[: header.data_offset]
    assert header.file_bytes == len(data)


def test_a_file_with_a_hole_for_data_is_read(tmp_path) -> None:  # type: ignore[no-untyped-def]
    path = write_sparse(tmp_path / "m.gguf", METADATA, TENSORS)
    assert read_header(FileSource(path)).file_bytes == path.stat().st_size


def test_a_header_alone_is_read_when_the_size_is_the_servers() -> None:
    data, size = header_bytes(METADATA, TENSORS)
    assert read_header(BytesSource(data, size_bytes=size)).file_bytes == size


def test_every_strict_prefix_is_refused_with_an_offset_inside_it() -> None:
    data = whole()
    data = data[: len(data) - (-TENSORS[-1].size_bytes % 32)]
    for length in range(len(data)):
        error = refused(data[:length])
        assert 0 <= error.offset <= length


def test_an_unknown_type_is_sized_by_what_follows() -> None:
    data = bytearray(whole())
    at = data.index(b"blk.0.attn_norm.weight") + len("blk.0.attn_norm.weight") + 4 + 8
    data[at : at + 4] = struct.pack("<I", 99)
    header = read_header(BytesSource(bytes(data)))
    assert header.tensors[1].type is None
    assert header.tensors[1].type_name == "type 99"
    assert header.tensors[1].size_bytes == 256


def test_an_unknown_last_type_is_sized_by_the_file() -> None:
    data, size = header_bytes(METADATA, TENSORS[:1])
    broken = data.replace(struct.pack("<I", 8) + struct.pack("<Q", 0), struct.pack("<I", 77) + struct.pack("<Q", 0))
    assert broken != data
    assert read_header(BytesSource(broken, size_bytes=size)).tensors[0].size_bytes == size - len(data)


@pytest.mark.parametrize(
    ("data", "code", "offset"),
    [
        (b"GGML" + b"\0" * 40, "not-gguf", 0),
        (b"<!DOCTYPE html>" + b" " * 40, "not-gguf", 0),
        (b"GGUF\0\0\0\3" + b"\0" * 40, "gguf-big-endian", 4),
        (preamble(version=1), "gguf-version", 4),
        (preamble(version=9), "gguf-version", 4),
        (preamble(tensors=1 << 62), "gguf-invalid", 8),
        (preamble(pairs=1 << 62), "gguf-invalid", 16),
        (preamble(pairs=1) + struct.pack("<Q", 1 << 62), "gguf-invalid", 24),
        (preamble(pairs=1) + text("") + struct.pack("<II", 4, 1), "gguf-invalid", 24),
        (preamble(pairs=1) + text(b"\xff\xfe") + struct.pack("<II", 4, 1), "gguf-invalid", 32),
        (preamble(pairs=1) + text("k") + struct.pack("<II", 13, 1), "gguf-invalid", 33),
        (preamble(pairs=1) + text("k") + struct.pack("<IB", 7, 2), "gguf-invalid", 37),
        (preamble(pairs=1) + text("k") + struct.pack("<IIQ", 9, 0, 1 << 62), "gguf-truncated", 41),
        (preamble(pairs=1) + text("k") + struct.pack("<IIQ", 9, 8, 1 << 62), "gguf-truncated", 41),
        (preamble(pairs=1) + text("k") + struct.pack("<IIQ", 9, 9, 1), "gguf-invalid", 37),
        (preamble(pairs=1) + text("k") + struct.pack("<IIQ", 9, 12, 1), "gguf-truncated", 41),
        (preamble(pairs=2) + (text("k") + struct.pack("<II", 4, 1)) * 2, "gguf-invalid", 41),
        (preamble(pairs=1) + text("general.alignment") + struct.pack("<II", 4, 3), "gguf-invalid", 57),
        (preamble(tensors=1) + text("n" * 64) + b"\0" * 64, "gguf-invalid", 24),
        (preamble(tensors=1) + text("t") + struct.pack("<I", 5) + b"\0" * 64, "gguf-invalid", 33),
        (preamble(tensors=1) + text("t") + struct.pack("<IQQIQ", 2, 1 << 62, 4, 0, 0) + b"\0" * 64, "gguf-invalid", 37),
        (preamble(tensors=1) + text("t") + struct.pack("<IQIQ", 1, 33, 8, 0) + b"\0" * 64, "gguf-invalid", 24),
        (preamble(tensors=1) + text("t") + struct.pack("<IQIQ", 1, 32, 8, 7) + b"\0" * 64, "gguf-invalid", 24),
        (preamble(tensors=1) + text("t") + struct.pack("<IQIQ", 1, 32, 8, 64) + b"\0" * 640, "gguf-invalid", 24),
    ],
)
def test_hostile_and_damaged_headers_are_named(data: bytes, code: str, offset: int) -> None:
    error = refused(data)
    assert (error.code, error.offset) == (code, offset)


def test_overlapping_tensors_are_refused() -> None:
    def info(name: str, offset: int) -> bytes:
        return text(name) + struct.pack("<IQIQ", 1, 64, 0, offset)

    error = refused(preamble(tensors=2) + info("a", 0) + info("b", 128) + b"\0" * 2048)
    assert "overlaps" in error.message


def test_an_endless_array_costs_no_memory() -> None:
    data = preamble(pairs=1) + text("k") + struct.pack("<IIQ", 9, 8, 1 << 40)
    tracemalloc.start()
    refused(data, size_bytes=1 << 50)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 * FIRST_MIB


FIRST_MIB = 1024 * 1024


class CountingSource:
    """Serves a header whose data lies elsewhere, and counts what it is asked for."""

    def __init__(self, data: bytes, size: int) -> None:
        self._data, self.size_bytes = data, size
        self.requests = 0
        self.asked = 0

    def read(self, offset: int, length: int) -> bytes:
        self.requests += 1
        piece = self._data[offset : offset + length]
        # Behind the header lies weight data, which costs bytes all the same.
        piece += b"\0" * (min(length, self.size_bytes - offset) - len(piece))
        self.asked += len(piece)
        return piece


def vocabulary(tokens: int, merges: int, model: str) -> dict[str, object]:
    words = [f"tok{index:x}" for index in range(tokens)]
    pairs: dict[str, object] = {
        "general.architecture": "llama",
        "tokenizer.ggml.model": model,
        "tokenizer.ggml.tokens": words,
        "tokenizer.ggml.token_type": [1] * tokens,
    }
    if merges:
        pairs["tokenizer.ggml.merges"] = [f"{words[i % tokens]} {words[-i % tokens]}" for i in range(merges)]
    else:
        pairs["tokenizer.ggml.scores"] = [0.5] * tokens
    return pairs


@pytest.mark.parametrize(
    ("tokens", "merges", "model"),
    [(32_000, 0, "llama"), (128_256, 280_147, "gpt2"), (151_936, 151_387, "gpt2"), (262_144, 0, "llama")],
)
def test_a_remote_header_costs_three_requests_and_twice_its_bytes(tokens: int, merges: int, model: str) -> None:
    tensors = [Tensor(name=f"blk.{index}.ffn_down.weight", dimensions=(4096, 4096), kind="Q4_K") for index in range(400)]
    data, size = header_bytes(vocabulary(tokens, merges, model), tensors)
    source = CountingSource(data, size)
    read_header(source)
    assert source.requests <= 3
    assert source.asked <= max(2 * len(data), FIRST_MIB)


def test_a_vocabulary_of_256k_tokens_is_read_quickly() -> None:
    data, size = header_bytes(vocabulary(262_144, 262_144, "gpt2"))
    best = min(_timed(data, size) for _ in range(3))
    assert best < 0.3


def _timed(data: bytes, size: int) -> float:
    started = time.process_time()
    read_header(BytesSource(data, size_bytes=size))
    return time.process_time() - started


def test_a_header_beyond_the_cap_is_refused() -> None:
    data = preamble(pairs=1) + text("k") + struct.pack("<IIQ", 9, 0, MAX_HEADER_BYTES + 1)
    refused(data, size_bytes=1 << 40)
