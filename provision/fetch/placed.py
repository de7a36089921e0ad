"""Which files of the shared cache are here because we put them there; only those are ours to remove."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

from provision.fetch.store import write_text
from provision.settings import Settings


def note_placed(settings: Settings, *, sha256: str, path: Path) -> None:
    """Remember that we put this file here."""
    # A lost note leaves a file that gc does not touch: a full or read-only disk is no reason to fail here.
    with contextlib.suppress(OSError):
        write_text(_folder(settings) / f"{sha256}.json", json.dumps({"sha256": sha256, "path": str(path)}))


def forget_placed(settings: Settings, sha256: str) -> None:
    """The file is gone."""
    with contextlib.suppress(OSError):
        (_folder(settings) / f"{sha256}.json").unlink()


def placed(settings: Settings) -> frozenset[str]:
    """sha256 of everything we placed."""
    return frozenset(path.stem for path in _folder(settings).glob("*.json"))


def _folder(settings: Settings) -> Path:
    return settings.provision_home / "placed"
