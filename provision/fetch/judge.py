"""The response judge: may a single byte of this answer be written, and if not, what next? Pure.

The server said what it sends in status, Content-Range, Content-Length and Content-Encoding. Unless every one of them is
exactly what was asked for, nothing is written.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from provision.fetch.pieces import Span

_CONTENT_RANGE = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19})")
_RATE_LIMIT_T = re.compile(r"(?:^|[;,\s])t=(\d{1,6})\b")
MAX_WAIT_S = 300.0


class Kind(StrEnum):
    """What an answer means for the transfer."""

    EXACT = "exact"
    """206 with precisely the bytes asked for."""
    WHOLE = "whole"
    """200 with the whole file: the server ignores Range."""
    MOVED = "moved"
    """A redirect where a final address was expected."""
    EXPIRED = "expired"
    """401, 403, 404 or 410 from an address that was resolved earlier: resolve again."""
    BUSY = "busy"
    """429 or 5xx: wait, then ask again."""
    WRONG = "wrong"
    """An answer to another question: this source cannot be believed right now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    kind: Kind
    reason: str = ""
    wait_s: float | None = None
    """What the server asked for with Retry-After or RateLimit; None when it said nothing."""


def judge(status: int, headers: Mapping[str, str], *, asked: Span, size_bytes: int) -> Verdict:
    """Judge the answer to `Range: asked` of a file of `size_bytes`. `headers` has lower-case names."""
    if status in (301, 302, 303, 307, 308):
        return Verdict(kind=Kind.MOVED, reason=f"HTTP {status}: the address moved")
    if status in (401, 403, 404, 410):
        return Verdict(kind=Kind.EXPIRED, reason=f"HTTP {status}: the address is no longer valid")
    if status in (408, 425, 429) or status >= 500:
        return Verdict(kind=Kind.BUSY, reason=f"HTTP {status}", wait_s=wait_of(headers))
    if status not in (200, 206):
        return Verdict(kind=Kind.WRONG, reason=f"HTTP {status} for {asked.start}-{asked.stop} of {size_bytes} bytes")
    encoding = headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("identity", ""):
        return Verdict(kind=Kind.WRONG, reason=f"the answer is encoded as {encoding}")
    if headers.get("content-type", "").lower().startswith("multipart/"):
        return Verdict(kind=Kind.WRONG, reason="the answer is multipart")
    length = headers.get("content-length")
    if length is not None and not re.fullmatch(r"\d{1,19}", length.strip()):
        return Verdict(kind=Kind.WRONG, reason=f"Content-Length {length!r} is no number")
    length_bytes = None if length is None else int(length)
    if status == 206:
        return _judge_partial(headers, length_bytes, asked=asked, size_bytes=size_bytes)
    return _judge_whole(headers, length_bytes, size_bytes=size_bytes)


def _judge_partial(headers: Mapping[str, str], length_bytes: int | None, *, asked: Span, size_bytes: int) -> Verdict:
    text = headers.get("content-range", "").strip()
    match = _CONTENT_RANGE.fullmatch(text)
    if match is None:
        return Verdict(kind=Kind.WRONG, reason=f"206 with Content-Range {text!r}")
    first, last, total = (int(group) for group in match.groups())
    if total != size_bytes:
        return Verdict(kind=Kind.WRONG, reason=f"the file has {total} bytes there, {size_bytes} were promised")
    if (first, last + 1) != (asked.start, asked.stop):
        return Verdict(kind=Kind.WRONG, reason=f"asked for bytes {asked.start}-{asked.stop - 1}, got {first}-{last}")
    if length_bytes is not None and length_bytes != len(asked):
        return Verdict(kind=Kind.WRONG, reason=f"Content-Length {length_bytes} for {len(asked)} bytes")
    return Verdict(kind=Kind.EXACT)


def _judge_whole(headers: Mapping[str, str], length_bytes: int | None, *, size_bytes: int) -> Verdict:
    content_type = headers.get("content-type", "").lower()
    if length_bytes is not None and length_bytes != size_bytes:
        what = "a web page" if "html" in content_type else "another file"
        return Verdict(kind=Kind.WRONG, reason=f"{what} of {length_bytes} bytes instead of {size_bytes}")
    if length_bytes is None and "html" in content_type:
        return Verdict(kind=Kind.WRONG, reason="a web page instead of the file")
    return Verdict(kind=Kind.WHOLE, reason="the server ignores Range")


def wait_of(headers: Mapping[str, str]) -> float | None:
    """Seconds the server asks us to wait: Retry-After in seconds, or `t=` of RateLimit plus one; at most five minutes.

    The Hub's documentation ("Rate limits") says to sleep t + 1. Retry-After as a date is not used by it and is ignored.
    """
    waits: list[float] = []
    after = headers.get("retry-after", "").strip()
    if re.fullmatch(r"\d{1,6}", after):
        waits.append(float(after))
    match = _RATE_LIMIT_T.search(headers.get("ratelimit", ""))
    if match:
        waits.append(float(match.group(1)) + 1.0)
    return min(max(waits), MAX_WAIT_S) if waits else None


def backoff_s(failures: int, *, asked_s: float | None = None) -> float:
    """How long to wait after the `failures`-th failure in a row: what the server asked, else 0.25 s doubling up to 15 s."""
    if asked_s is not None:
        # "Retry-After: 0" is no invitation to ask without a pause.
        return max(0.25, asked_s)
    return float(min(15.0, 0.25 * 2.0 ** max(0, min(failures, 12) - 1)))
