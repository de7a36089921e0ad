"""`verify`: the files at rest, hashed again, without a network. What nobody promised anything of is never called right."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from provision.errors import NotFoundError, ProvisionError
from provision.events import Progress, ProgressEnded, Reporter, silent
from provision.fetch.follower import hash_file
from provision.fetch.layout import repo_folder
from provision.fetch.origins import origin_of, origins_in
from provision.fetch.promises import Promise, in_cache, of_origin, of_repository
from provision.fetch.store import Attested
from provision.models import quants
from provision.models.types import RepoFile, RepoRef
from provision.settings import Settings

Status = Literal["ok", "damaged", "missing", "unreadable", "unknown"]
_DIGEST = re.compile(r"[0-9a-f]{64}|[0-9a-f]{40}")
_REPORT_EVERY_BYTES = 64 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedFile:
    """One file and what its bytes said. `digest` is what it must be: sha256, or git-sha1 for small files; None: nobody said."""

    path: str
    local_path: Path
    digest: str | None
    status: Status
    size_bytes: int | None
    actual: str | None = None
    promise: Promise | None = None
    """Where it came from, as far as that is known."""

    def to_data(self) -> dict[str, Any]:
        return {
            "path": self.path,
            "local_path": str(self.local_path),
            "digest": self.digest,
            "status": self.status,
            "size_bytes": self.size_bytes,
            "actual": self.actual,
            "revision": self.promise.commit if self.promise is not None else None,
        }


def verify_cached(ref: RepoRef, *, settings: Settings, reporter: Reporter = silent) -> tuple[CheckedFile, ...]:
    """Every cached file of a repository (of the quant or file named), in every snapshot or in that of the revision named.

    Raises NotFoundError (`not-cached`) when nothing of it is here.
    """
    found = of_repository(repo_folder(settings.hf_hub_cache, ref.repo_id), ref.revision)
    wanted = [one for files in _named(found, ref) for one in files]
    if not wanted:
        part = ref.quant or ref.file
        text = ref.repo_id + (f":{part}" if part else "") + (f"@{ref.revision}" if ref.revision else "")
        raise NotFoundError(
            f"{text} is not in the cache {settings.hf_hub_cache}",
            code="not-cached",
            # Without a part there may be many models; which, only the repository says.
            hint=shlex.join(["provision", "fetch", text, *([] if part else ["--include", "*", "--dry-run"])]),
        )
    return _check_all(wanted, reporter)


def verify_cache(*, settings: Settings, reporter: Reporter = silent) -> tuple[CheckedFile, ...]:
    """Every file of every model in the cache; none at all is a valid answer."""
    promises = [
        one
        for folder in sorted(settings.hf_hub_cache.glob("models--*"))
        for files in of_repository(folder, None)
        for one in files
    ]
    checked = _check_all(promises, reporter)
    return tuple(replace(one, path=f"{one.promise.repo_id}: {one.path}") for one in checked if one.promise is not None)


def verify_local(path: Path, *, settings: Settings, reporter: Reporter = silent) -> CheckedFile:
    """One file by its path: a snapshot's pointer, a blob, a file of a plain folder, or one that provision once verified.

    Raises NotFoundError: `no-promise` when nothing says what its bytes should be, `no-such-file` when it is not there either.
    """
    promise = in_cache(path) or _remembered(path, settings)
    if promise is not None and promise.digest is not None:
        return check_file(path.name, path, digest=promise.digest, reporter=reporter, promise=promise)
    if promise is not None and promise.repo_id is not None and os.path.lexists(path):
        return _unknown(promise)
    if not os.path.lexists(path):
        raise NotFoundError(f"no such file: {path}", code="no-such-file", hint=f"ls {shlex.quote(str(path.parent))}")
    raise NotFoundError(
        f"nothing is known about what {path} should contain",
        code="no-promise",
        hint=f"provision fetch ORG/REPO --file {shlex.quote(path.name)} --local-dir {shlex.quote(str(path.parent))}",
    )


def verify_folder(folder: Path, *, reporter: Reporter = silent) -> tuple[CheckedFile, ...]:
    """Every file that `--local-dir` brought into a plain folder. Raises NotFoundError (`no-promise`) when there is none."""
    promises = [of_origin(origin) for origin in origins_in(folder)]
    if not promises:
        raise NotFoundError(
            f"{folder} is a folder that no provision fetch --local-dir filled, so nothing is known about what is in it",
            code="no-promise",
            hint=f"provision fetch ORG/REPO --local-dir {shlex.quote(str(folder))}",
        )
    return _check_all(promises, reporter)


def check_file(
    path: str, local: Path, *, digest: str, reporter: Reporter = silent, promise: Promise | None = None
) -> CheckedFile:
    """Hash one file and say whether it is what its name promises."""
    size: int | None = None
    actual: str | None = None
    status: Status
    try:
        size = local.stat().st_size
        actual = _hash(path, local, digest, size, reporter)
        status = "ok" if actual == digest.lower() else "damaged"
    except FileNotFoundError:
        status = "missing"
    except OSError:
        status = "unreadable"
    return CheckedFile(
        path=path, local_path=local, digest=digest, status=status, size_bytes=size, actual=actual, promise=promise
    )


def _check_all(promises: Iterable[Promise], reporter: Reporter) -> tuple[CheckedFile, ...]:
    """Every name is reported; bytes that several names or revisions share are hashed once, for each promise."""
    hashed: dict[tuple[str, str], CheckedFile] = {}
    told: dict[tuple[str | None, str, str | None, str], CheckedFile] = {}
    for one in promises:
        real = os.path.realpath(one.local)
        # A link is told of once however many revisions show it under this name; a copy is a file of its own.
        name = (one.repo_id, one.path, one.digest, real)
        if name in told:
            continue
        if one.digest is None:
            told[name] = _unknown(one)
            continue
        same = hashed.get((real, one.digest))
        if same is None:
            same = check_file(one.path, one.local, digest=one.digest, reporter=reporter)
            hashed[real, one.digest] = same
        told[name] = replace(same, path=one.path, local_path=one.local, promise=one)
    return tuple(sorted(told.values(), key=lambda file: (file.promise.repo_id or "" if file.promise else "", file.path)))


def _unknown(one: Promise) -> CheckedFile:
    size: int | None = None
    status: Status = "unknown"
    try:
        size = one.local.stat().st_size
    except FileNotFoundError:
        status = "missing"
    except OSError:
        status = "unreadable"
    return CheckedFile(path=one.path, local_path=one.local, digest=None, status=status, size_bytes=size, promise=one)


def _named(snapshots: list[list[Promise]], ref: RepoRef) -> list[list[Promise]]:
    """The files that the quant or file of `ref` names, in each snapshot that has it. Raises what is wrong when none has."""
    if ref.quant is None and ref.file is None:
        return snapshots
    found: list[list[Promise]] = []
    wrong: ProvisionError | None = None
    for files in snapshots:
        if not files:
            continue
        try:
            sets = quants.group(RepoFile(path=one.path) for one in files)
            model = quants.select(sets, ref.quant, repo_id=ref.repo_id, file=ref.file)
        except ProvisionError as error:
            wrong = wrong or error
            continue
        names = {file.path for file in model.files}
        found.append([one for one in files if one.path in names])
    if not found and wrong is not None:
        raise wrong
    return found


def _remembered(path: Path, settings: Settings) -> Promise | None:
    origin = origin_of(path)
    if origin is not None:
        return of_origin(origin)
    for name in (path.name, path.readlink().name if path.is_symlink() else ""):
        if _DIGEST.fullmatch(name):
            return Promise(path=path.name, local=path, digest=name)
    digest = Attested(settings.provision_home / "verified").digest_of(path)
    return Promise(path=path.name, local=path, digest=digest) if digest is not None else None


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
