"""Where things lie: the model folders of the shared Hugging Face cache, and our own home. Files may vanish while we look."""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from provision.settings import Settings

Kind = Literal["model", "wheel", "toolkit", "partial", "build", "source", "tools"]
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One thing in a cache. `sha256` is what its name or record promises; None when nothing does."""

    kind: Kind
    """`build`: the tree of a build that failed or was stopped; `source`: engine sources; `tools`: environments to build in."""
    name: str
    path: Path
    size_bytes: int
    last_used_s: float
    """Seconds since the epoch, by access or change time, whichever is later."""
    sha256: str | None = None
    ours: bool = False
    referred_by: tuple[str, ...] = ()
    pointers: tuple[Path, ...] = ()
    """Snapshot links that lead here."""
    lock: Path | None = None
    """What a running download of it holds."""

    def to_data(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "name": self.name,
            "path": str(self.path),
            "size_bytes": self.size_bytes,
            "last_used_s": round(self.last_used_s),
            "sha256": self.sha256,
            "placed_by_provision": self.ours,
            "referred_by": list(self.referred_by),
        }


def everything(settings: Settings) -> Iterator[Entry]:
    """All of it, unsorted, without who refers to it."""
    home = settings.provision_home
    yield from _models(settings.hf_hub_cache)
    yield from _own_models(home / "models")
    yield from _wheels(home / "wheels")
    yield from _toolkits(home / "toolkits")
    for kind, folder in (("build", "builds"), ("tools", "build-envs")):
        for path in _folders(home / folder, "*"):
            yield from _tree(kind, path, ours=True)  # type: ignore[arg-type]
    for path in _files(home / "sdists"):
        yield from _one("source", path.name, path, ours=path.name.startswith("llama_cpp_python-"))
    for path in _folders(home, "bundle-wheels-*"):
        yield from _tree("partial", path, ours=True)


def _models(hub_cache: Path) -> Iterator[Entry]:
    for folder in _folders(hub_cache, "models--*--*"):
        repo = folder.name.removeprefix("models--").replace("--", "/", 1)
        names, pointers = _pointers(folder)
        for blob in _files(folder / "blobs"):
            partial = blob.name.endswith(".incomplete")
            digest = blob.name if _SHA256.fullmatch(blob.name) else None
            yield from _one(
                "partial" if partial else "model",
                f"{repo}: {names.get(blob.name, blob.name[:12])}",
                blob,
                sha256=digest,
                # Our partials carry our name; other programs' are theirs to clean up.
                ours=partial and ".provision" in blob.name,
                pointers=tuple(pointers.get(blob.name, ())),
                lock=hub_cache / ".locks" / folder.name / f"{blob.name.partition('.')[0]}.lock",
            )


def _pointers(folder: Path) -> tuple[dict[str, str], dict[str, list[Path]]]:
    """Blob name to file name, and blob name to the links of this repository that lead to it."""
    names: dict[str, str] = {}
    pointers: dict[str, list[Path]] = {}
    for commit in _folders(folder / "snapshots", "*"):
        for path in commit.rglob("*"):
            with contextlib.suppress(OSError):
                if not path.is_symlink():
                    continue
                leads_to = Path(os.path.normpath(path.parent / os.readlink(path)))
                if leads_to.parent == folder / "blobs":
                    names.setdefault(leads_to.name, path.relative_to(commit).as_posix())
                    pointers.setdefault(leads_to.name, []).append(path)
    return names, pointers


def _own_models(models: Path) -> Iterator[Entry]:
    for folder in _folders(models, "*"):
        digest = folder.name if _SHA256.fullmatch(folder.name) else None
        for path in _files(folder):
            if path.name.startswith(".") and path.name.endswith(".incomplete"):
                yield from _one("partial", path.name, path, ours=True)
            else:
                yield from _one("model", path.name, path, sha256=digest)


def _wheels(wheels: Path) -> Iterator[Entry]:
    for folder in _folders(wheels, "*"):
        name, digest = _recorded(folder / "wheel.json")
        for path in _files(folder):
            if path.name.startswith(".") and ".whl." in path.name:
                yield from _one("partial", path.name, path, ours=True)
            elif path.suffix == ".whl":
                # A wheel without our record was put there by somebody else.
                mine = path.name == name
                yield from _one("wheel", path.name, path, sha256=digest if mine else None, ours=mine)


def _recorded(facts: Path) -> tuple[str | None, str | None]:
    try:
        data = json.loads(facts.read_text(encoding="utf-8"))
        return str(data["name"]), str(data["sha256"])
    except (OSError, ValueError, KeyError, TypeError):
        return None, None


def _toolkits(toolkits: Path) -> Iterator[Entry]:
    for folder in _folders(toolkits, "*"):
        if folder.name.startswith("."):
            yield from _tree("partial", folder, ours=True)
        else:
            yield from _tree("toolkit", folder, ours=(folder / "provision.json").is_file())


def _tree(kind: Kind, folder: Path, *, ours: bool) -> Iterator[Entry]:
    size, used = 0, 0.0
    for path in [folder, *folder.rglob("*")]:
        with contextlib.suppress(OSError):
            stat = path.lstat()
            size += stat.st_size if not path.is_dir() else 0
            # Walking through a folder is no use of it; a link's own times say nothing.
            if path.is_file() and not path.is_symlink():
                used = max(used, stat.st_atime, stat.st_mtime)
            used = max(used, stat.st_mtime)
    if used:
        yield Entry(kind=kind, name=folder.name, path=folder, size_bytes=size, last_used_s=used, ours=ours)


def _one(kind: Kind, name: str, path: Path, **more: Any) -> Iterator[Entry]:
    # Another program may have removed it since it was seen.
    with contextlib.suppress(OSError):
        stat = path.stat()
        yield Entry(
            kind=kind, name=name, path=path, size_bytes=stat.st_size, last_used_s=max(stat.st_atime, stat.st_mtime), **more
        )


def _folders(parent: Path, pattern: str) -> list[Path]:
    return sorted(path for path in parent.glob(pattern) if path.is_dir() and not path.is_symlink())


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*") if path.is_file() and not path.is_symlink())
