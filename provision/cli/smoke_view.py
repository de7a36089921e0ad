"""How a smoke test's result is shown to people: the checks that deserve a look, then one line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

_MARKS = {"pass": "✓", "warn": "!", "fail": "✗", "skip": "-"}


def render_smoke(console: Console, data: Mapping[str, Any]) -> None:
    """Print `data` of `chat --smoke`: every check with a mark, remedies under what is wrong, the summary line last."""
    for check in data["checks"]:
        console.print(f"{_MARKS[check['status']]} {check['id']:<18} {check['summary']}", markup=False, highlight=False)
        if check["remedy"] and check["status"] in ("warn", "fail"):
            console.print(f"  → {check['remedy']}", markup=False, highlight=False)
    if data.get("answer"):
        console.print(f"answer: {data['answer']}", markup=False, highlight=False)
    console.print(data["line"], markup=False, highlight=False)
