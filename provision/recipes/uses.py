"""Who needs what: deployments and locks leave a note, so that `cache gc` knows what nothing refers to any more.

A note lives as long as what it speaks of: a deployment while its Python exists, a lock while its file exists.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from provision.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """One living note: who, and the sha256 of everything it needs."""

    kind: Literal["deployment", "lock"]
    who: str
    """A Python and a recipe, or a lock's path."""
    sha256: frozenset[str]


def note_deployment(settings: Settings, *, python: Path, recipe: str, sha256: Iterable[str]) -> None:
    """`python`'s environment runs `recipe` with these files. Replaces that environment's older note on the same recipe."""
    _write(
        settings, "deployment", f"{python}\n{recipe}", {"python": str(python), "recipe": recipe, "sha256": sorted(set(sha256))}
    )


def note_lock(settings: Settings, *, path: Path, sha256: Iterable[str]) -> None:
    """The lock at `path` names these files."""
    _write(settings, "lock", str(path), {"path": str(path), "sha256": sorted(set(sha256))})


def uses(settings: Settings) -> tuple[Use, ...]:
    """Every living note, sorted. Notes on what no longer exists are skipped, not removed: a disk may be unplugged."""
    found: list[Use] = []
    for note in _read(settings, "deployment"):
        if Path(str(note.get("python", ""))).exists():
            who = f"{note.get('recipe')} in {note.get('python')}"
            found.append(Use(kind="deployment", who=who, sha256=frozenset(note.get("sha256", ()))))
    for note in _read(settings, "lock"):
        if Path(str(note.get("path", ""))).is_file():
            found.append(Use(kind="lock", who=str(note["path"]), sha256=frozenset(note.get("sha256", ()))))
    return tuple(sorted(found, key=lambda use: (use.kind, use.who)))


def _file(settings: Settings, kind: str, key: str) -> Path:
    return settings.provision_home / "uses" / f"{kind}-{hashlib.sha256(key.encode()).hexdigest()[:24]}.json"


def _write(settings: Settings, kind: str, key: str, data: Mapping[str, Any]) -> None:
    # A lost note costs a cautious gc, never a deployment: a read-only disk is no reason to fail here.
    with contextlib.suppress(OSError):
        path = _file(settings, kind, key)
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.{os.getpid()}.part")
        part.write_text(json.dumps(data), encoding="utf-8")
        os.replace(part, path)


def _read(settings: Settings, kind: str) -> list[dict[str, Any]]:
    notes = []
    for path in sorted((settings.provision_home / "uses").glob(f"{kind}-*.json")):
        with contextlib.suppress(OSError, ValueError):
            note = json.loads(path.read_text(encoding="utf-8"))
            if isinstance(note, dict):
                notes.append(note)
    return notes
