"""Why the engine refuses to load a model, read from its own log: one table for chat, serve and the smoke test. Pure.

Messages of llama.cpp 0.5.0-dev (commit 0c1e57098), ggml 0.25.3: src/llama-model-loader.cpp, src/llama-model.cpp,
src/llama-vocab.cpp, src/llama-context.cpp, ggml/src/gguf.cpp, ggml/src/ggml-backend*.cpp, ggml/src/ggml-cuda.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

Cause = Literal[
    "not-gguf", "file-truncated", "split-incomplete", "unknown-architecture", "tokenizer-unreadable", "out-of-memory",
    "file-incomplete", "metadata-broken", "kv-type-refused", "file-missing",
]  # fmt: skip
CAUSES: tuple[Cause, ...] = get_args(Cause)

# The first cause with a matching line wins: what follows from another trouble comes after it.
_PATTERNS: tuple[tuple[Cause, str], ...] = (
    ("not-gguf", r"invalid magic|failed to read magic|not a GGUF"),
    ("split-incomplete", r"illegal split|missing.*split|failed to load.*split"),
    (
        "file-truncated",
        r"not within the file bounds|tensor .* out of range|corrupted or incomplete|failed to read|unexpectedly reached end",
    ),
    ("unknown-architecture", r"unknown model architecture"),
    (
        "tokenizer-unreadable",
        r"unknown pre-tokenizer|unknown tokenizer|error loading model vocabulary|cannot find tokenizer|invalid vocab",
    ),
    ("out-of-memory", r"cudaMalloc failed|failed to allocate|unable to allocate|OutOfDeviceMemory|out of memory"),
    (
        "file-incomplete",
        r"missing tensor|tensor '[^']*' not found|wrong number of tensors|has wrong (?:shape|type)|key not found in model",
    ),
    ("metadata-broken", r"error loading model hyperparameters|invalid.*key"),
    ("kv-type-refused", r"quantized V cache|V cache quantization requires flash"),
    ("file-missing", r"no such file|failed to open|does not exist"),
)
_COMPILED = tuple((cause, re.compile(pattern, re.IGNORECASE)) for cause, pattern in _PATTERNS)
# The engine closes with the least telling line of all; what went before it names the reason.
_UNTELLING = re.compile(r"failed to load model|Failed to load model from file")


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A known cause and the log line that told it."""

    cause: Cause
    line: str


def find_refusal(lines: Sequence[str]) -> Refusal | None:
    """The cause that the log names, None when it names none that is known."""
    for cause, pattern in _COMPILED:
        found = [line.strip() for line in lines if pattern.search(line)]
        if found:
            telling = [line for line in found if not _UNTELLING.search(line)] or found
            return Refusal(cause=cause, line=telling[-1][:300])
    return None
