from __future__ import annotations

import hashlib
import random
from pathlib import Path
from typing import Any, Protocol

import pytest

from provision.events import Event
from provision.fetch.download import download
from provision.fetch.fill import Means
from provision.fetch.layout import cache_home
from provision.fetch.limit import RateLimit
from provision.fetch.sources import Offer
from provision.fetch.store import Attested
from provision.fetch.types import FetchedFile, PlannedFile
from provision.fetch.wire import Dialer
from provision.hub.types import Resolved
from provision.models.types import RepoFile
from tests.support.ranges import RangeServer

COMMIT = "c" * 40


def noise(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


class Getter(Protocol):
    def __call__(self, content: bytes, *servers: RangeServer, **options: Any) -> FetchedFile: ...


@pytest.fixture
def events() -> list[Event]:
    return []


@pytest.fixture
def get(tmp_path: Path, events: list[Event]) -> Getter:
    """Downloads `content`, as promised by its hash, from range servers into a cache below tmp_path."""

    def run(
        content: bytes,
        *servers: RangeServer,
        connections: int | None = 4,
        patience_s: float = 3.0,
        stall_s: float = 1.0,
        limit: int | None = None,
        environ: dict[str, str] | None = None,
        sha256: str | None = None,
    ) -> FetchedFile:
        file = RepoFile(path="model-Q8_0.gguf", size_bytes=len(content), sha256=sha256 or hashlib.sha256(content).hexdigest())
        home = cache_home(tmp_path / "hub", "org/repo", COMMIT, file)
        planned = PlannedFile(file=file, home=home, size_bytes=len(content), action="download", missing_bytes=len(content))
        means = Means(
            dialer=Dialer(environ or {}),
            attested=Attested(tmp_path / "verified"),
            reporter=events.append,
            connections=connections,
            patience_s=patience_s,
            stall_s=stall_s,
            limit=RateLimit(limit) if limit else None,
        )
        offers = [Offer(origin=server.url, resolve=lambda server=server: _resolved(server, file)) for server in servers]
        return download(planned, offers, means)

    return run


def _resolved(server: RangeServer, file: RepoFile) -> Resolved:
    assert file.size_bytes is not None
    return Resolved(url=f"{server.url}/blob", size_bytes=file.size_bytes, sha256=file.sha256)
