"""What files at rest promise to be, and where that was said: `trees/`, the name of a blob, a plain folder's own memory."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from provision.fetch.origins import Origin
from provision.hub.offline import read_tree
from provision.hub.types import Source
from provision.models.types import RepoFile

_DIGEST = re.compile(r"[0-9a-f]{64}|[0-9a-f]{40}")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_FOLDER = "models--"


@dataclass(frozen=True, slots=True, kw_only=True)
class Promise:
    """One file and the hash it must have; None when nobody said."""

    path: str
    """In its repository; just the file's name where that is not known."""
    local: Path
    digest: str | None
    repo_id: str | None = None
    commit: str | None = None
    revision: str | None = None
    """What to ask for to get these very bytes again: the commit, or what ModelScope calls the revision."""
    source: Source = "hf"
    folder: Path | None = None
    """The plain folder it lies in; None in the cache."""


def of_repository(folder: Path, revision: str | None) -> list[list[Promise]]:
    """The files of each snapshot of a cached repository (of `revision` alone); what `refs/main` names comes first."""
    return [list(_of_snapshot(folder, snapshot)) for snapshot in _snapshots(folder, revision)]


def of_origin(origin: Origin) -> Promise:
    """What a plain folder remembers of one file."""
    file = origin.file
    return Promise(
        path=file.path,
        local=origin.local_path,
        digest=file.sha256 or file.git_sha1,
        repo_id=origin.repo_id,
        commit=origin.commit,
        # The content id that stands for a commit of ModelScope is our own; nobody can be asked for it.
        revision=origin.commit if origin.source == "hf" else origin.revision,
        source=origin.source,
        folder=origin.folder,
    )


def in_cache(path: Path) -> Promise | None:
    """What is promised of a path inside a cache: a snapshot's file, or a blob under the first name that leads to it."""
    for folder in path.parents:
        if not folder.name.startswith(_FOLDER):
            continue
        kind, *rest = path.relative_to(folder).parts
        if kind == "snapshots" and len(rest) > 1:
            return _promise(folder, folder / "snapshots" / rest[0], path, read_tree(folder, rest[0]))
        if kind == "blobs" and _DIGEST.fullmatch(path.name):
            named = [one for files in of_repository(folder, None) for one in files if one.local.resolve() == path.resolve()]
            first = next((one for one in named if one.digest == path.name), None)
            return Promise(
                path=first.path if first else path.name,
                local=path,
                digest=path.name,
                repo_id=first.repo_id if first else None,
                commit=first.commit if first else None,
                revision=first.revision if first else None,
            )
    return None


def _snapshots(folder: Path, revision: str | None) -> list[Path]:
    root = folder / "snapshots"
    if revision is not None:
        return [root / (_ref(folder, revision) or revision)]
    main = _ref(folder, "main")
    return sorted((one for one in root.glob("*") if one.is_dir()), key=lambda one: (one.name != main, one.name))


def _ref(folder: Path, revision: str) -> str | None:
    try:
        return (folder / "refs" / revision).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return None


def _of_snapshot(folder: Path, snapshot: Path) -> Iterator[Promise]:
    tree = read_tree(folder, snapshot.name)
    for path in sorted(snapshot.rglob("*")):
        if (path.is_symlink() or path.is_file()) and not path.is_dir() and not path.name.endswith(".provision-tmp"):
            yield _promise(folder, snapshot, path, tree)


def _promise(folder: Path, snapshot: Path, path: Path, tree: Mapping[str, RepoFile]) -> Promise:
    """`trees/` binds a hash to the name itself; a link only to a blob, and a link may be turned."""
    name = path.relative_to(snapshot).as_posix()
    listed = tree.get(name)
    said = (listed.sha256 or listed.git_sha1) if listed is not None else None
    digest = said if isinstance(said, str) and _DIGEST.fullmatch(said) else None
    if digest is None and path.is_symlink() and _DIGEST.fullmatch(path.readlink().name):
        digest = path.readlink().name
    commit = snapshot.name if _COMMIT.fullmatch(snapshot.name) else None
    return Promise(
        path=name,
        local=path,
        digest=digest,
        repo_id=folder.name.removeprefix(_FOLDER).replace("--", "/"),
        commit=commit,
        revision=commit,
    )
