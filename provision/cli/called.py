"""How people reach this program from where they are: commands we tell them to type must work when pasted."""

from __future__ import annotations

import os
import re
import shutil
import sys
from pathlib import Path
from shlex import quote

# The word where it begins a command of ours, not where it is the project's name, a package or part of a path.
_NAMES = "doctor|install|fit|fetch|verify|recipe|lock|sync|bundle|cache|chat|serve|bench|up|uninstall"
_COMMAND = re.compile(rf"(?<![\w/.~-])provision (?=(?:{_NAMES})\b)")


def program() -> str:
    """`provision` where the shell finds this very one, else its path, short if it lies below the working directory."""
    called = Path(sys.argv[0])
    if called.name != "provision" or not called.is_file():
        # python -m provision, or a program of somebody else that uses us.
        return "provision"
    found = shutil.which("provision")
    if found is not None and os.path.realpath(found) == os.path.realpath(called):
        return "provision"
    try:
        near = os.path.relpath(os.path.abspath(called))
    except (OSError, ValueError):
        return quote(str(called))
    return quote(os.path.abspath(called) if near.startswith("..") else near)


def as_called(text: str) -> str:
    """`text` with our commands as they can be pasted here. For people only: programs get them by their plain name."""
    name = program()
    return text if name == "provision" else _COMMAND.sub(lambda _: f"{name} ", text)
