"""Which files of the shared cache are here because we put them there; only those are ours to remove."""

from __future__ import annotations

import contextlib
import hashlib
import json
from pathlib import Path

from provision.fetch.store import write_text
from provision.settings import Settings


def note_placed(settings: Settings, *, sha256: str, path: Path) -> None:
    """Remember that we put this file here."""
    # A lost note leaves a file that gc does not touch: a full or read-only disk is no reason to fail here.
    with contextlib.suppress(OSError):
        write_text(_note(settings, sha256, path), json.dumps({"sha256": sha256, "path": str(path)}))


def forget_placed(settings: Settings, *, sha256: str, path: Path) -> None:
    """The file is gone."""
    with contextlib.suppress(OSError):
        _note(settings, sha256, path).unlink()


def placed(settings: Settings) -> frozenset[tuple[str, str]]:
    """(sha256, path) of everything we placed. The same bytes elsewhere may be somebody else's."""
    found = set()
    for note in _folder(settings).glob("*.json"):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            said = json.loads(note.read_text(encoding="utf-8"))
            found.add((str(said["sha256"]), str(said["path"])))
    return frozenset(found)


def _note(settings: Settings, sha256: str, path: Path) -> Path:
    place = hashlib.sha256(str(path).encode("utf-8", "surrogateescape")).hexdigest()[:16]
    return _folder(settings) / f"{sha256}-{place}.json"


def _folder(settings: Settings) -> Path:
    return settings.provision_home / "placed"
