"""The folder of built wheels: `wheels/KEY/NAME.whl` with its sha256 beside it, whole or not there."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from provision.engine.transaction import write_json
from provision.engine.types import BuildPlan, WheelFile

_FACTS = "wheel.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """A wheel of the store and what its plan said of it; its bytes were not hashed again."""

    wheel: WheelFile
    backend: str
    engine_version: str
    platform: str
    """`linux-x86_64-glibc2.36`: where it was built."""
    cuda_archs: tuple[str, ...]
    runtime_packages: tuple[str, ...]
    native: bool
    """Compiled for the CPU of the machine that built it, and of no use to an older one."""


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


def stored_wheels(folder: Path) -> Iterator[Stored]:
    """Every wheel of the store whose plan is known, by key. Entries that cannot be read are passed over."""
    for facts_file in sorted(folder.glob(f"*/{_FACTS}")):
        try:
            facts = json.loads(facts_file.read_text(encoding="utf-8"))
            path = facts_file.parent / Path(facts["name"]).name
            plan = facts["plan"]
            stored = Stored(
                wheel=WheelFile(path=path, sha256=facts["sha256"], size_bytes=facts["size_bytes"]),
                backend=plan["backend"],
                engine_version=plan["engine_version"],
                platform=plan["platform"],
                cuda_archs=tuple(plan["cuda_archs"]),
                runtime_packages=tuple(plan["runtime_packages"]),
                native=plan["native"],
            )
        except (OSError, ValueError, KeyError, TypeError):
            continue
        if path.is_file():
            yield stored


def store_wheel(wheel: Path, folder: Path, key: str, *, source: str = "", plan: BuildPlan | None = None) -> WheelFile:
    """Copy `wheel` into the store; `source` says what it was made from, `plan` how. An OSError leaves no half entry."""
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
    facts: dict[str, object] = {"name": wheel.name, "sha256": stored.sha256, "size_bytes": stored.size_bytes}
    if source:
        facts["source"] = source
    if plan is not None:
        facts["plan"] = _said_of(plan)
    write_json(home / _FACTS, facts)
    return stored


def _said_of(plan: BuildPlan) -> dict[str, object]:
    return {
        "backend": plan.backend,
        "engine_version": plan.engine_version,
        "platform": plan.platform_key,
        "cuda_archs": list(plan.cuda_archs),
        "runtime_packages": list(plan.runtime_packages),
        # The maintainer's wheels are made for other machines than their builder's.
        "native": plan.source == "build" and bool(plan.cpu_key),
    }


def forget_wheel(folder: Path, key: str) -> None:
    """Take a wheel out of the store: first what makes it findable, then the rest."""
    (folder / key / _FACTS).unlink(missing_ok=True)
    shutil.rmtree(folder / key, ignore_errors=True)


def describe_wheel(path: Path) -> WheelFile:
    """Path, sha256 and size of a wheel."""
    return WheelFile(path=path, sha256=sha256_of(path), size_bytes=path.stat().st_size)


def sha256_of(path: Path) -> str:
    """Hex sha256 of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
