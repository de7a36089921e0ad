"""What lies in the caches: whose it is, who needs it, whether its bytes are still right, and what may go.

The Hugging Face cache is shared with other programs. We read all of it and remove only what we placed and nothing refers to.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock
from typing import Any, Literal

from provision.events import Progress, ProgressEnded, Reporter
from provision.fetch.placed import forget_placed, placed
from provision.recipes.uses import Use, uses
from provision.settings import Settings
from provision.units import MIB

Kind = Literal["model", "wheel", "toolkit", "partial"]
_SHA256 = re.compile(r"[0-9a-f]{64}")
_CHUNK = MIB
_HASHERS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One thing in a cache. `sha256` is what its name or record promises; None when nothing does."""

    kind: Kind
    name: str
    path: Path
    size_bytes: int
    last_used_s: float
    """Seconds since the epoch, by access or change time, whichever is later."""
    sha256: str | None = None
    ours: bool = False
    referred_by: tuple[str, ...] = ()
    pointers: tuple[Path, ...] = ()
    """Snapshot links that lead here."""

    def to_data(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "name": self.name,
            "path": str(self.path),
            "size_bytes": self.size_bytes,
            "last_used_s": round(self.last_used_s),
            "sha256": self.sha256,
            "placed_by_provision": self.ours,
            "referred_by": list(self.referred_by),
        }


def list_cache(settings: Settings) -> tuple[Entry, ...]:
    """Everything in the Hugging Face cache's model folders and in our own home, largest first."""
    known = uses(settings)
    ours = placed(settings)
    found = [*_models(settings.hf_hub_cache), *_own_models(settings), *_wheels(settings), *_toolkits(settings)]
    entries = [replace(entry, ours=entry.ours or entry.sha256 in ours, referred_by=_referrers(entry, known)) for entry in found]
    return tuple(sorted(entries, key=lambda entry: (-entry.size_bytes, entry.name)))


def removable(entries: Iterable[Entry]) -> tuple[Entry, ...]:
    """What `gc` would remove: placed by us, and neither a lock nor a deployment refers to it."""
    return tuple(entry for entry in entries if entry.ours and not entry.referred_by)


def remove(entries: Sequence[Entry], *, settings: Settings) -> int:
    """Remove them and their pointers; returns the bytes freed. A pointer goes before its bytes, so that none leads nowhere."""
    freed = 0
    for entry in entries:
        for pointer in entry.pointers:
            pointer.unlink(missing_ok=True)
            _drop_empty(pointer.parent, stop=entry.path.parent.parent)
        if entry.path.is_dir() and not entry.path.is_symlink():
            shutil.rmtree(entry.path)
        else:
            entry.path.unlink(missing_ok=True)
            _drop_empty(entry.path.parent, stop=settings.provision_home)
        if entry.sha256:
            forget_placed(settings, entry.sha256)
        freed += entry.size_bytes
    return freed


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """One file that was hashed. `found` is None when it could not be read."""

    entry: Entry
    found: str | None

    @property
    def right(self) -> bool:
        return self.found == self.entry.sha256


def verify_cache(entries: Iterable[Entry], *, reporter: Reporter) -> tuple[Verified, ...]:
    """Hash every file with a promised sha256, several at a time, asking nobody."""
    wanted = [entry for entry in entries if entry.sha256 is not None and entry.path.is_file()]
    total = sum(entry.size_bytes for entry in wanted)
    gauge = _Gauge(reporter=reporter, total=total)
    with ThreadPoolExecutor(max_workers=_HASHERS) as pool:
        results = tuple(pool.map(lambda entry: Verified(entry=entry, found=_hash(entry, gauge)), wanted))
    reporter(ProgressEnded(task="verify"))
    return results


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


def _models(hub_cache: Path) -> Iterable[Entry]:
    for folder in _folders(hub_cache, "models--*--*"):
        repo = folder.name.removeprefix("models--").replace("--", "/", 1)
        names, pointers = _pointers(folder)
        for blob in _files(folder / "blobs"):
            partial = blob.name.endswith(".incomplete")
            digest = blob.name if _SHA256.fullmatch(blob.name) else None
            label = names.get(blob.name, blob.name[:12])
            yield Entry(
                kind="partial" if partial else "model",
                name=f"{repo}: {label}",
                path=blob,
                sha256=digest,
                # Our partials carry our name; other programs' are theirs to clean up.
                ours=partial and ".provision" in blob.name,
                pointers=tuple(pointers.get(blob.name, ())),
                **_size_and_use(blob),
            )


def _pointers(folder: Path) -> tuple[dict[str, str], dict[str, list[Path]]]:
    """Blob name to file name, and blob name to the links that lead to it."""
    names: dict[str, str] = {}
    pointers: dict[str, list[Path]] = {}
    for commit in _folders(folder / "snapshots", "*"):
        for path in commit.rglob("*"):
            if path.is_symlink():
                blob = os.readlink(path).rsplit("/", 1)[-1]
                names.setdefault(blob, path.relative_to(commit).as_posix())
                pointers.setdefault(blob, []).append(path)
    return names, pointers


def _own_models(settings: Settings) -> Iterable[Entry]:
    for folder in _folders(settings.provision_home / "models", "*"):
        for path in _files(folder):
            digest = folder.name if _SHA256.fullmatch(folder.name) else None
            yield Entry(kind="model", name=path.name, path=path, sha256=digest, ours=True, **_size_and_use(path))


def _wheels(settings: Settings) -> Iterable[Entry]:
    for path in sorted((settings.provision_home / "wheels").rglob("*.whl")):
        if path.is_file():
            digest = None
            with contextlib.suppress(OSError), path.open("rb") as stream:
                digest = hashlib.file_digest(stream, "sha256").hexdigest()
            yield Entry(kind="wheel", name=path.name, path=path, sha256=digest, ours=True, **_size_and_use(path))


def _toolkits(settings: Settings) -> Iterable[Entry]:
    for folder in _folders(settings.provision_home / "toolkits", "*"):
        sizes = [_size_and_use(path) for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
        yield Entry(
            kind="toolkit",
            name=folder.name,
            path=folder,
            size_bytes=sum(int(size["size_bytes"]) for size in sizes),
            last_used_s=max((float(size["last_used_s"]) for size in sizes), default=folder.stat().st_mtime),
            ours=True,
        )


def _referrers(entry: Entry, known: Sequence[Use]) -> tuple[str, ...]:
    if entry.sha256 is None:
        return ()
    return tuple(f"{use.kind} {use.who}" for use in known if entry.sha256 in use.sha256)


def _size_and_use(path: Path) -> dict[str, Any]:
    stat = path.stat()
    return {"size_bytes": stat.st_size, "last_used_s": max(stat.st_atime, stat.st_mtime)}


def _folders(parent: Path, pattern: str) -> list[Path]:
    return sorted(path for path in parent.glob(pattern) if path.is_dir() and not path.is_symlink())


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*") if path.is_file() and not path.is_symlink())


def _drop_empty(folder: Path, *, stop: Path) -> None:
    while folder != stop and stop in folder.parents:
        try:
            folder.rmdir()
        except OSError:
            return
        folder = folder.parent
