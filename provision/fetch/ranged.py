"""Small reads of remote files, for headers: one request per read, resolved once, judged as strictly as a download."""

from __future__ import annotations

import http.client
import time
from collections.abc import Callable
from urllib.parse import urlsplit

from provision.errors import AccessError, NotFoundError, ProvisionError, TransferError, UsageError
from provision.fetch.judge import Kind, backoff_s, judge
from provision.fetch.pieces import Span, http_range
from provision.fetch.redirects import MAX_REDIRECTS, STATUSES, next_target
from provision.fetch.wire import Connection, Dialer, Target, WireError, lower_headers, origin_of
from provision.hub.resolve import resolve
from provision.hub.types import Listing, Resolved
from provision.models.types import RepoFile
from provision.settings import Settings

_TRIES = 4
_MAX_WAIT_S = 30.0


class RemoteFile:
    """Random access to one file on a server; a source for `gguf.reader.read_header`. Close it, or use it as a context.

    Reads raise TransferError, AccessError, NotFoundError or IntegrityError. Where a server ignores Range, a read near the start
    takes the stream's beginning and hangs up; one further in is refused.
    """

    def __init__(self, locate: Callable[[], tuple[Target, int | None]], *, dialer: Dialer, name: str) -> None:
        self._locate = locate
        self._dialer = dialer
        self._name = name
        self._target: Target | None = None
        self._size_bytes: int | None = None
        self._connection: Connection | None = None
        self.requests = 0
        self.received_bytes = 0

    def __enter__(self) -> RemoteFile:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    @property
    def size_bytes(self) -> int | None:
        """Size of the whole file; known from the listing, or from the first answer."""
        if self._target is None:
            self._target, size = self._locate()
            self._size_bytes = self._size_bytes or size
        return self._size_bytes

    def read(self, offset: int, length: int) -> bytes:
        """Up to `length` bytes from `offset`; fewer only at the end of the file."""
        size = self.size_bytes
        stop = offset + length if size is None else min(offset + length, size)
        if stop <= offset:
            return b""
        reason = ""
        for attempt in range(1, _TRIES + 1):
            try:
                return self._read(Span(start=offset, stop=stop))
            except WireError as error:
                reason = str(error) or type(error).__name__
                self.close()
            except _Refused as refused:
                reason = refused.reason
                self.close()
                if refused.final is not None:
                    raise refused.final from None
                time.sleep(min(_MAX_WAIT_S, backoff_s(attempt, asked_s=refused.wait_s)))
        raise TransferError(
            f"cannot read the header of {self._name}: {reason}", code="transfer-gave-up", hint="run the same command again"
        )

    def _read(self, asked: Span) -> bytes:
        if self._target is None:
            self._target, self._size_bytes = self._locate()
        target = self._target
        for _ in range(MAX_REDIRECTS):
            connection = self._connect(target.url)
            self.requests += 1
            response = connection.get(target, {"Range": http_range(asked)})
            headers = lower_headers(response)
            if response.status not in STATUSES:
                break
            self.close()
            target = next_target(target, headers.get("location", ""))
        self._target = target
        return self._take(response, headers, asked)

    def _take(self, response: http.client.HTTPResponse, headers: dict[str, str], asked: Span) -> bytes:
        size = self._size_bytes if self._size_bytes is not None else _announced_size(response.status, headers)
        if size is None:
            raise _Refused(f"{self._name}: the server tells no size", final=self._gone(response.status))
        asked = Span(start=asked.start, stop=min(asked.stop, size))
        verdict = judge(response.status, headers, asked=asked, size_bytes=size)
        if verdict.kind is Kind.WHOLE:
            # Headers sit at the start: take that much and hang up, rather than 40 GB.
            data = _exactly(response, asked.stop)[asked.start :]
            self.close()
        elif verdict.kind is Kind.EXACT:
            data = _exactly(response, len(asked))
            if not response.isclosed():
                self.close()
        elif verdict.kind is Kind.EXPIRED:
            final = self._gone(response.status)
            self._target = None
            raise _Refused(verdict.reason, final=final)
        else:
            raise _Refused(verdict.reason, wait_s=verdict.wait_s)
        self._size_bytes = size
        self.received_bytes += len(data)
        return data

    def _gone(self, status: int) -> ProvisionError | None:
        """A final error for a plain URL; an address of a Hub is simply resolved again."""
        if status in (404, 410):
            return NotFoundError(f"{self._name}: HTTP {status}", code="file-not-found", hint="check the address")
        if status in (401, 403):
            return AccessError(f"{self._name}: HTTP {status}", code="access-denied", hint="set HF_TOKEN, or check the address")
        return None

    def _connect(self, url: str) -> Connection:
        if self._connection is None or self._connection.origin != origin_of(url):
            self.close()
            self._connection = self._dialer.connect(url)
        return self._connection


class _Refused(Exception):
    def __init__(self, reason: str, *, wait_s: float | None = None, final: ProvisionError | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.wait_s = wait_s
        self.final = final


class _HubFile(RemoteFile):
    def _gone(self, status: int) -> ProvisionError | None:
        return None


def open_remote(listing: Listing, file: RepoFile, *, settings: Settings) -> RemoteFile:
    """A file of a repository, resolved through the Hub at the first read and again when its address expires."""
    _refuse_offline(settings, file.path)

    def locate() -> tuple[Target, int | None]:
        resolved: Resolved = resolve(listing, file, settings=settings)
        return Target(url=resolved.url, headers=resolved.headers), file.size_bytes or resolved.size_bytes

    return _HubFile(locate, dialer=Dialer(settings.environ), name=file.path)


def open_url(url: str, *, settings: Settings) -> RemoteFile:
    """A file at an http(s) address; no token is sent."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError(f"not an http address: {url!r}", code="bad-url", hint="give an http:// or https:// URL of a GGUF file")
    name = parts.path.rpartition("/")[2] or origin_of(url)
    _refuse_offline(settings, name)
    return RemoteFile(lambda: (Target(url=url), None), dialer=Dialer(settings.environ), name=name)


def _refuse_offline(settings: Settings, name: str) -> None:
    if settings.offline:
        raise NotFoundError(
            f"offline, and {name} is on a server", code="not-cached", hint="unset HF_HUB_OFFLINE, or name a local file"
        )


def _announced_size(status: int, headers: dict[str, str]) -> int | None:
    text = headers.get("content-range", "").rpartition("/")[2] if status in (206, 416) else headers.get("content-length", "")
    return int(text) if text.isdecimal() and len(text) < 20 and status in (200, 206) else None


def _exactly(response: http.client.HTTPResponse, length: int) -> bytes:
    data = bytearray(length)
    view, filled = memoryview(data), 0
    while filled < length:
        count = response.readinto(view[filled:])
        if not count:
            raise OSError(f"the answer ended {length - filled} bytes early")
        filled += count
    return bytes(data)
