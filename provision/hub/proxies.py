"""Which proxy, if any, stands between us and a URL. Pure: the environment is a parameter."""

from __future__ import annotations

import contextlib
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from provision.errors import UsageError

_SCHEMES = {"http": 80, "https": 443, "socks5": 1080, "socks5h": 1080}


@dataclass(frozen=True, slots=True, kw_only=True)
class Proxy:
    """`scheme` is http, https, socks5 or socks5h. The repr names no password."""

    scheme: str
    host: str
    port: int
    username: str | None = None
    password: str | None = None

    def __repr__(self) -> str:
        return f"Proxy({self.scheme}://{self.host}:{self.port})"

    @property
    def is_socks(self) -> bool:
        return self.scheme.startswith("socks")


def proxy_for(url: str, environ: Mapping[str, str]) -> Proxy | None:
    """The proxy for `url` by `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY`; lower-case names win, as in curl."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    port = parts.port or (443 if parts.scheme == "https" else 80)
    if _bypassed(host, port, _value(environ, "no_proxy")):
        return None
    text = _value(environ, f"{parts.scheme}_proxy") or _value(environ, "all_proxy")
    return parse_proxy(text) if text else None


def parse_proxy(text: str) -> Proxy:
    """A proxy URL; a bare `host:port` is an HTTP proxy. Raises UsageError (`bad-proxy`)."""
    parts = urlsplit(text if "://" in text else f"http://{text}")
    scheme = {"socks": "socks5h"}.get(parts.scheme.lower(), parts.scheme.lower())
    port: int | None = None
    with contextlib.suppress(ValueError):
        port = parts.port or _SCHEMES.get(scheme)
    if scheme not in _SCHEMES or not parts.hostname or port is None:
        # The text may hold a password, so it is not repeated.
        raise UsageError(
            "the proxy named in the environment is not usable: http, https, socks5 and socks5h are understood",
            code="bad-proxy",
            hint="env | grep -i _proxy",
        )
    return Proxy(
        scheme=scheme,
        host=parts.hostname,
        port=port,
        username=unquote(parts.username) if parts.username else None,
        password=unquote(parts.password) if parts.password else None,
    )


def _value(environ: Mapping[str, str], name: str) -> str:
    return (environ.get(name) or environ.get(name.upper()) or "").strip()


def _bypassed(host: str, port: int, no_proxy: str) -> bool:
    return any(_matches(host.lower(), port, entry.strip().lower()) for entry in no_proxy.split(",") if entry.strip())


def _matches(host: str, port: int, entry: str) -> bool:
    if entry == "*":
        return True
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host) in ipaddress.ip_network(entry.strip("[]"), strict=False)
    name, colon, entry_port = entry.rpartition(":")
    if colon and entry_port.isdigit() and "]" not in entry_port:
        if int(entry_port) != port:
            return False
        entry = name
    entry = entry.strip("[]").removeprefix("*").lstrip(".")
    return bool(entry) and (host == entry or host.endswith("." + entry))
