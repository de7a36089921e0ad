"""SOCKS 5 over an open socket (RFC 1928, RFC 1929): the few bytes that ask a proxy to connect for us. Names resolve there."""

from __future__ import annotations

import contextlib
import ipaddress
import struct

from provision.fetch.tls import Stream

_REPLIES = {
    1: "general failure",
    2: "not allowed by its rules",
    3: "network unreachable",
    4: "host unreachable",
    5: "connection refused",
    6: "time to live expired",
    7: "command not supported",
    8: "address type not supported",
}


def connect_through_socks(
    sock: Stream, host: str, port: int, *, username: str | None = None, password: str | None = None
) -> None:
    """Turn `sock` (connected to the proxy) into a connection to `host`:`port`. Raises OSError with the proxy's reason."""
    methods = b"\x00\x02" if username is not None else b"\x00"
    sock.sendall(b"\x05" + bytes([len(methods)]) + methods)
    version, method = _exactly(sock, 2)
    if version != 5 or method not in methods:
        raise OSError("the SOCKS proxy accepts none of our ways to log in")
    if method == 2:
        user, word = (username or "").encode(), (password or "").encode()
        sock.sendall(b"\x01" + bytes([len(user)]) + user + bytes([len(word)]) + word)
        if _exactly(sock, 2)[1] != 0:
            raise OSError("the SOCKS proxy refused the user name or password")
    sock.sendall(b"\x05\x01\x00" + _address(host) + struct.pack(">H", port))
    _, reply, _, kind = _exactly(sock, 4)
    if reply != 0:
        raise OSError(f"the SOCKS proxy could not connect: {_REPLIES.get(reply, f'reply {reply}')}")
    length = {1: 4, 4: 16}.get(kind) or _exactly(sock, 1)[0]
    _exactly(sock, length + 2)


def _address(host: str) -> bytes:
    with contextlib.suppress(ValueError):
        address = ipaddress.ip_address(host)
        return (b"\x01" if address.version == 4 else b"\x04") + address.packed
    name = host.encode("idna")
    return b"\x03" + bytes([len(name)]) + name


def _exactly(sock: Stream, count: int) -> bytes:
    data = b""
    while len(data) < count:
        chunk = sock.recv(count - len(data))
        if not chunk:
            raise OSError("the SOCKS proxy closed the connection")
        data += chunk
    return data
