"""What a plain folder remembers of its files: repository, commit and hash of each, beside the partials."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from provision.errors import IntegrityError
from provision.fetch.layout import checked_commit, digest_of, safe_parts
from provision.fetch.store import write_text
from provision.hub.types import Listing, Source
from provision.models.types import RepoFile, RepoRef

_PLACE = Path(".cache", "provision", "origins")
_DEFAULTS = ("main", "master")
"""What the Hub and ModelScope call the revision that nobody named."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where one file of a plain folder came from."""

    folder: Path
    repo_id: str
    revision: str
    """As it was asked for."""
    commit: str
    source: Source
    file: RepoFile

    @property
    def local_path(self) -> Path:
        return self.folder.joinpath(*safe_parts(self.file.path))


def remember_origin(origin: Origin) -> None:
    """For `provision verify` and `provision fetch --offline`; losing it loses no file, so no disk makes us fail here."""
    file = origin.file
    told = {
        "repo_id": origin.repo_id,
        "revision": origin.revision,
        "commit": origin.commit,
        "source": origin.source,
        "path": file.path,
        "size_bytes": file.size_bytes,
        "sha256": file.sha256,
        "git_sha1": file.git_sha1,
    }
    name = hashlib.sha256(file.path.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    with contextlib.suppress(OSError):
        write_text(origin.folder / _PLACE / f"{name}.json", json.dumps(told))


def origins_in(folder: Path) -> Iterator[Origin]:
    """Everything `folder` remembers, by path; what is not understood is left out."""
    found = [origin for record in (folder / _PLACE).glob("*.json") if (origin := _read(folder, record)) is not None]
    yield from sorted(found, key=lambda origin: origin.file.path)


def origin_of(path: Path) -> Origin | None:
    """Where the file at `path` came from, if a folder above it remembers."""
    for folder in path.parents:
        for origin in origins_in(folder):
            if origin.local_path == path:
                return origin
    return None


def remembered_listing(folder: Path, ref: RepoRef, *, endpoint: str, prefer: str | None) -> Listing | None:
    """The files of `ref` that are in `folder`, of one commit: `prefer`, else the one fetched last. None when there are none."""
    revisions = (ref.revision,) if ref.revision else _DEFAULTS
    by_commit: dict[str, list[tuple[float, Origin]]] = {}
    for origin in origins_in(folder):
        if origin.repo_id == ref.repo_id and (origin.revision in revisions or origin.commit in revisions):
            with contextlib.suppress(OSError):
                by_commit.setdefault(origin.commit, []).append((origin.local_path.stat().st_mtime, origin))
    if not by_commit:
        return None
    commit = prefer if prefer in by_commit else max(by_commit, key=lambda one: max(at for at, _ in by_commit[one]))
    found = [origin for _, origin in by_commit[commit]]
    return Listing(
        repo_id=ref.repo_id,
        revision=found[0].revision,
        commit=commit,
        files=tuple(origin.file for origin in found),
        endpoint=endpoint,
        source=found[0].source,
        offline=True,
    )


def _read(folder: Path, record: Path) -> Origin | None:
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError, IntegrityError):
        told = json.loads(record.read_text(encoding="utf-8"))
        file = RepoFile(
            path=str(told["path"]), size_bytes=int(told["size_bytes"]), sha256=told["sha256"], git_sha1=told["git_sha1"]
        )
        safe_parts(file.path)
        digest_of(file)
        return Origin(
            folder=folder,
            repo_id=str(told["repo_id"]),
            revision=str(told["revision"]),
            commit=checked_commit(str(told["commit"])),
            source="modelscope" if told["source"] == "modelscope" else "hf",
            file=file,
        )
    return None
