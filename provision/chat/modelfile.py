"""The SYSTEM and MESSAGE lines of an Ollama Modelfile, which is how `ollama run` keeps a conversation with `/save`."""

from __future__ import annotations

import re

_LINE = re.compile(r"^(SYSTEM|MESSAGE\s+(?:system|user|assistant))\s+(.*)$", re.IGNORECASE)
_START = re.compile(r"^\s*(FROM|SYSTEM|MESSAGE|PARAMETER|TEMPLATE)\s+\S", re.IGNORECASE)


def looks_like_modelfile(text: str) -> bool:
    """Whether the first line that says something is an instruction of a Modelfile."""
    for line in text.splitlines():
        if line.strip() and not line.lstrip().startswith("#"):
            return bool(_START.match(line))
    return False


def modelfile_items(text: str) -> list[tuple[str, str, str]]:
    """(place, role, content) of each message; a value in triple quotes may span lines."""
    items: list[tuple[str, str, str]] = []
    lines = text.splitlines()
    at = 0
    while at < len(lines):
        match = _LINE.match(lines[at].strip())
        number = at + 1
        at += 1
        if match is None:
            continue
        role = match.group(1).split()[-1].lower()
        value = match.group(2)
        if value.startswith('"""'):
            value = value[3:]
            while '"""' not in value and at < len(lines):
                value += "\n" + lines[at]
                at += 1
            value = value.split('"""')[0]
        elif len(value) > 1 and value[0] == value[-1] == '"':
            value = value[1:-1]
        items.append((f"line {number}", role, value))
    return items
