"""Where files go: the Hugging Face cache layout, plain folders, and the names we dare to write. Pure but for `Path`.

Layout read from huggingface_hub 2.4.0, file_download.py: `models--org--name/{blobs,refs,snapshots}`, `.locks/` at the root.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from provision.errors import IntegrityError, UsageError
from provision.fetch.types import FileHome
from provision.models.types import RepoFile
from provision.terminal import DIRECTION_MARKS

_COMMIT = re.compile(r"[0-9a-f]{40}")
_DIGEST = re.compile(r"[0-9a-f]{64}|[0-9a-f]{40}")
# What terminals obey, in 7 and 8 bits, and what makes a name look like another.
_CONTROL = re.compile(rf"[\x00-\x1f\x7f-\x9f{DIRECTION_MARKS}]")
# Windows refuses these whatever their extension; a repository shared between systems must not hold them.
_DEVICE = re.compile(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\..*)?")


def safe_parts(path: str) -> tuple[str, ...]:
    """The components of a server's file name, or IntegrityError (`unsafe-name`) when it could leave its folder."""
    parts = path.split("/")
    bad = (
        not path
        or len(path.encode("utf-8", "surrogatepass")) > 1024
        or _CONTROL.search(path)
        or any(sign in path for sign in '\\:*?"<>|')
        or any(part in ("", ".", "..") or part.endswith((" ", ".")) or _DEVICE.fullmatch(part) for part in parts)
        or any(len(part.encode("utf-8", "surrogatepass")) > 255 for part in parts)
        or any("\ud800" <= sign <= "\udfff" for sign in path)
    )
    if bad:
        raise IntegrityError(
            f"the server names a file {path!r}, which is not safe to write",
            code="unsafe-name",
            hint="leave it out: --exclude, or name the files you want: --file NAME",
        )
    return tuple(parts)


def check_names(files: Sequence[RepoFile]) -> None:
    """Refuse, before anything is asked or written, names that are not safe to write, or not beside each other."""
    paths = {file.path: safe_parts(file.path) for file in files}
    for path, parts in paths.items():
        for length in range(1, len(parts)):
            if "/".join(parts[:length]) in paths:
                raise IntegrityError(
                    f"the server names {path!r} below {'/'.join(parts[:length])!r}, which is a file",
                    code="unsafe-name",
                    hint="leave one out: --exclude, or name the files you want: --file NAME",
                )


def checked_commit(commit: str) -> str:
    """40 lower-case hex digits, or IntegrityError (`bad-commit`): it becomes a folder's name."""
    if not _COMMIT.fullmatch(commit):
        raise IntegrityError(
            f"the server names the commit {commit!r}", code="bad-commit", hint="try another endpoint: --endpoint URL"
        )
    return commit


def digest_of(file: RepoFile) -> str:
    """The hash a file is bound by: sha256 of an LFS object, else git-sha1. IntegrityError (`no-hash`) without either."""
    digest = (file.sha256 or file.git_sha1 or "").lower()
    if not _DIGEST.fullmatch(digest) or (file.sha256 and len(digest) != 64):
        raise IntegrityError(
            f"the server gives no usable hash for {file.path}, so nothing it sends could be verified",
            code="no-hash",
            hint="list from the Hub itself and use the mirror for bytes: --endpoint https://huggingface.co --endpoint MIRROR",
        )
    return digest


def repo_folder(hub_cache: Path, repo_id: str) -> Path:
    return hub_cache / ("models--" + repo_id.replace("/", "--"))


def cache_home(hub_cache: Path, repo_id: str, commit: str, file: RepoFile) -> FileHome:
    """Where `file` lives in the shared cache. Partial names end in `.incomplete`, so `hf cache prune` may clear them."""
    digest = digest_of(file)
    folder = repo_folder(hub_cache, repo_id)
    blobs = folder / "blobs"
    return FileHome(
        digest=digest,
        final=blobs / digest,
        partial=blobs / f"{digest}.provision.incomplete",
        journal=blobs / f"{digest}.provision-journal.incomplete",
        lock=hub_cache / ".locks" / folder.name / f"{digest}.lock",
        pointer=folder.joinpath("snapshots", checked_commit(commit), *safe_parts(file.path)),
    )


def local_home(local_dir: Path, file: RepoFile) -> FileHome:
    """Where `file` lives in a plain folder; partials hide in `.cache/provision`."""
    digest = digest_of(file)
    hidden = local_dir / ".cache" / "provision"
    return FileHome(
        digest=digest,
        final=local_dir.joinpath(*safe_parts(file.path)),
        partial=hidden / f"{digest}.incomplete",
        journal=hidden / f"{digest}.journal",
        lock=hidden / f"{digest}.lock",
        pointer=None,
    )


def link_text(pointer: Path, blob: Path) -> str:
    """The relative symlink from a snapshot to its blob: `../../blobs/<digest>`, deeper for folders."""
    up = len(pointer.parent.relative_to(blob.parent.parent).parts)
    return str(PurePosixPath(*[".."] * up, "blobs", blob.name))


def ref_file(hub_cache: Path, repo_id: str, revision: str) -> Path | None:
    """Where the cache remembers what `revision` meant; None for a commit, which needs no memory.

    Raises UsageError (`bad-revision`) for a name that no cache shared between systems can hold.
    """
    if _COMMIT.fullmatch(revision):
        return None
    try:
        parts = safe_parts(revision)
    except IntegrityError:
        raise UsageError(
            f"the revision {revision!r} cannot be remembered in the cache: not every system can write a file of that name",
            code="bad-revision",
            hint="name its commit instead: --revision COMMIT",
        ) from None
    return repo_folder(hub_cache, repo_id).joinpath("refs", *parts)
