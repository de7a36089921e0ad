"""Machines as Host files (tests/support/machines/*.json), each with what doctor must say about it.

A file is also a valid argument of `provision doctor --host`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from provision.host.serial import host_from_data
from provision.host.types import Host

FOLDER = Path(__file__).parent / "machines"


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """One file: the machine, and the expectation, written by hand."""

    name: str
    about: str
    host: Host
    verdict: str
    errors: frozenset[str]
    """Ids of exactly those checks that find an error; `warnings` likewise."""
    warnings: frozenset[str]
    usable_toolkits: tuple[str, ...]
    """Roots, best first."""
    says: dict[str, str]
    """Check id to words that one of its findings must contain."""


def machine_names() -> tuple[str, ...]:
    return tuple(sorted(path.stem for path in FOLDER.glob("*.json")))


def load_machine(name: str) -> Machine:
    data = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    expect = data["expect"]
    return Machine(
        name=name,
        about=data["about"],
        host=host_from_data(data["host"]),
        verdict=expect["verdict"],
        errors=frozenset(expect["errors"]),
        warnings=frozenset(expect["warnings"]),
        usable_toolkits=tuple(expect["usable_toolkits"]),
        says=expect["says"],
    )
