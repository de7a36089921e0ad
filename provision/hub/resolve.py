"""From a listed file to the address its bytes come from, asked once per file: ranges then go there, not through the Hub."""

from __future__ import annotations

import calendar
import re
import time
from collections.abc import Mapping
from dataclasses import replace
from urllib.parse import parse_qs, quote, urlsplit

from provision.errors import IntegrityError, TransferError
from provision.events import Reporter, silent
from provision.hub import modelscope
from provision.hub.http import Answer, Asker, HeadersFor, asking, refuse_downgrade
from provision.hub.origins import origin_of
from provision.hub.refusals import refusal
from provision.hub.tokens import auth_headers
from provision.hub.types import Listing, Resolved
from provision.models.types import RepoFile
from provision.settings import Settings

_SHA256 = re.compile(r"[0-9a-f]{64}")
_SHA1 = re.compile(r"[0-9a-f]{40}")
_TOTAL = re.compile(r"bytes (?:\d+-\d+|\*)/(\d+)")
_MAX_HOPS = 6
_SAID = ("x-repo-commit", "x-linked-etag", "x-linked-size", "x-xet-hash")


def resolve(
    listing: Listing, file: RepoFile, *, settings: Settings, reporter: Reporter = silent, asker: Asker | None = None
) -> Resolved:
    """Where `file` is, with size and hash. The token goes to its own origin only, and no origin sees another's headers.

    Raises NotFoundError, AccessError, TransferError, or IntegrityError (`promise-broken`) when this server promises another
    hash or size than the listing does.
    """
    if listing.source == "modelscope":
        url = modelscope.file_url(listing, file)
        headers_for = modelscope.headers_for(settings)
    else:
        revision, path = quote(listing.commit, safe=""), quote(file.path)
        url = f"{listing.endpoint}/{quote(listing.repo_id)}/resolve/{revision}/{path}"

        def headers_for(address: str) -> Mapping[str, str]:
            return auth_headers(address, settings)

    with asking(asker, settings, reporter=reporter) as open_asker:
        answer, said, head_refused = _follow(open_asker, url, headers_for)
    if answer.status not in (200, 206) and answer.redirect is None:
        raise refusal(answer, repo_id=listing.repo_id, settings=settings, revision=listing.revision, path=file.path)
    return replace(_judged(file, answer, said, headers_for=headers_for), said=tuple(sorted(said)), head_refused=head_refused)


def _follow(asker: Asker, url: str, headers_for: HeadersFor) -> tuple[Answer, dict[str, str], bool]:
    """The last answer, what the whole chain said (what was said first counts, for the Hub stands at the beginning), and
    whether HEAD was refused."""
    said: dict[str, str] = {}
    refused = False
    for _ in range(_MAX_HOPS):
        answer = asker.ask(url, method="HEAD", headers_for=headers_for, follow="none", at_most=0)
        if answer.status in (403, 405, 501) and "x-error-code" not in answer.headers:
            # Refused as HEAD, perhaps not as GET: one byte tells as much.
            refused = True
            answer = asker.ask(url, headers_for=_with_first_byte(headers_for), follow="none", at_most=0)
        for name in _SAID:
            if name in answer.headers:
                said.setdefault(name, answer.headers[name])
        if answer.redirect is None or "x-linked-size" in said or "x-linked-etag" in said:
            return answer, said, refused
        refuse_downgrade(url, answer.redirect)
        url = answer.redirect
    raise TransferError(
        f"{origin_of(url)} redirects without end", code="redirect-loop", hint="use another mirror: --endpoint URL"
    )


def _with_first_byte(headers_for: HeadersFor) -> HeadersFor:
    return lambda address: {**headers_for(address), "Range": "bytes=0-0"}


def _judged(file: RepoFile, answer: Answer, said: Mapping[str, str], *, headers_for: HeadersFor) -> Resolved:
    final = answer.redirect or answer.url
    etag = _unquoted(said.get("x-linked-etag") or ("" if answer.redirect else answer.headers.get("etag", "")))
    size_bytes = _size(answer, said)
    linked = "x-linked-etag" in said and _SHA256.fullmatch(etag) is not None
    for what, listed, told in (("sha256", file.sha256, etag if linked else None), ("size", file.size_bytes, size_bytes)):
        if listed is not None and told is not None and listed != told:
            raise IntegrityError(
                f"{origin_of(answer.url)} offers another {file.path} than was listed: {what} {told}, not {listed}",
                code="promise-broken",
                hint="run the same command again; if it stays so, use another mirror: --endpoint URL",
            )
    size = file.size_bytes if size_bytes is None else size_bytes
    if size is None:
        raise TransferError(
            f"{origin_of(answer.url)} does not say how large {file.path} is",
            code="size-unknown",
            hint="use another mirror: --endpoint URL",
        )
    # A Xet hash, and instead of an address an answer that is not the file.
    xet_only = "x-xet-hash" in said and answer.redirect is None and "x-linked-size" in said and _size(answer, {}) != size
    return Resolved(
        url=final,
        size_bytes=size,
        sha256=file.sha256 or (etag if _SHA256.fullmatch(etag) else None),
        git_sha1=file.git_sha1 or (etag if _SHA1.fullmatch(etag) else None),
        commit=said.get("x-repo-commit"),
        headers=dict(headers_for(final)),
        expires_at=expiry_of(final),
        accepts_ranges={"bytes": True, "none": False}.get(answer.headers.get("accept-ranges", "").lower()),
        xet_only=xet_only,
    )


def _size(answer: Answer, said: Mapping[str, str]) -> int | None:
    texts = [said.get("x-linked-size", "")]
    if answer.redirect is None:
        total = _TOTAL.fullmatch(answer.headers.get("content-range", ""))
        texts.append(total.group(1) if total else "")
        if answer.status == 200 and answer.headers.get("content-encoding", "identity") == "identity":
            texts.append(answer.headers.get("content-length", ""))
    return next((int(text) for text in texts if re.fullmatch(r"\d{1,18}", text)), None)


def _unquoted(etag: str) -> str:
    return etag.removeprefix("W/").strip('"').lower()


def expiry_of(url: str) -> float | None:
    """When a signed address dies (S3, CloudFront and Azure spellings), in seconds since the epoch; None if unsaid."""
    query = {name.lower(): values[0] for name, values in parse_qs(urlsplit(url).query).items()}
    try:
        if "x-amz-expires" in query:
            made = calendar.timegm(time.strptime(query["x-amz-date"], "%Y%m%dT%H%M%SZ"))
            return float(made + int(query["x-amz-expires"]))
        if "expires" in query:
            return float(int(query["expires"]))
        if "se" in query:
            return float(calendar.timegm(time.strptime(query["se"], "%Y-%m-%dT%H:%M:%SZ")))
    except (KeyError, ValueError, OverflowError):
        pass
    return None
