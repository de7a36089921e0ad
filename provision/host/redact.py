"""Taking the person out of what is shown: home folder, user name, host name, serials, tokens."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Whom the machine belongs to. `real_home` is the home folder with its symbolic links followed."""

    home: str
    user: str
    host_name: str
    real_home: str = ""


Rules = tuple[tuple[re.Pattern[str], str], ...]
# Shared prefixes that look like somebody's home folder and tell nothing.
_NOBODYS = r"(?!linuxbrew(?![\w-])|Shared(?![\w-]))"
# Never shown, whoever asks: access tokens (Hugging Face's begin with hf_, ModelScope's with ms-), passwords in addresses.
_SECRETS: Rules = (
    (re.compile(r"\bhf_\w{6,}"), "hf_TOKEN"),
    (re.compile(r"\bms-[0-9a-fA-F-]{16,}"), "ms-TOKEN"),
    (re.compile(r"(?<=://)[^/@\s\"']+@"), ""),
)
# Of whoever: GPUs by serial or UUID (NVML also takes a beginning of one), and other people's home folders.
_ANYBODY: Rules = (
    (re.compile(r"\b(GPU|MIG)-(?:GPU-)?[0-9a-fA-F]{4,}[0-9a-fA-F-]*"), r"\1-UUID"),
    (re.compile(r"\b[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\b"), "UUID"),
    (re.compile(rf"(/home/|/Users/|[A-Za-z]:\\Users\\)(?!USER\b){_NOBODYS}[^/\\\s:;\"',]+"), r"\1USER"),
)


def redact(value: Any, identity: Identity) -> Any:
    """JSON data with the home folder as `~`, and user and host name as `USER` and `HOST` where they are parts of a path.

    Elsewhere they stay: a user called `ubuntu` must not turn the distribution's name into something else, and nothing else we
    report is made of them. `root` tells nothing. GPU UUIDs, tokens and other people's home folders go as well.
    """
    rules: list[tuple[re.Pattern[str], str]] = []
    for home in dict.fromkeys((identity.home.rstrip("/\\"), identity.real_home.rstrip("/\\"))):
        if re.match(r"/[^/]|[A-Za-z]:\\.", home):
            rules.append((re.compile(rf"(?:(?<![\w.-])|(?<=-[IL])){re.escape(home)}(?![\w-])"), "~"))
    for name, mark in ((identity.user, "USER"), (identity.host_name, "HOST")):
        if name and name not in ("root", "localhost"):
            rules.append((re.compile(rf"(?<=[/\\]){re.escape(name)}(?![\w-])"), mark))
    return _walk(value, (*_SECRETS, *rules, *_ANYBODY))


def without_secrets(value: Any) -> Any:
    """The same with everything but tokens and passwords, for those who asked for identifiers."""
    return _walk(value, _SECRETS)


def _walk(value: Any, rules: Rules) -> Any:
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
    return Identity(home=home, user=user, host_name=platform.node(), real_home=os.path.realpath(home) if home else "")
