"""The five rooms `up` walks through, as callables that answer in the words of the command-line contract.

`up` itself decides nothing about machines, builds or bytes: it hands each room the recipe's wishes and reads its `data`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from provision.host.types import Host
from provision.recipes.schema import Recipe

Data = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked:
    """What `doctor` says: the machine, its verdict, and how many findings of which status."""

    host: Host
    verdict: str
    errors: tuple[str, ...] = ()
    """One sentence per error-level finding."""
    warnings: tuple[str, ...] = ()


class FitRoom(Protocol):
    def __call__(self, target: str, recipe: Recipe, host: Host, *, quant: str | None) -> Data: ...


class SmokeRoom(Protocol):
    def __call__(self, model: Path, recipe: Recipe, llama_kwargs: Data, *, plan: Data | None) -> Data: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Rooms:
    """Entry points; each returns the `data` of the command of that name."""

    doctor: Callable[[], Looked]
    install: Callable[[Recipe, Host, bool], Data]
    """(recipe, host, dry_run)."""
    adopt: Callable[[Recipe, Host, Path, str], Data]
    """(recipe, host, wheel, source): install this very wheel, made from `source`, as the engine the recipe asks for."""
    fit: FitRoom
    fetch: Callable[[Recipe, str | None, bool], Data]
    """(recipe, quant, dry_run)."""
    smoke: SmokeRoom
    """`plan` is what `fit` chose, to compare with what is measured."""
