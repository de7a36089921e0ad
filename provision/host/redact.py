"""Taking the person out of what is shown: home folder, user name, host name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Whom the machine belongs to."""

    home: str
    user: str
    host_name: str


def redact(value: Any, identity: Identity) -> Any:
    """JSON data with the home folder as `~`, and user and host name as `USER` and `HOST` where they are parts of a path.

    Elsewhere they stay: a user called `ubuntu` must not turn the distribution's name into something else, and nothing else we
    report is made of them. `root` tells nothing.
    """
    rules: list[tuple[re.Pattern[str], str]] = []
    home = identity.home.rstrip("/")
    if home.startswith("/") and home.count("/") > 0 and len(home) > 1:
        rules.append((re.compile(rf"(?<![\w.-]){re.escape(home)}(?![\w-])"), "~"))
    for name, mark in ((identity.user, "USER"), (identity.host_name, "HOST")):
        if name and name not in ("root", "localhost"):
            rules.append((re.compile(rf"(?<=/){re.escape(name)}(?![\w-])"), mark))
    return _walk(value, rules)


def _walk(value: Any, rules: list[tuple[re.Pattern[str], str]]) -> Any:
    if isinstance(value, str):
        for pattern, mark in rules:
            value = pattern.sub(mark, value)
        return value
    if isinstance(value, Mapping):
        return {key: _walk(item, rules) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_walk(item, rules) for item in value]
    return value


def this_identity() -> Identity:
    """Of the process that runs."""
    import getpass
    import platform
    from pathlib import Path

    try:
        user = getpass.getuser()
    except (OSError, KeyError):
        # A container may run us under a user id without a name.
        user = ""
    try:
        home = str(Path.home())
    except RuntimeError:
        home = ""
    return Identity(home=home, user=user, host_name=platform.node())
