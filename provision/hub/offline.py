"""A listing from the Hugging Face cache on disk, without asking anybody.

Layout of huggingface_hub 2.4.0 (file_download.py, _snapshot_download.py): `refs/<revision>` holds the commit,
`snapshots/<commit>/<path>` points at `blobs/<etag>`, and `trees/<commit>.json`, where a 2.x client wrote it, lists everything.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from provision.errors import NotFoundError
from provision.hub.types import Listing
from provision.models.types import RepoFile, RepoRef
from provision.settings import Settings

_COMMIT = re.compile(r"[0-9a-f]{40}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


def repo_folder(repo_id: str, *, settings: Settings) -> Path:
    """Where the cache keeps a model repository."""
    return settings.hf_hub_cache / f"models--{repo_id.replace('/', '--')}"


def cached_listing(ref: RepoRef, *, settings: Settings) -> Listing:
    """What the cache has of `ref`: the files whose bytes are there. Raises NotFoundError (`not-in-cache`)."""
    folder = repo_folder(ref.repo_id, settings=settings)
    revision = ref.revision or "main"
    commit = _cached_commit(folder, revision)
    if commit is None:
        raise NotFoundError(
            f"{ref.repo_id}@{revision} is not in the cache at {settings.hf_hub_cache}, and nobody may be asked offline",
            code="not-in-cache",
            hint=f"HF_HUB_OFFLINE=0 provision fetch {ref.repo_id}",
        )
    known = read_tree(folder, commit)
    files = tuple(known.get(file.path, file) for file in _snapshot_files(folder / "snapshots" / commit))
    return Listing(
        repo_id=ref.repo_id,
        revision=revision,
        commit=commit,
        files=files,
        endpoint=settings.endpoint,
        source="hf",
        offline=True,
    )


def is_cached(ref: RepoRef, *, settings: Settings) -> bool:
    """Whether `cached_listing` would answer."""
    return _cached_commit(repo_folder(ref.repo_id, settings=settings), ref.revision or "main") is not None


def _cached_commit(folder: Path, revision: str) -> str | None:
    commit: str | None = revision if _COMMIT.fullmatch(revision) else None
    if commit is None:
        try:
            text = (folder / "refs" / revision).read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError):
            return None
        commit = text if _COMMIT.fullmatch(text) else None
    return commit if commit and (folder / "snapshots" / commit).is_dir() else None


def _snapshot_files(snapshot: Path) -> Iterator[RepoFile]:
    for base, folders, names in os.walk(snapshot):
        folders.sort()
        for name in sorted(names):
            pointer = Path(base, name)
            try:
                size_bytes = pointer.stat().st_size
                blob = os.path.basename(os.readlink(pointer)) if pointer.is_symlink() else ""
            except OSError:
                continue  # a pointer whose blob was removed
            yield RepoFile(
                path=pointer.relative_to(snapshot).as_posix(),
                size_bytes=size_bytes,
                sha256=blob if _SHA256.fullmatch(blob) else None,
                git_sha1=blob if _COMMIT.fullmatch(blob) else None,
            )


def read_tree(folder: Path, commit: str) -> dict[str, RepoFile]:
    """`trees/<commit>.json`; empty when it is missing or not understood, for it is only ever an addition."""
    try:
        said = json.loads((folder / "trees" / f"{commit}.json").read_text(encoding="utf-8"))
        entries = said["files"] if said["format_version"] == 1 else {}
        return {
            name: RepoFile(
                path=name,
                size_bytes=int(entry.get("lfs_size") or entry["size"]),
                sha256=entry.get("lfs_sha256"),
                git_sha1=None if entry.get("lfs_sha256") else entry.get("blob_id"),
                git_oid=entry.get("blob_id"),
                xet_hash=entry.get("xet_hash"),
            )
            for name, entry in entries.items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def tree_text(files: Iterable[RepoFile]) -> str | None:
    """What `trees/<commit>.json` says of all `files` of a commit, as huggingface_hub 2.4.0 writes it (_tree_cache.py).

    None when a server told less of them than belongs there.
    """
    entries: dict[str, dict[str, object]] = {}
    for file in sorted(files, key=lambda one: one.path):
        if file.size_bytes is None or file.git_oid is None:
            return None
        entries[file.path] = {"size": file.size_bytes, "blob_id": file.git_oid}
        if file.sha256 is not None:
            entries[file.path] |= {"lfs_sha256": file.sha256, "lfs_size": file.size_bytes}
        if file.xet_hash is not None and _SHA256.fullmatch(file.xet_hash):
            entries[file.path]["xet_hash"] = file.xet_hash
    return json.dumps({"format_version": 1, "files": entries}, indent=1)
