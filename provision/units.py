"""Sizes, rates and times: parsed from what people write, written as people read. Machines get integers."""

from __future__ import annotations

import math
import re

from provision.errors import UsageError

KIB = 1024
MIB = 1024**2
GIB = 1024**3
TIB = 1024**4

# IEC units are powers of 1024. A bare K/M/G/T means the same here, because that is how VRAM is spoken of ("24G card");
# only the explicit SI forms kB/MB/GB/TB are powers of 1000.
_FACTORS = {
    "": 1,
    "b": 1,
    "k": KIB,
    "kib": KIB,
    "kb": 1000,
    "m": MIB,
    "mib": MIB,
    "mb": 1000**2,
    "g": GIB,
    "gib": GIB,
    "gb": 1000**3,
    "t": TIB,
    "tib": TIB,
    "tb": 1000**4,
}
# What a file offset can be, everywhere.
MAX_BYTES = 2**63 - 1
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([a-zA-Z]*)\s*")


def parse_size(text: str, *, example: str = "24GiB or 800MB") -> int:
    """Bytes from `24GiB`, `24G`, `1.5 TB` or `1048576`; raises UsageError (`bad-size`) for anything else."""
    match = _SIZE.fullmatch(text)
    factor = _FACTORS.get(match.group(2).lower()) if match else None
    size = float(match.group(1)) * factor if match is not None and factor is not None else math.inf
    if size > MAX_BYTES:
        shown = text if len(text) <= 40 else text[:40] + "..."
        raise UsageError(f"not a size: {shown!r}", code="bad-size", hint=f"write a number and a unit, for example {example}")
    return round(size)


def format_bytes(count: int | float) -> str:
    """`4.6 GiB`, `812 KiB`, `17 B`: three significant digits at most, always binary units."""
    size = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(size) < 1023.5:
            return f"{size:.0f} {unit}" if unit == "B" or abs(size) >= 100 else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


def format_rate(bytes_per_s: float) -> str:
    """`12.3 MiB/s`."""
    return f"{format_bytes(bytes_per_s)}/s"


def format_seconds(seconds: float) -> str:
    """`0.4 s`, `12 s`, `3 min 05 s`, `2 h 10 min`."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
