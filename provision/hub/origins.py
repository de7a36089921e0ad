"""Origins (scheme, host, port): what may be shown of an address, what counts as the same server, and whom TLS trusts."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from provision.errors import UsageError

_CA_NAMES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
_PORTS = {"http": 80, "https": 443}


def origin_of(url: str) -> str:
    """`https://host[:port]`: what may be shown, without path, query or user. Of what is no address it says just that."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return "(no address)"
    host = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{host}{port}"


def same_origin(one: str, other: str) -> bool:
    """Whether two URLs lie on one origin; the default port may be spelled out."""

    def key(url: str) -> tuple[str, str, int | None]:
        parts = urlsplit(url)
        return parts.scheme.lower(), (parts.hostname or "").lower(), parts.port or _PORTS.get(parts.scheme.lower())

    return key(one) == key(other)


def tls_context(environ: Mapping[str, str]) -> ssl.SSLContext:
    """The system's certificates, or the CA file the environment names; certifi's list when the system has none."""
    named = next((environ[name].strip() for name in _CA_NAMES if environ.get(name, "").strip()), None)
    if named is not None:
        path = Path(named)
        try:
            return ssl.create_default_context(
                cafile=None if path.is_dir() else str(path), capath=str(path) if path.is_dir() else None
            )
        except (OSError, ssl.SSLError) as error:
            raise UsageError(
                f"the CA file {named} cannot be used: {error}",
                code="bad-ca-file",
                hint="unset SSL_CERT_FILE, or name a PEM file",
            ) from error
    context = ssl.create_default_context()
    if not context.cert_store_stats()["x509_ca"] and not environ.get("SSL_CERT_DIR"):
        with contextlib.suppress(ImportError):
            import certifi

            context.load_verify_locations(certifi.where())
    return context
