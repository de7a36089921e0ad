"""An HTTP proxy (CONNECT and absolute URIs) and a SOCKS 5 proxy on loopback, which remember what went through them."""

from __future__ import annotations

import contextlib
import select
import socket
import socketserver
import ssl
import struct
import threading
from collections.abc import Iterator
from typing import Any


class _Proxy(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 128

    def __init__(self, handler: type[socketserver.StreamRequestHandler]) -> None:
        super().__init__(("127.0.0.1", 0), handler)
        self.seen: list[str] = []
        self.logins: list[str] = []

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass


class _HttpHandler(socketserver.StreamRequestHandler):
    server: _Proxy

    def handle(self) -> None:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            line = self.rfile.readline()
            if not line:
                return
            head += line
        request, *lines = head.decode("latin-1").split("\r\n")
        method, target, _ = request.split(" ")
        self.server.seen.append(f"{method} {target}")
        self.server.logins += [line.partition(": ")[2] for line in lines if line.lower().startswith("proxy-authorization:")]
        if method == "CONNECT":
            host, _, port = target.rpartition(":")
            upstream = socket.create_connection((host.strip("[]"), int(port)))
            self.wfile.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        else:
            host_port, _, path = target.removeprefix("http://").partition("/")
            host, _, port = host_port.rpartition(":")
            upstream = socket.create_connection((host, int(port)))
            upstream.sendall(head.replace(target.encode(), b"/" + path.encode(), 1))
        _pump(self.connection, upstream)


class _SocksHandler(socketserver.StreamRequestHandler):
    server: _Proxy

    def handle(self) -> None:
        _, count = self.rfile.read(2)
        methods = self.rfile.read(count)
        if 2 in methods:
            self.wfile.write(b"\x05\x02")
            self.rfile.read(1)
            user = self.rfile.read(self.rfile.read(1)[0]).decode()
            word = self.rfile.read(self.rfile.read(1)[0]).decode()
            self.server.logins.append(f"{user}:{word}")
            self.wfile.write(b"\x01\x00")
        else:
            self.wfile.write(b"\x05\x00")
        kind = self.rfile.read(4)[3]
        host = (
            socket.inet_ntoa(self.rfile.read(4))
            if kind == 1
            else socket.inet_ntop(socket.AF_INET6, self.rfile.read(16))
            if kind == 4
            else self.rfile.read(self.rfile.read(1)[0]).decode()
        )
        (port,) = struct.unpack(">H", self.rfile.read(2))
        self.server.seen.append(f"{host}:{port}")
        try:
            upstream = socket.create_connection((host, port))
        except OSError:
            self.wfile.write(b"\x05\x05\x00\x01" + bytes(6))
            return
        self.wfile.write(b"\x05\x00\x00\x01" + bytes(6))
        _pump(self.connection, upstream)


def _pump(one: socket.socket, two: socket.socket) -> None:
    """Both ways in one thread, for a TLS connection must not be read and written at once."""
    other = {one: two, two: one}
    with contextlib.suppress(OSError), two:
        while True:
            waiting = [end for end in other if isinstance(end, ssl.SSLSocket) and end.pending()]
            for source in waiting or select.select(list(other), [], [])[0]:
                data = source.recv(65536)
                if not data:
                    return
                other[source].sendall(data)


@contextlib.contextmanager
def http_proxy(*, tls: ssl.SSLContext | None = None) -> Iterator[_Proxy]:
    """With `tls`, one that is itself reached by https."""
    with _running(_Proxy(_HttpHandler)) as proxy:
        if tls is not None:
            proxy.socket = tls.wrap_socket(proxy.socket, server_side=True, do_handshake_on_connect=False)
        yield proxy


@contextlib.contextmanager
def socks_proxy() -> Iterator[_Proxy]:
    with _running(_Proxy(_SocksHandler)) as proxy:
        yield proxy


@contextlib.contextmanager
def _running(proxy: _Proxy) -> Iterator[_Proxy]:
    thread = threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        proxy.shutdown()
        proxy.server_close()
        thread.join()
