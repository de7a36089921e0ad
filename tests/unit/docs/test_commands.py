"""Every `provision ...` in README and documentation is a command that the program would take."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
from typer.exceptions import TyperException

from provision.cli.main import _split_joined, make_app

ROOT = Path(__file__).parents[3]
PAGES = [ROOT / "README.md", ROOT / "README.zh-CN.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
GROUP = typer.main.get_command(make_app())


def commands() -> Iterator[tuple[str, str]]:
    for page in PAGES:
        if page.name == "cli.md":
            continue  # generated from the program, usage lines and all
        text = page.read_text(encoding="utf-8").replace("\\\n", " ")
        blocks = re.findall(r"^```(?:console|text|sh|bash)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
        lines = [line.strip().removeprefix("$ ") for block in blocks for line in block.splitlines()]
        inline = re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL))
        for candidate in (*lines, *inline):
            for part in re.split(r"\s*(?:\||&&|;)\s*", candidate):
                found = re.match(r"(?:[A-Z_]+=\S+ )*(?:\.venv/bin/|chat/bin/)?provision ([a-z].*)", part)
                if found:
                    # What follows two blanks is the page's own remark about the command.
                    yield f"{page.relative_to(ROOT)}", re.split(r"\s{2,}", found[1])[0]


COMMANDS = sorted(set(commands()))


def test_there_are_many() -> None:
    assert len(COMMANDS) > 80


@pytest.mark.parametrize(("page", "command"), COMMANDS)
def test_the_program_takes_it(page: str, command: str) -> None:
    name, *words = _split_joined(shlex.split(command, comments=True))
    words = words[: words.index(">")] if ">" in words else words
    parser = GROUP
    while hasattr(parser, "commands"):
        assert name in parser.commands, f"{page}: there is no command {name!r}"
        parser = parser.commands[name]
        if hasattr(parser, "commands") and words:
            name, *words = words
        elif hasattr(parser, "commands"):
            return
    if not words:
        return  # the command is only named
    assert trouble(parser, name, [word for word in words if word != "..."]) == ""


def trouble(parser: Any, name: str, words: list[str]) -> str:
    """What the parser says against these words; what a text leaves out is no trouble."""
    try:
        parser.make_context(name, words)
    except TyperException as error:
        message = error.format_message()
        return "" if message.startswith("Missing") else message
    return ""
