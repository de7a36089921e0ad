"""A file's name in less room: what tells it from its neighbours, quant and extension, stays. Counts cells, so 中 is two."""

from __future__ import annotations

import re

from rich.cells import cell_len

from provision.models.labels import LABEL

_LABEL = re.compile(rf"(?<![A-Za-z0-9])(?:{LABEL})(?![A-Za-z0-9_])", re.IGNORECASE | re.VERBOSE)
_PART = re.compile(r"-0*(\d+)-of-0*(\d+)(?=\.)")
_ELLIPSIS = "…"


def shorten(name: str, width: int) -> str:
    """`name` in at most `width` cells: `Qwen3-…Q4_K_M-1-of-3.gguf`."""
    if cell_len(name) <= width:
        return name
    name = _PART.sub(r"-\1-of-\2", name)
    if cell_len(name) <= width:
        return name
    tail = name[_tail_at(name) :]
    if cell_len(tail) < width:
        return _head(name, width - 1 - cell_len(tail)) + _ELLIPSIS + tail
    end = tail[len(tail.partition(".")[0]) :] if "." in tail else ""
    if cell_len(end) + 1 < width:
        return _head(tail, width - 1 - cell_len(end)) + _ELLIPSIS + end
    return _head(tail, width - 1) + _ELLIPSIS if width > 0 else ""


def _tail_at(name: str) -> int:
    """Where the part begins that must stay: at the file's own quant label, else its number, else its extension."""
    base = name.rfind("/") + 1
    labels = list(_LABEL.finditer(name, base))
    if labels:
        return labels[-1].start()
    part = _PART.search(name, base)
    if part is not None:
        return part.start()
    dot = name.rfind(".", base)
    return dot if dot > base else len(name)


def _head(text: str, width: int) -> str:
    """As much of the beginning as fits into `width` cells."""
    kept = 0
    while kept < len(text) and cell_len(text[: kept + 1]) <= width:
        kept += 1
    return text[:kept]
