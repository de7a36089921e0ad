"""Does a hub do what a download needs: answer, list with hashes, serve ranges; how far it is and how fast.

Asked only by `provision doctor --network`. One small repository is listed and at most a few MiB of one file are read.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal
from urllib.parse import urlsplit

from provision.errors import ProvisionError
from provision.hub.http import Asker
from provision.hub.listing import list_repo
from provision.hub.origins import origin_of, same_origin
from provision.hub.resolve import resolve
from provision.hub.types import Resolved, Source
from provision.models.refs import parse_ref
from provision.models.types import RepoFile
from provision.settings import Settings

PROBE_REPO = "Qwen/Qwen3-0.6B-GGUF"
"""Public on the Hub, its mirrors and ModelScope; one of the models people start with."""
_SAMPLE_BYTES = 4 * 1024 * 1024
_SAMPLE_S = 300.0
"""A slow line is what the sample is to show."""
_LEAST_TIME_S = 0.001


Lack = Literal["sha256", "ranges", "commit-header", "linked-hash", "head", "identity", "xet-only", "off-origin"]
"""What an endpoint does not do as the Hub does: hashes in its listing, ranges, X-Repo-Commit, X-Linked-ETag, HEAD, bytes
as they are, a plain address besides Xet, bytes from its own origin."""


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
    lacks: tuple[Lack, ...] = ()

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
    file = _sample_file(listing.files)
    if file is None:
        return EndpointReport(
            endpoint=shown,
            source=source,
            latency_s=latency_s,
            problem=f"{shown} lists no model file in {repo}",
            hint="use another mirror: export HF_ENDPOINT=https://huggingface.co",
        )
    resolved = resolve(listing, file, settings=settings)
    report = EndpointReport(
        endpoint=shown,
        source=source,
        latency_s=latency_s,
        hashes=file.sha256 is not None,
        served_from=None if same_origin(resolved.url, shown) else resolved.origin,
    )
    lacks = _lacks(report, resolved)
    if resolved.xet_only:
        return replace(report, lacks=lacks)
    with Asker(settings, tries=1, answer_s=_SAMPLE_S) as asker:
        sample = _sample(asker, resolved)
    ranges = "ranges" not in sample.lacks
    return replace(report, ranges=ranges, bytes_per_s=sample.bytes_per_s, lacks=(*lacks, *sample.lacks))


def _sample_file(files: Sequence[RepoFile]) -> RepoFile | None:
    """A model file, one that fills the sample if there is one; without any hash still the largest."""
    models = [file for file in files if file.path.endswith((".gguf", ".safetensors"))]
    hashed = [file for file in models if file.sha256 is not None]
    return min(hashed or models, key=lambda one: (one.size_bytes or 0) < _SAMPLE_BYTES, default=None)


def _lacks(report: EndpointReport, resolved: Resolved) -> tuple[Lack, ...]:
    """What the listing and the address already show. ModelScope has no commits and never promised those headers."""
    hub = report.source == "hf"
    found: list[tuple[Lack, bool]] = [
        ("sha256", not report.hashes),
        ("commit-header", hub and "x-repo-commit" not in resolved.said),
        ("linked-hash", hub and "x-linked-etag" not in resolved.said),
        ("head", resolved.head_refused),
        ("xet-only", resolved.xet_only),
        ("off-origin", report.served_from is not None and not _one_house(report.endpoint, report.served_from)),
    ]
    return tuple(name for name, lacking in found if lacking)


def _one_house(endpoint: str, served_from: str) -> bool:
    """huggingface.co sends its bytes from storage of its own under other names."""
    host, store = urlsplit(endpoint).hostname or "", urlsplit(served_from).hostname or ""
    return host == "huggingface.co" and store.endswith((".hf.co", ".huggingface.co"))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sample:
    lacks: tuple[Lack, ...] = ()
    bytes_per_s: float | None = None


def _sample(asker: Asker, resolved: Resolved) -> _Sample:
    """Whether a range is served as asked, and then how fast a few MiB come."""
    size = resolved.size_bytes
    first = asker.ask(resolved.url, headers_for=lambda _: {**resolved.headers, "Range": "bytes=0-0"}, at_most=0)
    lacks: tuple[Lack, ...] = ()
    if first.headers.get("content-encoding", "identity").lower() != "identity":
        lacks = ("identity",)
    # Without ranges the next question would be answered with the whole file.
    if first.status != 206 or first.headers.get("content-range", "") not in (f"bytes 0-0/{size}", "bytes 0-0/*"):
        return _Sample(lacks=(*lacks, "ranges"))
    last = min(size, _SAMPLE_BYTES) - 1
    middle = (size - 1) // 2
    tail = asker.ask(resolved.url, headers_for=lambda _: {**resolved.headers, "Range": f"bytes={middle}-{middle}"}, at_most=2)
    started = time.monotonic()
    answer = asker.ask(resolved.url, headers_for=lambda _: {**resolved.headers, "Range": f"bytes=0-{last}"})
    elapsed = max(time.monotonic() - started, _LEAST_TIME_S)
    asked = tail.status == 206 and tail.headers.get("content-range", "").startswith(f"bytes {middle}-{middle}/")
    if not asked or answer.status != 206 or len(answer.body) != last + 1:
        return _Sample(lacks=(*lacks, "ranges"))
    return _Sample(lacks=lacks, bytes_per_s=len(answer.body) / elapsed)
