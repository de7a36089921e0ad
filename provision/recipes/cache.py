"""What lies in the caches: whose it is, who needs it, and whether its bytes are still right.

The Hugging Face cache is shared with other programs. We read all of it; what may be removed is decided in `cache_clearing`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from threading import Lock

from provision.events import Progress, ProgressEnded, Reporter
from provision.fetch.placed import placed
from provision.recipes.cache_places import Entry, everything
from provision.recipes.uses import Use, uses
from provision.settings import Settings
from provision.units import MIB

_CHUNK = MIB
_HASHERS = 4


def list_cache(settings: Settings) -> tuple[Entry, ...]:
    """Everything in the Hugging Face cache's model folders and in our own home, largest first."""
    known = uses(settings)
    ours = placed(settings)
    entries = [
        replace(entry, ours=entry.ours or (entry.sha256, str(entry.path)) in ours, referred_by=_referrers(entry, known))
        for entry in everything(settings)
    ]
    return tuple(sorted(entries, key=lambda entry: (-entry.size_bytes, entry.name)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """One file that was hashed. `found` is None when it could not be read."""

    entry: Entry
    found: str | None

    @property
    def right(self) -> bool:
        return self.found == self.entry.sha256


def verify_cache(entries: Iterable[Entry], *, reporter: Reporter) -> tuple[Verified, ...]:
    """Hash every file with a promised sha256, several at a time, asking nobody. What went away meanwhile is left out."""
    wanted = [entry for entry in entries if entry.sha256 is not None and entry.path.is_file()]
    total = sum(entry.size_bytes for entry in wanted)
    gauge = _Gauge(reporter=reporter, total=total)
    with ThreadPoolExecutor(max_workers=_HASHERS) as pool:
        results = tuple(pool.map(lambda entry: Verified(entry=entry, found=_hash(entry, gauge)), wanted))
    reporter(ProgressEnded(task="verify"))
    return tuple(result for result in results if result.found is not None or result.entry.path.exists())


class _Gauge:
    """Adds up what several threads hashed."""

    def __init__(self, *, reporter: Reporter, total: int) -> None:
        self._reporter = reporter
        self._total = total
        self._done = 0
        self._lock = Lock()

    def add(self, count: int, label: str) -> None:
        with self._lock:
            self._done += count
            event = Progress(task="verify", label=label, done=self._done, total=self._total, unit="bytes")
            self._reporter(event)


def _hash(entry: Entry, gauge: _Gauge) -> str | None:
    digest = hashlib.sha256()
    try:
        with entry.path.open("rb") as stream:
            while chunk := stream.read(_CHUNK):
                digest.update(chunk)
                gauge.add(len(chunk), entry.name)
    except OSError:
        return None
    return digest.hexdigest()


def _referrers(entry: Entry, known: Sequence[Use]) -> tuple[str, ...]:
    if entry.sha256 is None:
        return ()
    return tuple(f"{use.kind} {use.who}" for use in known if entry.sha256 in use.sha256)
