"""Does a hub do what a download needs: answer, list with hashes, serve ranges; how far it is and how fast.

Asked only by `provision doctor --network`. One small repository is listed and at most a few MiB of one file are read.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

from provision.errors import ProvisionError
from provision.hub.http import Asker
from provision.hub.listing import list_repo
from provision.hub.origins import origin_of, same_origin
from provision.hub.resolve import resolve
from provision.hub.types import Source
from provision.models.refs import parse_ref
from provision.models.types import RepoFile
from provision.settings import Settings

PROBE_REPO = "Qwen/Qwen3-0.6B-GGUF"
"""Public on the Hub, its mirrors and ModelScope; one of the models people start with."""
_SAMPLE_BYTES = 4 * 1024 * 1024
_LEAST_TIME_S = 0.001


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointReport:
    """What one endpoint did. `problem` says why the rest is unknown; each None was not found out."""

    endpoint: str
    source: Source
    problem: str | None = None
    hint: str = ""
    latency_s: float | None = None
    hashes: bool | None = None
    """The listing promises the sha256 of its large files."""
    ranges: bool | None = None
    """A range was answered with 206 and exactly that range."""
    served_from: str | None = None
    """The origin the bytes come from, when it is another one."""
    bytes_per_s: float | None = None
    """Of one connection, over a few MiB; with several connections it is usually more."""

    def to_data(self) -> dict[str, object]:
        return {name: getattr(self, name) for name in self.__slots__}


def endpoints_of(settings: Settings) -> tuple[tuple[str, Source], ...]:
    """The configured Hub or mirror, and ModelScope, which `--source modelscope` would ask."""
    from provision.hub import modelscope

    return ((settings.endpoint, "hf"), (modelscope.default_endpoint(settings), "modelscope"))


def check_endpoint(endpoint: str, source: Source, *, settings: Settings, repo: str = PROBE_REPO) -> EndpointReport:
    """Ask one endpoint everything. Never raises for what it does; a few seconds, longer when it is slow or silent."""
    shown = origin_of(endpoint) if "://" in endpoint else endpoint
    try:
        return _check(endpoint, source, settings=settings, repo=repo)
    except ProvisionError as error:
        return EndpointReport(endpoint=shown, source=source, problem=error.message, hint=error.hint)


def _check(endpoint: str, source: Source, *, settings: Settings, repo: str) -> EndpointReport:
    started = time.monotonic()
    listing = list_repo(parse_ref(repo), settings=settings, endpoint=endpoint, source=source)
    latency_s = time.monotonic() - started
    shown = origin_of(listing.endpoint)
    large = [file for file in listing.files if file.sha256 is not None]
    if not large:
        return EndpointReport(
            endpoint=shown,
            source=source,
            latency_s=latency_s,
            hashes=False,
            problem=f"{shown} lists {repo} without any sha256, so nothing from it can be verified",
            hint="use another mirror: export HF_ENDPOINT=https://huggingface.co",
        )
    file = min(large, key=lambda one: (one.size_bytes or 0) < _SAMPLE_BYTES)
    resolved = resolve(listing, file, settings=settings)
    with Asker(settings, tries=1) as asker:
        ranges, speed = _sample(asker, resolved.url, resolved.headers, file)
    return EndpointReport(
        endpoint=shown,
        source=source,
        latency_s=latency_s,
        hashes=True,
        ranges=ranges,
        served_from=None if same_origin(resolved.url, shown) else resolved.origin,
        bytes_per_s=speed,
    )


def _sample(asker: Asker, url: str, headers: Mapping[str, str], file: RepoFile) -> tuple[bool, float | None]:
    """Whether a range is served as asked, and then how fast a few MiB come."""
    size = file.size_bytes or _SAMPLE_BYTES
    first = asker.ask(url, headers_for=lambda _: {**headers, "Range": "bytes=0-0"}, at_most=0)
    # Without ranges the next question would be answered with the whole file.
    if first.status != 206 or not first.headers.get("content-range", "").startswith("bytes 0-0/"):
        return False, None
    last = min(size, _SAMPLE_BYTES) - 1
    started = time.monotonic()
    answer = asker.ask(url, headers_for=lambda _: {**headers, "Range": f"bytes=0-{last}"})
    elapsed = max(time.monotonic() - started, _LEAST_TIME_S)
    if answer.status != 206 or len(answer.body) != last + 1:
        return False, None
    return True, len(answer.body) / elapsed
