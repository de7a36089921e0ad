"""A diagnosis as Markdown, to be pasted into an issue."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from provision.units import format_bytes


def markdown_report(data: Mapping[str, Any]) -> str:
    """From the data of `provision doctor --json`."""
    lines = ["### provision doctor", "", f"**{_text(data['verdict'])}**", "", *_machine(data["host"]), ""]
    lines += ["| | check | finding |", "|---|---|---|"]
    marks = {"error": "❌", "crashed": "💥", "warning": "⚠️", "info": "ℹ️", "ok": "✅"}
    for finding in data["findings"]:
        if finding["status"] in marks:
            detail = f"<br>{_text(finding['detail'])}" if finding["detail"] else ""
            lines.append(f"| {marks[finding['status']]} | {finding['check']} | {_text(finding['summary'])}{detail} |")
    remedies = [(finding["check"], finding["remedy"]) for finding in data["findings"] if finding["remedy"]]
    for check, remedy in remedies:
        if remedy["commands"]:
            lines += ["", f"{check}: {_text(remedy['text'])}", "```sh", *remedy["commands"], "```"]
    return "\n".join(lines)


def _machine(host: Mapping[str, Any]) -> list[str]:
    system, cpu, memory = host["system"], host["cpu"], host["memory"]
    rows = [
        ("system", f"{system['distribution'] or system['os']} {system['arch']}, kernel {system['kernel'] or 'unknown'}"),
        ("processor", f"{cpu['model'] or 'unknown'}, {cpu['cores'] or '?'} cores"),
        ("memory", format_bytes(memory["total_bytes"]) if memory["total_bytes"] else "unknown"),
    ]
    rows += [("GPU", gpu["name"]) for gpu in host["gpus"]]
    return [f"- {name}: {_text(value)}" for name, value in rows]


def _text(value: str) -> str:
    """One line that can stand in a table cell."""
    plain = "".join(letter if letter.isprintable() else " " for letter in value)
    return " ".join(plain.split()).replace("|", "\\|").replace("<", "&lt;")
