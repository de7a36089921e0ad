"""What every reader of a foreign file returns, and the small things they share."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from provision.errors import UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """`data` is a recipe as TOML would give it, still to be checked; `notes` says what could not be taken over and why."""

    data: Mapping[str, Any]
    notes: tuple[str, ...] = field(default=())


def unreadable(kind: str, why: str, *, hint: str = "") -> UsageError:
    """The error of a foreign file that cannot become a recipe."""
    return UsageError(f"this {kind} cannot become a recipe: {why}", code="bad-import", hint=hint)


def is_path(model: str) -> bool:
    """Whether `model` is a file of this machine and not `org/name[:QUANT]`. Ollama's own blobs have no suffix."""
    return model.lower().endswith(".gguf") or model.startswith((".", "/", "~"))


def recipe_name(text: str) -> str:
    """A name the schema accepts, made of `org/Some_Name-GGUF`: `some_name`."""
    base = text.rsplit("/", 1)[-1].lower()
    base = re.sub(r"[-_.]?gguf$", "", base.split(":")[0])
    return re.sub(r"[^a-z0-9._-]+", "-", base).strip("-._")[:64] or "imported"


def split_quant(text: str) -> tuple[str, str | None]:
    """`org/name:Q4_K_M` to its two halves."""
    repo, _, quant = text.partition(":")
    return repo, quant or None


def hub_model(text: str) -> dict[str, Any]:
    """The [model] and [select] tables of `org/name[:QUANT]`."""
    repo, quant = split_quant(text)
    tables: dict[str, Any] = {"model": {"repo": repo}}
    if quant and quant.lower() != "latest":
        tables["select"] = {"quant": quant}
    return tables


def put(data: dict[str, Any], table: str, key: str, value: Any) -> None:
    """data[table][key] = value, making the table when needed."""
    data.setdefault(table, {})[key] = value
