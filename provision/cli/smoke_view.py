"""How a smoke test's result is shown to people: the checks that deserve a look, then one line."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from provision.cli.called import as_called

if TYPE_CHECKING:
    from rich.console import Console

_MARKS = {"pass": "✓", "warn": "!", "fail": "✗", "skip": "-"}


def _say(console: Console, head: str, text: str) -> None:
    """`text` beside `head`, its further lines indented as far."""
    lines = textwrap.wrap(text, max(30, console.width - len(head)), break_long_words=False, break_on_hyphens=False) or [""]
    for index, line in enumerate(lines):
        console.print((head if index == 0 else " " * len(head)) + line, markup=False, highlight=False, soft_wrap=True)


def render_smoke(console: Console, data: Mapping[str, Any]) -> None:
    """Print `data` of `chat --smoke`: every check with a mark, remedies under what is wrong, the summary line last."""
    for check in data["checks"]:
        _say(console, f"{_MARKS[check['status']]} {check['id']:<18} ", check["summary"])
        if check["remedy"] and check["status"] in ("warn", "fail"):
            _say(console, " " * 21 + "→ ", as_called(check["remedy"]))
    if data.get("answer"):
        _say(console, f"  {'answer':<18} ", data["answer"])
    console.print(data["line"], markup=False, highlight=False)
