"""A Host as JSON and back, so that one machine can be judged on another."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from functools import cache
from typing import Any

from provision.errors import UsageError
from provision.host.types import Host

SCHEMA = 1
"""Of `Host.schema`."""


def host_to_data(host: Host, *, identifiers: bool = False) -> dict[str, Any]:
    """Plain JSON values. GPU UUIDs are left out unless `identifiers`; paths are as they are in `host` (see redact.py)."""
    data: dict[str, Any] = _plain(dataclasses.asdict(host))
    if not identifiers:
        for gpu in data["gpus"]:
            gpu["uuid"] = None
    return data


def host_from_data(data: Mapping[str, Any]) -> Host:
    """The Host described by `data`; fields it lacks take their defaults, fields we do not know are refused.

    Raises UsageError (`bad-host-file`) naming every problem and where it is.
    """
    import pydantic

    try:
        # Through JSON, because only there do pydantic's strict types take a list for a tuple and an object for a dataclass.
        host: Host = _adapter().validate_json(json.dumps(data), strict=True, extra="forbid")
        return host
    except pydantic.ValidationError as error:
        problems = [f"{'.'.join(str(part) for part in item['loc']) or 'top level'}: {item['msg']}" for item in error.errors()]
        shown = problems[:8] + ([f"and {len(problems) - 8} more"] if len(problems) > 8 else [])
        raise UsageError(
            "this does not describe a machine:\n  " + "\n  ".join(shown),
            code="bad-host-file",
            hint="make the file on that machine with: provision doctor --json > machine.json",
        ) from None


@cache
def _adapter() -> Any:
    """Built once: putting the schema together costs more than using it."""
    import pydantic

    return pydantic.TypeAdapter(Host)


def host_from_json(text: str | bytes) -> Host:
    """From a file: a bare Host, or the whole answer of `provision doctor --json`. PowerShell's UTF-16 will do."""
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(
            f"not JSON: {error}",
            code="bad-host-file",
            hint="make the file on that machine with: provision doctor --json > machine.json",
        ) from None
    for key in ("data", "host"):
        if isinstance(data, dict) and "system" not in data and isinstance(data.get(key), dict):
            data = data[key]
    schema = data.get("schema") if isinstance(data, dict) else None
    if isinstance(schema, int) and schema != SCHEMA:
        raise UsageError(
            f"this describes a machine in schema {schema}, and this version of provision reads schema {SCHEMA}",
            code="bad-host-file",
            hint="use the same version of provision here as there: provision --version",
        )
    return host_from_data(data)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
