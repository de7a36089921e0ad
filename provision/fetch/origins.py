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
from provision.hub.types import Source
from provision.models.types import RepoFile

_PLACE = Path(".cache", "provision", "origins")


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
