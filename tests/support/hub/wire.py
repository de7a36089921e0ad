"""HTTP/1.1 on loopback: one thread per connection, bodies by range, and every fault of `faults` carried out."""

from __future__ import annotations

import contextlib
import gzip
import json
import re
import socket
import ssl
import struct
import threading
import time
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar
from urllib.parse import urlsplit

from tests.support.hub.content import Content, Literal
from tests.support.hub.faults import Fault, FaultBook, Kind
from tests.support.hub.log import Request, RequestLog

_BLOCK = 256 * 1024
_RANGE = re.compile(r"bytes=(\d*)-(\d*)")
_LOGIN_PAGE = b"<!DOCTYPE html><html><title>Sign in</title><body>Please accept the terms of this network.</body></html>"


class WireServer(ThreadingHTTPServer):
    """Serves on a free port until `stop`; keeps every open connection so that stopping leaves nothing behind."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(
        self,
        handler: type[Handler],
        *,
        face: str,
        host: str,
        port: int,
        faults: FaultBook,
        log: RequestLog,
        tls: ssl.SSLContext | None,
    ) -> None:
        self.face = face
        self.faults = faults
        self.log = log
        self.throttle_bytes_per_s: float | None = None
        self.latency_s = 0.0
        self.crashes: list[BaseException] = []
        self.connections = 0
        self._tls = tls
        self._open: dict[int, socket.socket] = {}
        self._lock = threading.Lock()
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        super().__init__((host, port), handler)
        shown = f"[{host}]" if ":" in host else host
        self.url = f"{'https' if tls else 'http'}://{shown}:{self.server_address[1]}"
        self._thread = threading.Thread(target=self.serve_forever, args=(0.02,), name=f"hub-{face}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self.shutdown()
        self.drop_connections()
        self.server_close()
        self._thread.join()

    def drop_connections(self) -> None:
        """Every open connection ends now, as when a server is restarted."""
        with self._lock:
            connections = list(self._open.values())
        for connection in connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = super().get_request()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._tls:
            # The handshake happens at the first read, in the thread of the connection.
            connection = self._tls.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        with self._lock:
            self.connections += 1
            self._open[id(connection)] = connection
        return connection, address

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._open.pop(id(request), None)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        import sys

        error = sys.exc_info()[1]
        if error is not None and not isinstance(error, OSError | ValueError):
            self.crashes.append(error)


class Handler(BaseHTTPRequestHandler):
    """One connection. A face implements `route`."""

    protocol_version = "HTTP/1.1"
    timeout = 60
    server: WireServer
    _numbers: ClassVar[Any] = iter(range(1, 1 << 30))

    def setup(self) -> None:
        super().setup()
        self.number = next(Handler._numbers)
        self.slow_bytes_per_s: float | None = None

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        body = b""
        length = int(self.headers.get("Content-Length") or 0)
        if length:
            body = self.rfile.read(length)
        self.body_sent = body
        parts = urlsplit(self.path)
        self.query = parts.query
        where, path = self.name(parts.path)
        self.faults = self.server.faults.take(where=where, path=path, method=self.command)
        self.entry = Request(
            face=self.server.face,
            where=where,
            method=self.command,
            target=self.path,
            headers={name.lower(): value for name, value in self.headers.items()},
            connection=self.number,
            path=path,
            faults=tuple(kind.value for kind in self.faults),
        )
        self.server.log.add(self.entry)
        if not self._faulted():
            self.route(parts.path)

    do_HEAD = do_POST = do_GET

    def name(self, path: str) -> tuple[str, str]:
        """(where, path of the file in its repository) of a URL path, for faults and for the log."""
        raise NotImplementedError

    def route(self, path: str) -> None:
        raise NotImplementedError

    def fault(self, kind: Kind) -> Fault | None:
        return self.faults.get(kind)

    def _faulted(self) -> bool:
        """Carry out the faults that replace the whole answer."""
        time.sleep(self.server.latency_s)
        if action := self.fault(Kind.ACTION):
            assert action.action is not None
            action.action()
        if delay := self.fault(Kind.DELAY):
            time.sleep(delay.seconds)
        if slow := self.fault(Kind.SLOW):
            self.slow_bytes_per_s = slow.value
        if self.fault(Kind.HANG_UP):
            self.hang_up()
        elif drip := self.fault(Kind.DRIP):
            self._drip(drip.seconds)
        elif status := self.fault(Kind.STATUS):
            extra = {}
            if status.seconds:
                seconds = f"{status.seconds:g}"
                extra = {"Retry-After": seconds, "RateLimit": f'"resolvers";r=0;t={seconds}'}
                extra["RateLimit-Policy"] = '"fixed window";"resolvers";q=3000;w=300'
            self.send_json({"error": f"injected {status.value}"}, status=status.value, headers=extra)
        elif self.fault(Kind.HTML):
            self.send_whole(_LOGIN_PAGE, content_type="text/html; charset=utf-8")
        elif self.fault(Kind.BROKEN_JSON):
            self.send_whole(b'[{"type": "file", "pa', content_type="application/json")
        elif redirect := self.fault(Kind.REDIRECT):
            self.send_redirect(redirect.text.replace("{path}", self.path))
        elif self.fault(Kind.HEAD_REFUSED) and self.command == "HEAD":
            self.send_json({"error": "method not allowed"}, status=405, headers={"Allow": "GET"})
        else:
            return False
        return True

    def _drip(self, pause_s: float) -> None:
        self.close_connection = True
        with contextlib.suppress(OSError):
            for letter in b"HTTP/1.1 200 OK\r\nX-Long: " + b"a" * 10_000:
                self.wfile.write(bytes([letter]))
                self.wfile.flush()
                time.sleep(pause_s)

    def hang_up(self, *, reset: bool = False) -> None:
        self.close_connection = True
        with contextlib.suppress(OSError):
            if reset:
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                # Closing the last descriptor with a zero linger time sends RST; rfile and wfile hold the others.
                self.rfile.close()
                self.wfile.close()
                self.connection.close()
            else:
                self.connection.shutdown(socket.SHUT_RDWR)

    def send_head(self, status: int, headers: Mapping[str, str]) -> None:
        self.entry.status = status
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def send_json(self, data: Any, *, status: int = 200, headers: Mapping[str, str] | None = None) -> None:
        self.send_whole(
            json.dumps(data).encode(), status=status, headers=headers, content_type="application/json; charset=utf-8"
        )

    def send_whole(
        self, body: bytes, *, status: int = 200, headers: Mapping[str, str] | None = None, content_type: str = "text/plain"
    ) -> None:
        self.send_head(status, {"Content-Type": content_type, "Content-Length": str(len(body)), **(headers or {})})
        if self.command != "HEAD":
            self.wfile.write(body)
            self.entry.sent_bytes += len(body)

    def send_redirect(self, location: str, *, status: int = 302, headers: Mapping[str, str] | None = None) -> None:
        body = f"Found. Redirecting to {location.partition('?')[0]}".encode()
        self.send_whole(body, status=status, headers={"Location": location, **(headers or {})})

    def send_content(self, content: Content, *, headers: Mapping[str, str]) -> None:
        """The range of `content` that was asked for, or all of it, with the faults of bodies."""
        if grown := self.fault(Kind.GROWN):
            content = Literal(bytes(content.read(0, content.size_bytes)) + b"\0" * grown.at_byte)
        total = content.size_bytes
        asked = None if self.fault(Kind.RANGE_IGNORED) else _RANGE.fullmatch(self.headers.get("Range", ""))
        start, stop = _span(asked, total)
        if start >= stop and asked:
            self.send_head(416, {"Content-Range": f"bytes */{total}", "Content-Length": "0", **headers})
            return
        if self.fault(Kind.GZIP):
            data = gzip.compress(bytes(content.read(0, total)), 1)
            self.send_whole(data, headers={**headers, "Content-Encoding": "gzip"}, content_type="application/octet-stream")
            return
        if other := self.fault(Kind.OTHER_RANGE):
            start, stop = min(start + other.at_byte, total - 1), min(stop + other.at_byte, total)
        shown_total = total + (wrong.at_byte if (wrong := self.fault(Kind.WRONG_TOTAL)) else 0)
        head = {"Content-Type": "application/octet-stream", "Accept-Ranges": "bytes", **headers}
        if asked:
            head["Content-Range"] = f"bytes {start}-{stop - 1}/{shown_total}"
        chunked = self.fault(Kind.CHUNKED) is not None
        if chunked:
            head["Transfer-Encoding"] = "chunked"
        elif self.fault(Kind.NO_LENGTH):
            head["Connection"] = "close"
            self.close_connection = True
        else:
            head["Content-Length"] = str(stop - start)
        self.send_head(206 if asked else 200, head)
        if self.command != "HEAD":
            self._send_body(content, start, stop, chunked=chunked)

    def _send_body(self, content: Content, start: int, stop: int, *, chunked: bool) -> None:
        end_at = next((f.at_byte for kind in (Kind.SHORT_BODY, Kind.RESET) if (f := self.fault(kind))), None)
        stall = self.fault(Kind.STALL)
        flip = self.fault(Kind.FLIPPED_BIT)
        rate = self.slow_bytes_per_s or self.server.throttle_bytes_per_s
        block_bytes = _BLOCK if rate is None else max(1024, min(_BLOCK, int(rate / 50)))
        began, sent, position = time.monotonic(), 0, start
        while position < stop:
            length = min(block_bytes, stop - position)
            if end_at is not None:
                length = min(length, end_at - sent)
            if stall and sent < stall.at_byte:
                length = min(length, stall.at_byte - sent)
            if length <= 0:
                self.hang_up(reset=self.fault(Kind.RESET) is not None)
                return
            if stall and sent == stall.at_byte:
                time.sleep(stall.seconds)
                stall = None
            block = content.read(position, length)
            if flip and position <= flip.at_byte < position + len(block):
                changed = bytearray(block)
                changed[flip.at_byte - position] ^= 1
                block = bytes(changed)
            self.wfile.write(b"%x\r\n%s\r\n" % (len(block), bytes(block)) if chunked else block)
            position += len(block)
            sent += len(block)
            self.entry.sent_bytes = sent
            if rate:
                time.sleep(max(0.0, sent / rate - (time.monotonic() - began)))
        if chunked:
            self.wfile.write(b"0\r\n\r\n")


def _span(asked: re.Match[str] | None, total: int) -> tuple[int, int]:
    if asked is None:
        return 0, total
    first, last = asked.groups()
    if not first:
        return max(0, total - int(last or 0)), total
    return int(first), min(int(last) + 1 if last else total, total)
