"""Where a target's headers are: a file or split on this disk, a URL, a repository."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from provision.errors import NotFoundError
from provision.gguf.header import GgufHeader
from provision.gguf.reader import read_header
from provision.gguf.source import FileSource
from provision.models.names import parse_name
from provision.models.quants import group
from provision.models.refs import check_revision, parse_ref
from provision.models.types import ModelSet, RepoRef, Role

if TYPE_CHECKING:
    from provision.events import Reporter
    from provision.fit.types import FitWish
    from provision.hub.types import Listing
    from provision.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalModel:
    """One model on this disk, all its parts."""

    paths: tuple[Path, ...]

    def headers(self) -> tuple[GgufHeader, ...]:
        return tuple(read_header(FileSource(path)) for path in self.paths)


@dataclass(frozen=True, slots=True, kw_only=True)
class Repository:
    """A listing and what can be chosen of it."""

    ref: RepoRef
    listing: Listing
    sets: tuple[ModelSet, ...]

    def usable(self) -> tuple[ModelSet, ...]:
        """What may be recommended: whole, of known size, a plain model of its label."""
        return tuple(
            one
            for one in self.sets
            if one.role is Role.MODEL and one.complete and not one.byte_split and not one.tail and one.quant and one.size_bytes
        )


def find_local(target: str) -> LocalModel | None:
    """The model file `target` names, with all parts when it is one of a split; None when there is no such file."""
    path = Path(target).expanduser()
    if not path.is_file():
        return None
    name = parse_name(path.name)
    if name.index is None or name.count is None or name.byte_split:
        return LocalModel(paths=(path,))
    suffix = path.name[len(name.stem) :].replace(f"{name.index:05d}-of-", "{:05d}-of-")
    parts = tuple(path.with_name(name.stem + suffix.format(index)) for index in range(1, name.count + 1))
    missing = [part.name for part in parts if not part.is_file()]
    if missing:
        raise NotFoundError(
            f"this is one of {name.count} parts, and {missing[0]} is not beside it",
            code="split-incomplete",
            hint="fetch all parts again: provision fetch ORG/REPO:QUANT",
        )
    return LocalModel(paths=parts)


def read_url(url: str, *, settings: Settings) -> GgufHeader:
    """The header behind an http(s) address, in one to three requests."""
    from provision.fetch.ranged import open_url

    with closing(open_url(url, settings=settings)) as remote:
        return read_header(remote)


def open_repository(target: str, wish: FitWish, *, settings: Settings, reporter: Reporter) -> Repository:
    """List the repository that `target` names."""
    from provision.hub.listing import list_repo

    ref = parse_ref(target)
    if wish.revision:
        ref = replace(ref, revision=check_revision(wish.revision))
    listing = list_repo(ref, settings=settings, endpoint=wish.endpoint, reporter=reporter)
    return Repository(ref=ref, listing=listing, sets=group(listing.files))


def read_set(repository: Repository, one: ModelSet, *, settings: Settings) -> tuple[GgufHeader, ...]:
    """The headers of all parts of one model of a repository."""
    return tuple(_read_remote(repository, index, one, settings) for index in range(len(one.files)))


def _read_remote(repository: Repository, index: int, one: ModelSet, settings: Settings) -> GgufHeader:
    from provision.fetch.ranged import open_remote

    with closing(open_remote(repository.listing, one.files[index], settings=settings)) as remote:
        return read_header(remote)


def file_names(files: Sequence[Path]) -> tuple[str, ...]:
    """Names for the result: without folders, which say nothing to others."""
    return tuple(path.name for path in files)
