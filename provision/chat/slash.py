"""The slash commands of the interactive chat: their table, and one typed line to a command."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, replace
from typing import Any

from provision.chat.overflow import POLICIES
from provision.chat.types import Sampling
from provision.errors import UsageError

COMMANDS: dict[str, tuple[str, str]] = {
    "help": ("", "this list"),
    "system": ("[TEXT|-]", "show, set or (with -) remove the system message"),
    "set": ("NAME VALUE", "change a setting: temperature, max_tokens, seed, overflow, ..."),
    "show": ("", "the model, the settings and where the conversation is saved"),
    "regen": ("", "answer the last question once more"),
    "undo": ("", "take back the last question and its answer"),
    "clear": ("", "forget the conversation, keep the system message"),
    "save": ("[FILE]", "save now, and after every turn from now on"),
    "load": ("FILE", "go on from a transcript"),
    "read": ("FILE|-", "put a text file in front of the next message; - takes it away again"),
    "stats": ("", "tokens and speed of the last turn"),
    "think": ("show|fold|hide", "what to do with the model's reasoning"),
    "ctx": ("[N]", "how full the context is; with N, load the model again with n_ctx N"),
    "exit": ("", "leave; so do exit, quit, bye and Ctrl-D"),
}
ALIASES = {"quit": "exit", "bye": "exit", "?": "help"}
LEAVING_WORDS = frozenset({"exit", "quit", "bye"})
THINK_MODES = ("show", "fold", "hide")
SETTINGS = (
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "repeat_penalty",
    "presence_penalty",
    "frequency_penalty",
    "max_tokens",
    "seed",
    "stop",
    "overflow",
    "think",
)
_RANGES: dict[str, tuple[float, float]] = {
    "temperature": (0, 100),
    "top_p": (0, 1),
    "min_p": (0, 1),
    "top_k": (0, 1_000_000),
    "repeat_penalty": (0.01, 100),
    "presence_penalty": (-100, 100),
    "frequency_penalty": (-100, 100),
    "max_tokens": (1, 100_000_000),
    "seed": (0, 2**32 - 2),
}
_WHOLE = {"top_k", "max_tokens", "seed"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A slash command as typed: `/read notes.txt` is name `read`, argument `notes.txt`."""

    name: str
    argument: str = ""


def parse_line(line: str) -> Command | str:
    """A command, or the text of a message. `//x` and a leading space send a message that starts with a slash.

    Raises UsageError (`unknown-command`) for a slash word that is no command.
    """
    stripped = line.strip()
    if stripped.lower() in LEAVING_WORDS:
        return Command(name="exit")
    if not line.startswith("/") or line.startswith("//"):
        return line[1:] if line.startswith("//") else line
    word, _, argument = stripped[1:].partition(" ")
    name = ALIASES.get(word.lower(), word.lower())
    if name in COMMANDS:
        return Command(name=name, argument=argument.strip())
    near = difflib.get_close_matches(name, [*COMMANDS, *ALIASES], n=1)
    hint = f"perhaps /{near[0]}" if near else "/help lists the commands"
    raise UsageError(
        f"there is no command /{word}", code="unknown-command", hint=f"{hint}; to send it as a message, put a space before it"
    )


def change_sampling(sampling: Sampling, name: str, value: str) -> Sampling:
    """`sampling` with one value replaced. Raises UsageError (`bad-setting`) for a name or a value that makes no sense."""
    if name == "stop":
        return replace(sampling, stop=(value,) if value else ())
    if name == "max_tokens" and value.lower() in {"", "none", "off"}:
        return replace(sampling, max_tokens=None)
    if name not in _RANGES:
        near = difflib.get_close_matches(name, SETTINGS, n=1)
        hint = f"perhaps {near[0]}" if near else f"one of {', '.join(SETTINGS)}"
        raise UsageError(f"there is no setting {name!r}", code="bad-setting", hint=hint)
    low, high = _RANGES[name]
    try:
        number: Any = int(value) if name in _WHOLE else float(value)
    except ValueError:
        kind = "a whole number" if name in _WHOLE else "a number"
        raise UsageError(f"{name} takes {kind}, not {value!r}", code="bad-setting", hint=f"/set {name} {low:g}") from None
    if not low <= number <= high:
        raise UsageError(f"{name} lies between {low:g} and {high:g}", code="bad-setting", hint=f"/set {name} {low:g}")
    return replace(sampling, **{name: number})


def completions(text: str) -> list[str]:
    """Words that may follow what was typed so far, for the last word of `text`."""
    if not text.startswith("/"):
        return []
    word, space, rest = text[1:].partition(" ")
    if not space:
        return ["/" + name for name in sorted([*COMMANDS, *ALIASES]) if name.startswith(word.lower())]
    choices: dict[str, tuple[str, ...]] = {"think": THINK_MODES, "set": SETTINGS}
    if word == "set" and rest.startswith("overflow "):
        return [policy for policy in POLICIES if policy.startswith(rest.removeprefix("overflow "))]
    if word == "set" and rest.startswith("think "):
        return [mode for mode in THINK_MODES if mode.startswith(rest.removeprefix("think "))]
    return [choice for choice in choices.get(word, ()) if choice.startswith(rest)] if " " not in rest else []


def help_text() -> str:
    """The table of commands for people."""
    rows = [(f"/{name} {argument}".rstrip(), meaning) for name, (argument, meaning) in COMMANDS.items()]
    width = max(len(usage) for usage, _ in rows)
    lines = [f"  {usage:<{width}}  {meaning}" for usage, meaning in rows]
    keys = [
        "  Ctrl-C stops an answer and keeps what was said. Alt-Enter, a \\ at the end of the line, or",
        '  """ around the text write several lines. A line that starts with a space is not remembered.',
    ]
    return "\n".join([*lines, "", *keys])
