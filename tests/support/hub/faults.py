"""What a server or the network can do wrong, as data: which fault, at which requests, how often."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase


class Kind(StrEnum):
    RANGE_IGNORED = "range-ignored"
    """200 with the whole file."""
    OTHER_RANGE = "other-range"
    """206, but `at_byte` bytes further on than asked."""
    WRONG_TOTAL = "wrong-total"
    """206 with Content-Range of a file `at_byte` bytes longer."""
    SHORT_BODY = "short-body"
    """The connection ends in good order after `at_byte` bytes of the body."""
    RESET = "reset"
    """TCP reset after `at_byte` bytes of the body."""
    HANG_UP = "hang-up"
    """The connection is closed before any answer."""
    STALL = "stall"
    """Silence of `seconds` after `at_byte` bytes of the body, then the rest."""
    SLOW = "slow"
    """This connection, now and later, passes `value` bytes per second."""
    DELAY = "delay"
    """`seconds` before the answer."""
    DRIP = "drip"
    """The head of the answer comes byte by byte, one in `seconds`, and never ends."""
    STATUS = "status"
    """Status `value`; with `seconds`, Retry-After and RateLimit say so."""
    HTML = "html"
    """A login page with status 200."""
    FLIPPED_BIT = "flipped-bit"
    """The byte at `at_byte` of the file has one bit wrong, whenever it is sent."""
    GROWN = "grown"
    """The right bytes and `at_byte` more of them; every length agrees."""
    REDIRECT = "redirect"
    """302 to `text` (a URL; {path} becomes the path and query asked for)."""
    RELATIVE_REDIRECT = "relative-redirect"
    """307 to a path of the same host that serves the file (small files)."""
    XET_ONLY = "xet-only"
    """A Xet hash and no address: an empty 200 where the Hub redirects to plain bytes."""
    GZIP = "gzip"
    """Content-Encoding: gzip of the whole file, as a CDN does that was allowed to compress."""
    HEAD_REFUSED = "head-refused"
    """405 to HEAD."""
    NO_COMMIT = "no-commit"
    """X-Repo-Commit is left out."""
    NO_LINKED = "no-linked"
    """X-Linked-Size and X-Linked-ETag are left out."""
    NO_LENGTH = "no-length"
    """No Content-Length: the body ends with the connection."""
    CHUNKED = "chunked"
    """Transfer-Encoding: chunked instead of Content-Length."""
    UPPER_SHA = "upper-sha"
    """sha256 in upper case."""
    NO_LFS = "no-lfs"
    """The tree says nothing of LFS."""
    LINK_ELSEWHERE = "link-elsewhere"
    """Link: next points at `text` (scheme and host) instead of here."""
    BROKEN_JSON = "broken-json"
    ACTION = "action"
    """`action` is called, then the request is answered as usual."""


@dataclass(frozen=True, kw_only=True)
class Fault:
    kind: Kind
    where: str = "cdn"
    """`cdn`, `resolve`, `tree`, `info`, `refs`, `paths-info`, `api` (any other API path), `modelscope`, or `*`."""
    path: str = "*"
    """Pattern for the file's path in its repository."""
    method: str = "*"
    skip: int = 0
    """So many matching requests pass first."""
    times: int | None = 1
    """How many requests it hits; None is all of them."""
    at_byte: int = 0
    seconds: float = 0.0
    value: int = 0
    text: str = ""
    action: Callable[[], None] | None = None


class FaultBook:
    """The faults still to come, shared by all connections."""

    def __init__(self, faults: Iterable[Fault] = ()) -> None:
        self._lock = threading.Lock()
        self._entries: list[list[object]] = []
        self.hits: list[Fault] = []
        for fault in faults:
            self.add(fault)

    def add(self, fault: Fault) -> None:
        with self._lock:
            self._entries.append([fault, fault.skip, fault.times])

    def clear(self) -> None:
        with self._lock:
            self._entries.clear()

    def take(self, *, where: str, path: str, method: str) -> dict[Kind, Fault]:
        """The faults that hit this request, at most one of each kind."""
        taken: dict[Kind, Fault] = {}
        with self._lock:
            for entry in self._entries:
                fault, skip, left = entry
                assert isinstance(fault, Fault)
                matches = (
                    fnmatchcase(where, fault.where) and fnmatchcase(path, fault.path) and fnmatchcase(method, fault.method)
                )
                if not matches:
                    continue
                if skip:
                    entry[1] = int(skip) - 1  # type: ignore[call-overload]
                    continue
                if fault.kind in taken or left == 0:
                    continue
                if left is not None:
                    entry[2] = int(left) - 1  # type: ignore[call-overload]
                taken[fault.kind] = fault
                self.hits.append(fault)
        return taken
