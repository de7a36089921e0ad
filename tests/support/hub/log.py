"""What the server was asked and what it sent, so that tests can count bytes and look for tokens."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass
class Request:
    """One request. `sent_bytes` counts body bytes handed to the kernel so far."""

    face: str
    """`hub`, `cdn` or `modelscope`."""
    where: str
    method: str
    target: str
    headers: Mapping[str, str]
    """Lower-case names."""
    connection: int
    path: str = ""
    status: int = 0
    sent_bytes: int = 0
    faults: tuple[str, ...] = field(default=())

    @property
    def authorization(self) -> str | None:
        return self.headers.get("authorization")


class RequestLog:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests: list[Request] = []

    def add(self, request: Request) -> None:
        with self._lock:
            self._requests.append(request)

    def all(self, *, face: str | None = None, where: str | None = None, path: str | None = None) -> list[Request]:
        with self._lock:
            requests = list(self._requests)
        return [
            one
            for one in requests
            if (face is None or one.face == face)
            and (where is None or one.where == where)
            and (path is None or one.path == path)
        ]

    def body_bytes(self, *, path: str | None = None) -> int:
        """Bytes of file content sent by the CDN, and by the hub for small files."""
        return sum(
            one.sent_bytes for one in self.all(path=path) if one.face == "cdn" or one.where in ("resolve", "resolve-cache")
        )

    def clear(self) -> None:
        with self._lock:
            self._requests.clear()
