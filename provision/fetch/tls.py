"""TLS over any open connection, read in bulk: one system call for many records, where SSLSocket needs two for each.

That costs less CPU time per byte (docs/decisions/0007-data-plane.md), and it works inside another TLS connection, which
SSLSocket does not: the way to an https server through an https proxy.
"""

from __future__ import annotations

import contextlib
import io
import os
import socket
import ssl
import sys
from typing import cast

from provision.fetch.turns import Turns

_CIPHERTEXT_BYTES = 128 * 1024


class TlsSocket:
    """A client's end of TLS, as far as `http.client` and we use sockets. One thread reads; `shutdown` may come from any."""

    def __init__(self, sock: Stream, context: ssl.SSLContext, *, host: str, turns: Turns) -> None:
        """Shakes hands. Raises ssl.SSLCertVerificationError, another ssl.SSLError, or OSError."""
        self._sock = sock
        self._turns = turns
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=host)
        self._ciphertext = memoryview(bytearray(_CIPHERTEXT_BYTES))
        self._readers = 0
        self._closed = False
        self._shake_hands()

    def sendall(self, data: bytes) -> None:
        self._tls.write(data)
        self._flush()

    def recv_into(self, view: memoryview) -> int:
        """What has arrived, at most `len(view)` bytes; waits only when that is nothing. 0 at the end, however it came."""
        while len(view):
            with self._turns:
                got, ended = self._decrypt(view)
            if got or ended:
                return got
            self._receive()
        return 0

    def recv(self, count: int) -> bytes:
        data = bytearray(count)
        return bytes(data[: self.recv_into(memoryview(data))])

    def makefile(self, mode: str) -> io.BufferedReader:
        """For http.client, which may close the socket before it has read the answer to its end."""
        assert mode == "rb"
        self._readers += 1
        return io.BufferedReader(_Reader(self))

    def settimeout(self, timeout_s: float | None) -> None:
        self._sock.settimeout(timeout_s)

    def shutdown(self, how: int) -> None:
        self._sock.shutdown(how)

    def close(self) -> None:
        self._closed = True
        self.release(0)

    def release(self, readers: int) -> None:
        """`readers` files of `makefile` are closed; the connection ends with the last of them and ours."""
        self._readers -= readers
        if self._closed and self._readers <= 0:
            self._sock.close()

    def _shake_hands(self) -> None:
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                self._flush()
                self._receive()
            except ssl.SSLError:
                with contextlib.suppress(OSError):
                    self._flush()  # the alert that tells the server why
                raise
            else:
                self._flush()
                return

    def _decrypt(self, view: memoryview) -> tuple[int, bool]:
        """Fill `view` from what is here, without waiting: how many bytes, and whether the stream ended."""
        got = 0
        while got < len(view):
            try:
                count = cast(int, self._tls.read(len(view) - got, view[got:]))
            except ssl.SSLWantReadError:
                if not self._receive_if_here():
                    return got, False
                continue
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                # An end without close_notify is no more trusted than one with it: lengths are judged above.
                return got, True
            if not count:
                return got, True
            got += count
        return got, False

    def _receive_if_here(self) -> bool:
        if sys.platform == "win32" or not isinstance(self._sock, socket.socket) or self._sock.gettimeout() is None:
            return False
        try:
            # A socket with a time limit never blocks below Python (`socket`, "Timeouts and the connect method"), so this
            # returns at once. Its own recv_into would wait for more until the time limit.
            count = os.readv(self._sock.fileno(), [self._ciphertext])
        except BlockingIOError:
            return False
        self._take(count)
        return True

    def _receive(self) -> None:
        self._take(self._sock.recv_into(self._ciphertext))

    def _take(self, count: int) -> None:
        if count:
            self._incoming.write(self._ciphertext[:count])
        else:
            self._incoming.write_eof()

    def _flush(self) -> None:
        if self._outgoing.pending:
            self._sock.sendall(self._outgoing.read())


Stream = socket.socket | TlsSocket
"""A connection to read from and write to, in the clear or not."""


class _Reader(io.RawIOBase):
    def __init__(self, tls: TlsSocket) -> None:
        self._tls = tls

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        return self._tls.recv_into(memoryview(buffer))

    def close(self) -> None:
        if not self.closed:
            super().close()
            self._tls.release(1)
