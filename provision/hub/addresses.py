"""Whether an address can be asked at all: one judgement for what people type and for what servers send. Pure.

A wrong address of a person is a wrong option; a wrong address that a server names is that server's fault, and another may do
better.
"""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import SplitResult, quote, urljoin, urlsplit, urlunsplit

from provision.errors import TransferError, UsageError
from provision.hub.origins import origin_of, same_origin
from provision.settings import OFFICIAL_ENDPOINT

FINAL_CODES = ("bad-redirect", "insecure-redirect")
"""Where a server sends us will not change by asking again."""
# Printable ASCII that may stand in an address as it is; `%` because most addresses are quoted already.
_KEPT = "!#$%&'()*+,/:;=?@[]~"
_HOST = re.compile(r"[A-Za-z0-9._-]+")


def redirected(url: str, location: str) -> str:
    """Where the server at `url` sends us with `location`, a header as it came (latin-1), spelled so that it can be asked.

    Raises TransferError (`bad-redirect`) for what is no address. A name and password in `url` are kept on its own origin; any
    that the server names are dropped.
    """
    try:
        raw = location.strip().encode("latin-1")
        _refuse_controls(raw)
        # Names of files in raw UTF-8 are common, and what is meant is not in doubt.
        target = urljoin(url, quote(raw, safe=_KEPT))
        parts = _judged(target)
        if not location.strip():
            raise ValueError("it names none")
    except ValueError as error:
        raise TransferError(
            f"{origin_of(url)} redirects to an address that cannot be asked: {error}",
            code="bad-redirect",
            hint="use another mirror: --endpoint URL",
        ) from error
    user, at, _ = urlsplit(url).netloc.rpartition("@")
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{user}{at}{host}" if same_origin(url, target) else host, fragment=""))


def endpoint_of(text: str) -> str:
    """An endpoint as a person names it, without slash at its end, spelled so that it can be asked. Raises UsageError."""
    endpoint = text.strip().rstrip("/")
    try:
        _refuse_controls(endpoint.encode())
        parts = _judged(endpoint)
    except ValueError as error:
        raise bad_endpoint(endpoint) from error
    return urlunsplit(parts._replace(path=quote(parts.path, safe=_KEPT)))


def shown(endpoint: str) -> str:
    """An endpoint for a command that people copy: whose name and password belong there is left to them."""
    return re.sub(r"^([a-z]+://)[^/]*@", r"\1NAME:PASSWORD@", endpoint, flags=re.IGNORECASE)


def bad_endpoint(url: str) -> UsageError:
    """The part of `url` that came from a person, without a password it may hold; most often `https://` is missing."""
    named = re.sub(r"^(https?://)?[^/]*@", r"\1", re.split(r"[?]|/api/|/resolve/", url)[0])
    mended = f"https://{named}" if re.fullmatch(r"[A-Za-z0-9.-]+\.[a-z]{2,}(:\d{1,5})?(/[^\s]*)?", named) else OFFICIAL_ENDPOINT
    return UsageError(
        f"not the address of a hub: {named!r}",
        code="bad-endpoint",
        hint=f"export HF_ENDPOINT={mended}",
    )


def _refuse_controls(raw: bytes) -> None:
    # urllib would leave them out without a word.
    if any(byte < 0x20 or byte == 0x7F for byte in raw):
        raise ValueError("it holds control characters")


def _judged(url: str) -> SplitResult:
    """The parts of an address that can be asked. Raises ValueError, of which UnicodeError is one, in words for people."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https"):
        raise ValueError("only http and https can be asked")
    if parts.port == 0:
        raise ValueError("its port is 0")
    host = parts.hostname or ""
    if ":" in host:
        ipaddress.IPv6Address(host.partition("%")[0])
        return parts
    # Names outside ASCII are people's; each label has at most 63 letters.
    spelled = host.encode("idna").decode("ascii")
    if not _HOST.fullmatch(spelled) or len(spelled) > 253:
        raise ValueError("its host is no name")
    return parts
