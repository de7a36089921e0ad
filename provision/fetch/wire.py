"""Connections for bulk bytes: plain http.client over sockets we open ourselves, so that proxies, TLS, time limits and aborting
from another thread are all ours. Why not another client: docs/decisions/0007-data-plane.md.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import cast
from urllib.parse import unquote, urlsplit

from provision.fetch.socks import connect_through_socks
from provision.fetch.tls import Stream, TlsSocket
from provision.fetch.turns import Turns, turns_for, usable_cpus
from provision.hub.origins import origin_of as origin_of
from provision.hub.origins import tls_context
from provision.hub.proxies import Proxy, proxy_for

CONNECT_TIMEOUT_S = 10.0
READ_TIMEOUT_S = 15.0

# What a connection can fail with; everything else is a bug of ours.
WireError = (OSError, http.client.HTTPException)


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """An address as resolved: `headers` go to this URL and to no other origin. The repr hides headers and signature."""

    url: str
    headers: Mapping[str, str] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"Target({origin_of(self.url)})"


class Dialer:
    """Opens connections as the environment asks: proxy, CA files, time limits. Shared by all threads, as are its `turns`."""

    def __init__(
        self,
        environ: Mapping[str, str],
        *,
        connect_timeout_s: float = CONNECT_TIMEOUT_S,
        read_timeout_s: float = READ_TIMEOUT_S,
    ) -> None:
        self._environ = environ
        self._connect_timeout_s = connect_timeout_s
        self._read_timeout_s = read_timeout_s
        self._tls: ssl.SSLContext | None = None
        self.turns = Turns(turns_for(usable_cpus()))

    def connect(self, url: str) -> Connection:
        """A connection to the origin of `url`, an address that was judged (hub/addresses.py).

        Raises OSError or http.client.HTTPException.
        """
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"not an http address: {origin_of(url)}")
        port = parts.port or (443 if parts.scheme == "https" else 80)
        proxy = proxy_for(url, self._environ)
        sock = self._open(parts.hostname, port, proxy, tunnel=parts.scheme == "https")
        try:
            if parts.scheme == "https":
                sock = TlsSocket(sock, self._context(), host=parts.hostname, turns=self.turns)
            sock.settimeout(self._read_timeout_s)
        except BaseException:
            sock.close()
            raise
        forward = proxy if proxy and not proxy.is_socks and parts.scheme == "http" else None
        return Connection(sock, origin=origin_of(url), host=parts.hostname, port=port, forward=forward)

    def _open(self, host: str, port: int, proxy: Proxy | None, *, tunnel: bool) -> Stream:
        where = (proxy.host, proxy.port) if proxy else (host, port)
        bare = socket.create_connection(where, timeout=self._connect_timeout_s)
        sock: Stream = bare
        try:
            bare.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if proxy is None:
                return sock
            if proxy.scheme == "https":
                sock = TlsSocket(sock, self._context(), host=proxy.host, turns=self.turns)
            if proxy.is_socks:
                connect_through_socks(sock, host, port, username=proxy.username, password=proxy.password)
            elif tunnel:
                _connect_through_http(sock, host, port, proxy)
        except BaseException:
            sock.close()
            raise
        return sock

    def _context(self) -> ssl.SSLContext:
        if self._tls is None:
            self._tls = tls_context(self._environ)
        return self._tls


def _connect_through_http(sock: Stream, host: str, port: int, proxy: Proxy) -> None:
    """An HTTP CONNECT tunnel (RFC 9110, 9.3.6). Raises OSError when the proxy refuses."""
    authority = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    lines = [f"CONNECT {authority} HTTP/1.1", f"Host: {authority}", *(f"{k}: {v}" for k, v in _proxy_headers(proxy).items())]
    sock.sendall("\r\n".join([*lines, "", ""]).encode("ascii"))
    answer = http.client.HTTPResponse(cast(socket.socket, sock), method="CONNECT")
    try:
        answer.begin()
        if answer.status != 200:
            raise OSError(f"the proxy {proxy.host}:{proxy.port} answered HTTP {answer.status} to CONNECT")
    finally:
        answer.close()


def _proxy_headers(proxy: Proxy) -> dict[str, str]:
    if proxy.username is None:
        return {}
    return {"Proxy-Authorization": _basic(proxy.username, proxy.password or "")}


def _basic(username: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()


class Connection:
    """One kept-alive HTTP/1.1 connection to one origin. One request at a time; `abort` may come from any thread."""

    def __init__(self, sock: Stream, *, origin: str, host: str, port: int, forward: Proxy | None) -> None:
        self.origin = origin
        self._forward = forward
        self._sock = sock
        self._client = http.client.HTTPConnection(host, port)
        self._client.sock = sock
        self._client.auto_open = 0

    def get(self, target: Target, headers: Mapping[str, str], *, method: str = "GET") -> http.client.HTTPResponse:
        """Send one request and read the answer's head. Raises OSError or http.client.HTTPException."""
        parts = urlsplit(target.url)
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        sent = {"Accept-Encoding": "identity", "User-Agent": "provision", **target.headers, **headers}
        if parts.username is not None:
            sent["Authorization"] = _basic(unquote(parts.username), unquote(parts.password or ""))
        if self._forward is not None:
            path = origin_of(target.url) + path
            sent.update(_proxy_headers(self._forward))
        self._client.request(method, path, headers=sent)
        return self._client.getresponse()

    def abort(self) -> None:
        """Make a read that waits in another thread fail now."""
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._client.close()
        with contextlib.suppress(OSError):
            self._sock.close()


def lower_headers(response: http.client.HTTPResponse) -> dict[str, str]:
    """Header names in lower case; repeated ones joined, so a doubled Content-Length cannot pass for one."""
    joined: dict[str, str] = {}
    for name, value in response.getheaders():
        key = name.lower()
        joined[key] = f"{joined[key]}, {value}" if key in joined else value
    return joined
