"""What is wished for, what is planned, what was done: the frozen data of this room."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from provision.models.types import RepoFile

Action = Literal["downloaded", "resumed", "kept", "repaired"]
PlanAction = Literal["download", "resume", "repair", "check", "copy", "keep"]

MAX_CONNECTIONS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchWish:
    """Which files of a repository, from where, and how. Without quant, names or globs: the repository's one model."""

    quant: str | None = None
    """A label; the reference may name the same or none."""
    names: tuple[str, ...] = ()
    """Exact paths in the repository."""
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    revision: str | None = None
    with_mmproj: bool = False
    endpoints: tuple[str, ...] = ()
    """The first lists and pins; all of them deliver. Empty: the endpoint of the settings."""
    sources: tuple[str, ...] = ()
    """`hf`, `modelscope`; empty: hf."""
    connections: int | None = None
    """For each file; None: as many as help, see growth.py."""
    limit_bytes_per_s: int | None = None
    local_dir: Path | None = None
    offline: bool = False
    patience_s: float = 60.0
    """How long a source may deliver nothing at all before it is given up."""
    stall_s: float = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class FileHome:
    """Where one file lives: its final place, and the partial and journal beside it."""

    digest: str
    final: Path
    """The blob in the cache, or the plain file of --local-dir. Bytes are verified before this name exists."""
    partial: Path
    journal: Path
    lock: Path
    pointer: Path | None
    """The snapshot's symlink; None for --local-dir."""

    @property
    def local_path(self) -> Path:
        return self.pointer or self.final


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedFile:
    """One file of the plan. `missing_bytes` is the most that still has to come over the network.

    `keep` is said of a file that was verified and is unchanged. `check`: one of the right size is here, and its hash will be
    looked at. `copy`: the shared cache has it, for a plain folder. `repair`: what is here is known to be wrong.
    """

    file: RepoFile
    home: FileHome
    size_bytes: int
    action: PlanAction
    missing_bytes: int
    twin: Path | None = None
    """For a plain folder: the shared cache's blob of the same bytes, where there is one of the right size."""

    @property
    def digest(self) -> str:
        return self.home.digest

    def to_data(self) -> dict[str, Any]:
        return {
            "path": self.file.path,
            "local_path": str(self.home.local_path),
            "size_bytes": self.size_bytes,
            "sha256": self.file.sha256,
            "action": self.action,
            "missing_bytes": self.missing_bytes,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchPlan:
    """Everything that will be done, decided before the first byte of content."""

    repo_id: str
    revision: str
    commit: str
    files: tuple[PlannedFile, ...]
    sources: tuple[str, ...]
    free_bytes: int | None
    """Free space where the files go; None when the file system does not say."""

    @property
    def missing_bytes(self) -> int:
        return sum(file.missing_bytes for file in self.files)

    def to_data(self) -> dict[str, Any]:
        return {
            "repo_id": self.repo_id,
            "revision": self.revision,
            "commit": self.commit,
            "dry_run": True,
            "files": [file.to_data() for file in self.files],
            "missing_bytes": self.missing_bytes,
            "free_bytes": self.free_bytes,
            "sources": list(self.sources),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchedFile:
    """One file that is now here and verified."""

    path: str
    local_path: Path
    size_bytes: int
    sha256: str | None
    """None for small files kept in git, whose git-sha1 was verified instead."""
    action: Action
    transferred_bytes: int = 0
    sources: dict[str, int] = field(default_factory=dict)
    """Origin to bytes."""

    def to_data(self) -> dict[str, Any]:
        return {
            "path": self.path,
            "local_path": str(self.local_path),
            "size_bytes": self.size_bytes,
            "sha256": self.sha256,
            "action": self.action,
            "transferred_bytes": self.transferred_bytes,
            "sources": dict(self.sources),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchResult:
    """What `provision fetch` ends with."""

    repo_id: str
    revision: str
    commit: str
    files: tuple[FetchedFile, ...]
    elapsed_s: float

    def to_data(self) -> dict[str, Any]:
        moved = sum(file.transferred_bytes for file in self.files)
        return {
            "repo_id": self.repo_id,
            "revision": self.revision,
            "commit": self.commit,
            "files": [file.to_data() for file in self.files],
            "elapsed_s": round(self.elapsed_s, 3),
            "bytes_per_s": round(moved / self.elapsed_s) if moved and self.elapsed_s > 0 else None,
        }
