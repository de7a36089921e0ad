"""A byte-level BPE tokenizer of 512 tokens, trained here, in the form llama.cpp reads as `gpt2` with pre-tokenizer `gpt-2`."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cached_property

BOS, START, END = "<|begin|>", "<|im_start|>", "<|im_end|>"
SPECIALS = (BOS, START, END)
# GPT-2's split in Python's own re: letters are word characters that are neither digits nor underscore.
_SPLIT = re.compile(r"'s|'t|'re|'ve|'m|'ll|'d| ?[^\W\d_]+| ?\d+| ?(?:[^\s\w]|_)+|\s+(?!\S)|\s+")
# GPT-2's bytes_to_unicode: printable bytes stand for themselves, the others for 256 and up.
_PRINTABLE = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
_OTHERS = [byte for byte in range(256) if byte not in _PRINTABLE]
BYTE_CHARS = {**{byte: chr(byte) for byte in _PRINTABLE}, **{byte: chr(256 + i) for i, byte in enumerate(_OTHERS)}}


class Tokenizer:
    """Token ids: the specials, then 256 bytes, then merges in the order they were learned."""

    def __init__(self, merges: Sequence[tuple[str, str]]) -> None:
        self.merges = list(merges)
        self.tokens = [*SPECIALS, *(BYTE_CHARS[byte] for byte in range(256)), *("".join(pair) for pair in merges)]
        self._ids = {token: index for index, token in enumerate(self.tokens)}
        self._ranks = {pair: rank for rank, pair in enumerate(merges)}
        self._cache: dict[str, list[int]] = {}

    @cached_property
    def bos(self) -> int:
        return self._ids[BOS]

    @cached_property
    def eos(self) -> int:
        return self._ids[END]

    def encode(self, text: str) -> list[int]:
        """Ids of plain text; control tokens are never read from it."""
        ids: list[int] = []
        for piece in _SPLIT.findall(text):
            if piece not in self._cache:
                self._cache[piece] = self._encode_piece(piece)
            ids += self._cache[piece]
        return ids

    def turn(self, role: str, text: str) -> tuple[list[int], list[int]]:
        """Header and body of one chat turn: `<|im_start|>role\\n` and `text<|im_end|>\\n`."""
        header = [self._ids[START], *self.encode(role + "\n")]
        return header, [*self.encode(text), self.eos, *self.encode("\n")]

    def _encode_piece(self, piece: str) -> list[int]:
        parts = [BYTE_CHARS[byte] for byte in piece.encode()]
        while len(parts) > 1:
            rank, at = min((self._ranks.get((a, b), len(self._ranks)), i) for i, (a, b) in enumerate(itertools.pairwise(parts)))
            if rank == len(self._ranks):
                break
            parts[at : at + 2] = [parts[at] + parts[at + 1]]
        return [self._ids[part] for part in parts]


def train(texts: Iterable[str], n_tokens: int) -> Tokenizer:
    """Byte-pair encoding by plain counting; digits never merge, so that sums are read digit by digit."""
    counts = Counter(piece for text in texts for piece in _SPLIT.findall(text))
    words = [([BYTE_CHARS[byte] for byte in piece.encode()], count) for piece, count in sorted(counts.items())]
    merges: list[tuple[str, str]] = []
    while len(merges) < n_tokens - len(SPECIALS) - 256:
        pairs: Counter[tuple[str, str]] = Counter()
        for parts, count in words:
            for pair in itertools.pairwise(parts):
                pairs[pair] += count
        best = max(
            (pair for pair in pairs if not any(c.isdigit() and c.isascii() for c in "".join(pair))), key=lambda p: (pairs[p], p)
        )
        merges.append(best)
        for parts, _ in words:
            _merge(parts, best)
    return Tokenizer(merges)


def _merge(parts: list[str], pair: tuple[str, str]) -> None:
    at = 0
    while at < len(parts) - 1:
        if (parts[at], parts[at + 1]) == pair:
            parts[at : at + 2] = [pair[0] + pair[1]]
        at += 1
