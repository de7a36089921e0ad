"""`verify`: the files at rest, hashed again, without a network."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from provision.errors import NotFoundError
from provision.events import Progress, ProgressEnded, Reporter, silent
from provision.fetch.follower import hash_file
from provision.fetch.layout import repo_folder
from provision.fetch.store import Attested
from provision.hub.offline import read_tree
from provision.models import quants
from provision.models.types import RepoFile, RepoRef
from provision.settings import Settings

Status = Literal["ok", "damaged", "missing", "unreadable"]
_DIGEST = re.compile(r"[0-9a-f]{64}|[0-9a-f]{40}")
_REPORT_EVERY_BYTES = 64 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedFile:
    """One file and what its bytes said. `digest` is what it must be: sha256, or git-sha1 for small files."""

    path: str
    local_path: Path
    digest: str
    status: Status
    size_bytes: int | None
    actual: str | None = None

    def to_data(self) -> dict[str, Any]:
        return {
            "path": self.path,
            "local_path": str(self.local_path),
            "digest": self.digest,
            "status": self.status,
            "size_bytes": self.size_bytes,
            "actual": self.actual,
        }


def verify_cached(ref: RepoRef, *, settings: Settings, reporter: Reporter = silent) -> tuple[CheckedFile, ...]:
    """Every cached file of a repository (of the quant or file named) against the hash its blob is named by.

    Raises NotFoundError (`not-cached`) when nothing of it is here.
    """
    folder = repo_folder(settings.hf_hub_cache, ref.repo_id)
    found = _files_of(folder, ref.revision)
    if ref.quant is not None or ref.file is not None:
        sets = quants.group(RepoFile(path=path) for path, _, _ in found)
        model = quants.select(sets, ref.quant, repo_id=ref.repo_id, file=ref.file) if found else None
        wanted = {file.path for file in model.files} if model else set()
        found = [one for one in found if one[0] in wanted]
    if not found:
        raise NotFoundError(
            f"{ref.repo_id} is not in the cache {settings.hf_hub_cache}",
            code="not-cached",
            hint=f"provision fetch {ref.repo_id}",
        )
    return tuple(check_file(path, local, digest=digest, reporter=reporter) for path, local, digest in found)


def verify_cache(*, settings: Settings, reporter: Reporter = silent) -> tuple[CheckedFile, ...]:
    """Every file of every model in the cache; none at all is a valid answer."""
    return tuple(
        check_file(
            f"{folder.name.removeprefix('models--').replace('--', '/')}: {path}", local, digest=digest, reporter=reporter
        )
        for folder in sorted(settings.hf_hub_cache.glob("models--*--*"))
        for path, local, digest in _files_of(folder, None)
    )


def verify_local(path: Path, *, settings: Settings, reporter: Reporter = silent) -> CheckedFile:
    """One file by its path: a snapshot's pointer, a blob, or a file that provision once verified.

    Raises NotFoundError (`no-promise`) when nothing says what its bytes should be.
    """
    for name in (path.name, path.readlink().name if path.is_symlink() else ""):
        if _DIGEST.fullmatch(name):
            return check_file(path.name, path, digest=name, reporter=reporter)
    digest = Attested(settings.provision_home / "verified").digest_of(path)
    if digest is None:
        raise NotFoundError(
            f"nothing is known about what {path} should contain",
            code="no-promise",
            hint="provision fetch ORG/REPO --local-dir DIR",
        )
    return check_file(path.name, path, digest=digest, reporter=reporter)


def check_file(path: str, local: Path, *, digest: str, reporter: Reporter = silent) -> CheckedFile:
    """Hash one file and say whether it is what its name promises."""
    size: int | None = None
    actual: str | None = None
    status: Status
    try:
        size = local.stat().st_size
        actual = _hash(path, local, digest, size, reporter)
        status = "ok" if actual == digest else "damaged"
    except FileNotFoundError:
        status = "missing"
    except OSError:
        status = "unreadable"
    return CheckedFile(path=path, local_path=local, digest=digest, status=status, size_bytes=size, actual=actual)


def _hash(path: str, local: Path, digest: str, size: int, reporter: Reporter) -> str:
    task, done = f"verify:{path}", 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        if done % _REPORT_EVERY_BYTES < count:
            reporter(Progress(task=task, label=path, done=done, total=size, unit="bytes", note="checking"))

    try:
        return hash_file(local, digest, on_bytes=advance)
    finally:
        reporter(ProgressEnded(task=task))


def _files_of(folder: Path, revision: str | None) -> list[tuple[str, Path, str]]:
    """Path in the repository, path on disk, promised hash: of a revision, or of every snapshot; each blob once."""
    found: dict[str, tuple[str, Path, str]] = {}
    for snapshot in _snapshots(folder, revision):
        for pointer, digest in _pointers(snapshot, read_tree(folder, snapshot.name)):
            name = pointer.relative_to(snapshot).as_posix()
            # A link is checked once however many revisions show it; a copy is a file of its own.
            found.setdefault(digest if pointer.is_symlink() else f"{snapshot.name}/{name}", (name, pointer, digest))
    return sorted(found.values())


def _snapshots(folder: Path, revision: str | None) -> list[Path]:
    if revision is None:
        return sorted((folder / "snapshots").glob("*"))
    try:
        commit = (folder / "refs" / revision).read_text(encoding="utf-8").strip()
    except OSError:
        commit = revision
    return [folder / "snapshots" / commit]


def _pointers(snapshot: Path, tree: Mapping[str, RepoFile]) -> Iterator[tuple[Path, str]]:
    """Files of a snapshot with the hash they must have: the name of the blob a symlink leads to, or what `trees/` tells of a
    copy, as there is where symlinks are not possible. Of a copy that nobody described, nothing is known.
    """
    for path in sorted(snapshot.rglob("*")):
        if path.is_symlink():
            digest = path.readlink().name
        else:
            listed = tree.get(path.relative_to(snapshot).as_posix()) if path.is_file() else None
            digest = (listed.sha256 or listed.git_sha1 or "") if listed else ""
        if _DIGEST.fullmatch(digest):
            yield path, digest
