"""Names of models and their files, as frozen data."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Role(StrEnum):
    """What a file of a repository is for. Only MODEL is ever chosen for a quant."""

    MODEL = "model"
    MMPROJ = "mmproj"
    IMATRIX = "imatrix"
    DRAFT = "draft"
    OTHER = "other"


@dataclass(frozen=True, slots=True, kw_only=True)
class RepoRef:
    """`org/name[:QUANT][@revision]` or `org/name:FILE[@revision]` as a person writes it."""

    org: str
    name: str
    quant: str | None = None
    file: str | None = None
    """A path in the repository, or a pattern (`*Q4_K_M*.gguf`) that names one model; never together with `quant`."""
    revision: str | None = None

    @property
    def repo_id(self) -> str:
        return f"{self.org}/{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RepoFile:
    """One file as a server lists it. `path` uses forward slashes and is not trusted."""

    path: str
    size_bytes: int | None = None
    sha256: str | None = None
    """Lower-case hex of an LFS object; None for small files kept in git."""
    git_sha1: str | None = None
    """git's hash of the content of a small file kept in git; None for an LFS object."""
    git_oid: str | None = None
    """What git itself stores under this name: for an LFS object, the hash of its pointer."""
    xet_hash: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSet:
    """The files that together are one model: one file, or all shards of a split in order."""

    role: Role
    quant: str | None
    """Canonical label as written by llama.cpp, with its prefix: `Q4_K_M`, `UD-Q4_K_XL`; None when the name has none."""
    files: tuple[RepoFile, ...]
    complete: bool = True
    """False when shards of the split are missing from the listing."""
    tail: str = ""
    """What the names say after the label (`mtp` of `x-Q4_K_M-mtp.gguf`): a variant, not the plain model of that label."""
    byte_split: bool = False
    """One file cut into pieces that must be joined before anything can read them."""

    @property
    def size_bytes(self) -> int | None:
        sizes = [file.size_bytes for file in self.files]
        return None if any(size is None for size in sizes) else sum(size for size in sizes if size is not None)
