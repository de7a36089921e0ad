"""The folder of built wheels: `wheels/KEY/NAME.whl` with its sha256 beside it, whole or not there."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path

from provision.engine.transaction import write_json
from provision.engine.types import WheelFile

_FACTS = "wheel.json"


def find_wheel(folder: Path, key: str) -> WheelFile | None:
    """The wheel kept under `key`, if its bytes are still the ones that were stored."""
    home = folder / key
    try:
        facts = json.loads((home / _FACTS).read_text(encoding="utf-8"))
        wheel = describe_wheel(home / Path(facts["name"]).name)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return wheel if wheel.sha256 == facts["sha256"] else None


def source_of(folder: Path, key: str) -> str:
    """What the wheel kept under `key` was made from, as its maker said; empty when nobody did."""
    try:
        facts = json.loads((folder / key / _FACTS).read_text(encoding="utf-8"))
        return str(facts.get("source", ""))
    except (OSError, ValueError, AttributeError):
        return ""


def store_wheel(wheel: Path, folder: Path, key: str, *, source: str = "") -> WheelFile:
    """Copy `wheel` into the store; `source` says what it was made from. An OSError leaves no half entry."""
    home = folder / key
    home.mkdir(parents=True, exist_ok=True)
    partial = home / f".{wheel.name}.{os.getpid()}"
    try:
        with wheel.open("rb") as made, partial.open("wb") as target:
            shutil.copyfileobj(made, target, 1 << 20)
            target.flush()
            os.fsync(target.fileno())
        os.replace(partial, home / wheel.name)
    finally:
        partial.unlink(missing_ok=True)
    stored = describe_wheel(home / wheel.name)
    facts = {"name": wheel.name, "sha256": stored.sha256, "size_bytes": stored.size_bytes}
    write_json(home / _FACTS, {**facts, **({"source": source} if source else {})})
    return stored


def describe_wheel(path: Path) -> WheelFile:
    """Path, sha256 and size of a wheel."""
    return WheelFile(path=path, sha256=sha256_of(path), size_bytes=path.stat().st_size)


def sha256_of(path: Path) -> str:
    """Hex sha256 of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
