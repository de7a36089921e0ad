"""The part of a file that has been read so far, and how much to ask for next.

A remote header should cost few requests and few bytes too many. Nothing says how long a header is, but its first half megabyte
says a lot: how many tokens the vocabulary has and how long they are on average.
"""

from __future__ import annotations

from provision.gguf.header import GgufError
from provision.gguf.source import ByteSource

MAX_HEADER_BYTES = 96 * 1024 * 1024
"""Far above any published header (about 20 MB with 262k tokens and their merges), far below what hurts a machine."""
FIRST_READ_BYTES = 512 * 1024
_LATER_READ_BYTES = 256 * 1024
_TENSOR_INFO_BYTES = 80
_MERGE_FREE_TOKENIZERS = frozenset({"llama", "bert", "t5", "rwkv", "plamo2", "no_vocab", "none"})


class Window:
    """The bytes [0, len(data)) of a source, and a reading position in them."""

    def __init__(self, source: ByteSource) -> None:
        self._source = source
        size = source.size_bytes
        self._end = MAX_HEADER_BYTES if size is None else min(size, MAX_HEADER_BYTES)
        self.data = bytearray()
        self.position = 0
        self._n_tensors = 0
        self._has_merges = True

    @property
    def room(self) -> int:
        """Bytes that can still follow the position."""
        return self._end - self.position

    def expect_tensors(self, count: int) -> None:
        self._n_tensors = count

    def expect_tokenizer(self, model: str) -> None:
        self._has_merges = model not in _MERGE_FREE_TOKENIZERS

    def take(self, length: int, what: str) -> bytes:
        """The next `length` bytes; raises GgufError (`gguf-truncated`) when the file ends before."""
        end = self.position + length
        if end > len(self.data):
            self.grow(length, what)
        piece = bytes(self.data[self.position : end])
        self.position = end
        return piece

    def skip_to(self, position: int, what: str) -> None:
        if position > len(self.data):
            self.grow(position - self.position, what)
        self.position = position

    def taken(self, end: int) -> bytes:
        """Everything up to `end`; the buffer is given up."""
        data = bytes(memoryview(self.data)[:end])
        self.data = bytearray()
        return data

    def grow(self, need: int, what: str, *, soon: int = 0, list_of: tuple[str, int] | None = None) -> None:
        """Have at least `need` bytes behind the position. `soon`: bytes that are sure to be wanted next."""
        required = self.position + need
        if required > self._end:
            size = self._source.size_bytes
            if size is not None and required > size:
                raise GgufError(f"the file ends inside {what}", offset=size, code="gguf-truncated")
            raise GgufError(f"{what} reaches beyond {MAX_HEADER_BYTES} bytes of header", offset=self.position)
        wanted = max(required, self.position + soon + self._behind(list_of))
        wanted = max(wanted, FIRST_READ_BYTES if not self.data else len(self.data) + _LATER_READ_BYTES)
        wanted = min(wanted, self._end)
        while len(self.data) < required:
            piece = self._source.read(len(self.data), wanted - len(self.data))
            if not piece:
                raise GgufError(f"the file ends inside {what}", offset=len(self.data), code="gguf-truncated")
            self.data += piece

    def _behind(self, list_of: tuple[str, int] | None) -> int:
        """What follows the list being read: other lists of the tokenizer, then the tensor infos."""
        tensors = self._n_tensors * _TENSOR_INFO_BYTES
        if list_of is None:
            return tensors
        key, count = list_of
        if key != "tokenizer.ggml.tokens":
            return tensors + 64 * 1024
        types_and_scores = count * (4 if self._has_merges else 8)
        merges = count * 24 if self._has_merges else 0
        return tensors + types_and_scores + merges + 64 * 1024
