"""How well an endpoint plays the Hub: what `provision doctor --network` says of a mirror before gigabytes depend on it."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from provision.errors import ProvisionError, TransferError
from provision.hub.http import Asker
from provision.hub.listing import list_in
from provision.hub.origins import origin_of, same_origin
from provision.hub.resolve import resolve_in
from provision.hub.tokens import auth_headers, token_for
from provision.hub.types import Listing, Resolved
from provision.models.refs import parse_ref
from provision.models.types import RepoFile, RepoRef
from provision.settings import Settings

# Small, public, by the authors of llama.cpp, and its weights lie in LFS as those of every model do.
SAMPLE = parse_ref("ggml-org/tinygemma3-GGUF")
_SAMPLE_BYTES = 4 * 1024 * 1024
_RANGE_START = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointReport:
    """What one endpoint can do. None means it was not found out, and `problems` says why."""

    endpoint: str
    """Its origin."""
    reachable: bool
    speaks_api: bool | None = None
    """It names commits and lists trees."""
    latency_s: float | None = None
    """From asking for the commit to having it, connection and TLS included."""
    lfs_sha256: bool | None = None
    """The listing promises hashes, without which a download cannot be verified."""
    commit_header: bool | None = None
    """X-Repo-Commit, without which the official client gives up (huggingface_hub#1796)."""
    ranges: bool | None = None
    """Byte ranges are served exactly, without which there is one connection and no resuming."""
    data_origin: str | None = None
    """Where the bytes come from."""
    leaves_origin: bool | None = None
    """The bytes come from another origin: of a mirror this may mean that only the listing is mirrored."""
    bytes_per_s: float | None = None
    """Of one connection over at most 4 MiB."""
    gets_token: bool = False
    problems: tuple[str, ...] = ()

    def to_data(self) -> dict[str, Any]:
        """Plain JSON data, keys as the fields are named."""
        return {**dataclasses.asdict(self), "problems": list(self.problems)}


def probe_endpoint(url: str, *, settings: Settings, sample: RepoRef = SAMPLE) -> EndpointReport:
    """Ask `url` for the listing of `sample` and for a piece of its smallest LFS file. Never raises for what the server does.

    Takes at most about a minute, and downloads at most 4 MiB. Raises UsageError when `url` is no address.
    """
    base = url.strip().rstrip("/")
    report = EndpointReport(endpoint=origin_of(base), reachable=False, gets_token=token_for(base, settings) is not None)
    online = dataclasses.replace(settings, offline=False)
    with Asker(online, tries=1) as asker:
        began = time.monotonic()
        try:
            asker.ask(f"{base}/api/models/{sample.repo_id}/revision/main", headers_for=lambda one: auth_headers(one, online))
        except TransferError as error:
            return dataclasses.replace(report, problems=(error.message,))
        report = dataclasses.replace(report, reachable=True, latency_s=time.monotonic() - began)
        try:
            listing = list_in(asker, sample, settings=online, base=base)
        except ProvisionError as error:
            return dataclasses.replace(report, speaks_api=False, problems=(error.message,))
        report = dataclasses.replace(report, speaks_api=True)
        return _with_file(report, asker, listing, online)


def _with_file(report: EndpointReport, asker: Asker, listing: Listing, settings: Settings) -> EndpointReport:
    large = [file for file in listing.files if file.path.lower().endswith(".gguf") and (file.size_bytes or 0) > _RANGE_START]
    hashed = [file for file in large if file.sha256 is not None]
    if not large:
        return dataclasses.replace(report, problems=(f"{listing.repo_id} holds no GGUF file here, so no download was tried",))
    problems = [] if hashed else ["its listing promises no sha256, so a download from it cannot be verified"]
    file = min(hashed or large, key=lambda one: one.size_bytes or 0)
    report = dataclasses.replace(report, lfs_sha256=bool(hashed))
    try:
        resolved = resolve_in(asker, listing, file, settings=settings)
    except ProvisionError as error:
        return dataclasses.replace(report, problems=(*problems, error.message))
    if resolved.commit is None:
        problems.append("it leaves out X-Repo-Commit, so the official client refuses it")
    found: dict[str, Any] = {
        "commit_header": resolved.commit is not None,
        "data_origin": resolved.origin,
        "leaves_origin": not same_origin(resolved.url, listing.endpoint),
    }
    try:
        found |= _piece(asker, file, resolved)
    except ProvisionError as error:
        problems.append(error.message)
    if found.get("ranges") is False:
        problems.append("it ignores byte ranges: one connection at a time, and no resuming")
    return dataclasses.replace(report, **found, problems=tuple(problems))


def _piece(asker: Asker, file: RepoFile, resolved: Resolved) -> Mapping[str, Any]:
    stop = min(_RANGE_START + _SAMPLE_BYTES, resolved.size_bytes)
    wanted = {**resolved.headers, "Range": f"bytes={_RANGE_START}-{stop - 1}"}
    began = time.monotonic()
    answer = asker.ask(resolved.url, headers_for=lambda _: wanted, follow="none", at_most=stop - _RANGE_START)
    elapsed_s = max(time.monotonic() - began, 1e-6)
    if answer.status not in (200, 206):
        raise TransferError(f"{origin_of(resolved.url)} answered HTTP {answer.status} for {file.path}", code="hub-down")
    exact = f"bytes {_RANGE_START}-{stop - 1}/{resolved.size_bytes}"
    ranges = answer.status == 206 and answer.headers.get("content-range") == exact and len(answer.body) == stop - _RANGE_START
    return {"ranges": ranges, "bytes_per_s": len(answer.body) / elapsed_s}
