"""A bare HTTP server of byte ranges on loopback, with faults per request: for the transfer alone, without a hub."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class RangeServer(ThreadingHTTPServer):
    """Serves `content` at every path. `fault(number, start, stop)` may return how request `number` is to go wrong."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(
        self, content: bytes, *, bytes_per_s: int | None = None, tls: ssl.SSLContext | None = None, ipv6: bool = False
    ) -> None:
        self.address_family = socket.AF_INET6 if ipv6 else socket.AF_INET
        super().__init__(("::1" if ipv6 else "127.0.0.1", 0), _Handler)
        self.scheme = "https" if tls else "http"
        if tls is not None:
            # The handshake runs in each request's thread, so that a client that refuses us cannot stop the server.
            self.socket = tls.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)
        self.content = content
        self.bytes_per_s = bytes_per_s
        self.fault: Callable[[int, int, int], str | None] = lambda number, start, stop: None
        self.sent_bytes = 0
        self.requests: list[tuple[int, int]] = []
        self.headers: list[dict[str, str]] = []
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        host = "[::1]" if self.address_family == socket.AF_INET6 else "127.0.0.1"
        return f"{self.scheme}://{host}:{self.server_address[1]}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that hang up are the point of many tests."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: RangeServer

    def log_message(self, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        server, content = self.server, self.server.content
        size = len(content)
        text = self.headers.get("Range", "")
        start, stop = 0, size
        if text.startswith("bytes="):
            first, _, last = text[6:].partition("-")
            start, stop = int(first), (min(int(last) + 1, size) if last else size)
        with server.lock:
            number = len(server.requests)
            server.requests.append((start, stop))
            server.headers.append(dict(self.headers.items()))
        fault = server.fault(number, start, stop)
        name, _, argument = (fault or "").partition(":")
        body = content[start:stop]
        if name == "status":
            self._answer(int(argument), b"no", {})
        elif name == "retry":
            self._answer(429, b"slow down", {"Retry-After": argument})
        elif name == "html":
            self._answer(200, b"<html>log in</html>", {"Content-Type": "text/html"})
        elif name == "gzip":
            self._partial(body, start, stop, size, {"Content-Encoding": "gzip"})
        elif name == "shifted":
            self._partial(body, start + 1, stop + 1, size)
        elif name == "other-size":
            self._partial(body, start, stop, size + 1)
        elif name == "whole":
            self._answer(200, content, {})
        elif name == "flip":
            self._partial(bytes([body[0] ^ 1]) + body[1:], start, stop, size)
        elif name == "cut":
            self._partial(body, start, stop, size, most=int(argument))
        elif name == "stall":
            self._partial(body, start, stop, size, most=int(argument), stall=True)
        elif name == "slow":
            self._partial(body, start, stop, size, bytes_per_s=int(argument))
        else:
            self._partial(body, start, stop, size)

    def _answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for key, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(key, value)
        self.end_headers()
        self._send(body, self.server.bytes_per_s)

    def _partial(
        self,
        body: bytes,
        start: int,
        stop: int,
        size: int,
        headers: dict[str, str] | None = None,
        *,
        most: int | None = None,
        stall: bool = False,
        bytes_per_s: int | None = None,
    ) -> None:
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{size}")
        self.send_header("Content-Length", str(len(body)))
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        self.end_headers()
        self._send(body if most is None else body[:most], bytes_per_s or self.server.bytes_per_s)
        if stall:
            time.sleep(30)
        if most is not None:
            self.close_connection = True
            self.connection.close()

    def _send(self, body: bytes, bytes_per_s: int | None) -> None:
        view = memoryview(body)
        step = 65536 if bytes_per_s is None else max(1024, bytes_per_s // 50)
        while view:
            self.wfile.write(view[:step])
            with self.server.lock:
                self.server.sent_bytes += len(view[:step])
            if bytes_per_s is not None:
                time.sleep(len(view[:step]) / bytes_per_s)
            view = view[step:]


@contextlib.contextmanager
def serve_ranges(
    content: bytes, *, bytes_per_s: int | None = None, tls: ssl.SSLContext | None = None, ipv6: bool = False
) -> Iterator[RangeServer]:
    """A running server, gone at the end of the block."""
    server = RangeServer(content, bytes_per_s=bytes_per_s, tls=tls, ipv6=ipv6)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
