"""Which files of a listing a wish means. Pure."""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Iterable, Sequence

from provision.errors import NotFoundError
from provision.fetch.types import FetchWish
from provision.models import quants
from provision.models.types import RepoFile, RepoRef


def choose(files: Sequence[RepoFile], *, ref: RepoRef, wish: FetchWish) -> tuple[RepoFile, ...]:
    """The files to fetch, each once, in the order of the listing.

    Names and globs say exactly what is wanted; a quant, or the file of the reference, adds the files of that model. With
    none of them, the repository's only model.
    Raises NotFoundError for a name, glob or quant that matches nothing, UsageError when the wish is ambiguous.
    """
    chosen: dict[str, RepoFile] = {}
    quant = wish.quant or ref.quant
    for name in wish.names:
        chosen[name] = _by_name(files, name, ref.repo_id)
    if wish.include or (wish.exclude and not wish.names and quant is None):
        for file in _by_globs(files, wish.include or ("*",), wish.exclude, ref.repo_id):
            chosen[file.path] = file
    if quant is not None or ref.file is not None or not chosen:
        pattern = ref.file if wish.quant is None else None
        for file in _by_quant(files, quant, pattern, with_mmproj=wish.with_mmproj, repo_id=ref.repo_id):
            if not _matches(file.path, wish.exclude):
                chosen[file.path] = file
    return tuple(file for file in files if file.path in chosen)


def _by_name(files: Sequence[RepoFile], name: str, repo_id: str) -> RepoFile:
    for file in files:
        if file.path == name:
            return file
    near = difflib.get_close_matches(name, [file.path for file in files], n=3, cutoff=0.5)
    raise NotFoundError(
        f"{repo_id} has no file {name!r}" + (f"; near: {', '.join(near)}" if near else ""),
        code="file-not-found",
        hint=f"provision fetch {repo_id} --include '*' --dry-run",
    )


def _by_globs(files: Sequence[RepoFile], include: Sequence[str], exclude: Sequence[str], repo_id: str) -> list[RepoFile]:
    found = [file for file in files if _matches(file.path, include) and not _matches(file.path, exclude)]
    if not found:
        raise NotFoundError(
            f"no file of {repo_id} matches {', '.join(include)}" + (f" without {', '.join(exclude)}" if exclude else ""),
            code="no-match",
            hint=f"provision fetch {repo_id} --include '*' --dry-run",
        )
    return found


def _by_quant(
    files: Sequence[RepoFile], quant: str | None, pattern: str | None, *, with_mmproj: bool, repo_id: str
) -> Iterable[RepoFile]:
    sets = quants.group(files)
    model = quants.select(sets, quant, repo_id=repo_id, file=pattern)
    yield from model.files
    if with_mmproj:
        projector = quants.select_mmproj(sets, model)
        if projector is None:
            raise NotFoundError(
                f"{repo_id} has no multimodal projector (mmproj)",
                code="no-mmproj",
                hint=f"provision fetch {repo_id} without --with-mmproj",
            )
        yield from projector.files


def _matches(path: str, globs: Sequence[str]) -> bool:
    """As `hf download`: a glob without a slash still sees the whole path, `*` crosses folders, `folder/` means all of it."""
    return any(fnmatch.fnmatchcase(path, glob + "*" if glob.endswith("/") else glob) for glob in globs)
