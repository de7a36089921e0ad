"""What the slash commands do to a conversation. Each returns the lines to show; nothing is printed here."""

from __future__ import annotations

import contextlib
import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from provision.chat.conversation import Conversation
from provision.chat.overflow import POLICIES
from provision.chat.slash import THINK_MODES, Command, change_sampling, help_text
from provision.chat.storage import Keeper, load_transcript, read_at_most
from provision.chat.types import Message, Turn
from provision.errors import ProvisionError, UsageError

_LARGEST_FILE_BYTES = 1024 * 1024


@dataclass(slots=True, kw_only=True)
class Desk:
    """What the interactive chat holds besides the conversation."""

    conversation: Conversation
    model: str
    think: str = "fold"
    keeper: Keeper = field(default_factory=Keeper)
    attached: list[str] = field(default_factory=list)
    leaving: bool = False
    question: str | None = None
    """Text to put into the next input line: a question taken back by /undo or by an early Ctrl-C."""
    regenerate: bool = False
    """The next thing to do is to answer the last question again."""

    def message(self, text: str) -> str:
        """The message to send for what was typed, files given by /read in front."""
        parts, self.attached = [*self.attached, text], []
        return "\n\n".join(parts)


def execute(command: Command, desk: Desk) -> str:
    """Carry `command` out and return what to tell. Raises ProvisionError, after which the conversation is as it was."""
    return _DOERS[command.name](desk, command.argument)


def describe_turn(turn: Turn) -> str:
    """`421 of 4096 tokens · read 380 at 512 tok/s · wrote 41 at 37.2 tok/s · ended by itself`."""
    ends = {
        "stop": "ended by itself",
        "length": "cut at max_tokens",
        "context": "cut because the context is full",
        "interrupted": "stopped by you",
        "crashed": "cut by the end of the engine",
    }
    read = turn.prompt_tokens - turn.reused_tokens
    read_speed = f" at {turn.prompt_tokens_per_s:.0f} tok/s" if turn.prompt_tokens_per_s else ""
    speed = f" at {turn.tokens_per_s:.1f} tok/s" if turn.tokens_per_s else ""
    return (
        f"{turn.context_tokens} of {turn.n_ctx} tokens · read {read}{read_speed} · "
        f"wrote {turn.completion_tokens}{speed} · {ends[turn.finish_reason]}"
    )


def _system(desk: Desk, argument: str) -> str:
    first = desk.conversation.messages[:1]
    if not argument:
        return first[0].content if first and first[0].role == "system" else "no system message"
    desk.conversation.set_system("" if argument == "-" else argument)
    return "no system message any more" if argument == "-" else "system message set"


def _set(desk: Desk, argument: str) -> str:
    name, _, value = argument.partition(" ")
    value = value.strip()
    if not name:
        raise UsageError("/set takes a name and a value", code="bad-setting", hint="/set temperature 0.2")
    if name == "overflow":
        if value not in POLICIES:
            raise UsageError(f"overflow is one of {', '.join(POLICIES)}", code="bad-setting", hint="/set overflow drop-oldest")
        desk.conversation.policy = value
    elif name == "think":
        return _think(desk, value)
    else:
        desk.conversation.sampling = change_sampling(desk.conversation.sampling, name, value)
    return f"{name} is {value or 'none'} now"


def _show(desk: Desk, argument: str) -> str:
    talk = desk.conversation
    loaded = talk.engine.loaded
    rows = {
        "model": desk.model,
        "context": f"n_ctx {loaded.n_ctx} (trained for {loaded.n_ctx_train})",
        "template": loaded.chat_format,
        "placed": "; ".join(loaded.placement) or "on the CPU",
        "overflow": talk.policy,
        "reasoning": desk.think,
        "saved to": str(desk.keeper.path) if desk.keeper.path else "nowhere; /save FILE keeps the conversation",
        **{name: str(value) for name, value in talk.sampling.options().items() if value not in (None, [])},
    }
    width = max(len(name) for name in rows)
    return "\n".join(f"  {name:<{width}}  {value}" for name, value in rows.items())


def _regen(desk: Desk, argument: str) -> str:
    desk.regenerate = True
    return ""


def _undo(desk: Desk, argument: str) -> str:
    desk.question = desk.conversation.undo()
    return "nothing to take back" if desk.question is None else "taken back"


def _clear(desk: Desk, argument: str) -> str:
    desk.conversation.clear()
    return "the conversation is empty again"


def _save(desk: Desk, argument: str) -> str:
    path = _path(argument) if argument else desk.keeper.path
    if path is None:
        raise UsageError("no file to save to", code="not-saved", hint="/save FILE")
    if path != desk.keeper.path:
        desk.keeper.keep_in(path)
    desk.keeper(desk.conversation.messages)
    return f"saved to {path}, and again after every turn"


def _load(desk: Desk, argument: str) -> str:
    if not argument:
        raise UsageError("/load takes a file", code="no-transcript", hint="/load FILE")
    path = _path(argument)
    transcript = load_transcript(path)
    notes = list(transcript.notes)
    before = desk.keeper.path
    if before is not None and not (before.exists() and before.samefile(path)):
        notes.append(f"{before} stays as it is; /save FILE keeps this conversation")
        desk.keeper.keep_in(None)
    desk.conversation.replace_messages(transcript.messages)
    return "\n".join([f"{len(transcript.messages)} messages loaded", *notes])


def _read(desk: Desk, argument: str) -> str:
    if not argument:
        raise UsageError("/read takes a file", code="unreadable-file", hint="/read FILE")
    if argument == "-":
        dropped, desk.attached = len(desk.attached), []
        return f"{dropped} file{'s' if dropped != 1 else ''} taken away again" if dropped else "no file was waiting"
    path = _path(argument)
    try:
        data = read_at_most(path, _LARGEST_FILE_BYTES)
        if data is None:
            raise UsageError(f"{path} is larger than 1 MiB", code="unreadable-file", hint="/read a smaller part of it")
        text = data.decode()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise UsageError(f"cannot read {path}: {why}", code="unreadable-file", hint="/read FILE") from None
    desk.attached.append(f"{path.name}:\n```\n{text.rstrip()}\n```")
    talk = desk.conversation
    try:
        tokens, n_ctx = talk.engine.count((Message(role="user", content=text),)), talk.engine.loaded.n_ctx
    except ProvisionError:
        return f"{path.name} goes in front of your next message ({len(text)} characters)"
    room = f", more than the context of {n_ctx}: /read - takes it away again" if tokens >= n_ctx else ""
    return f"{path.name} goes in front of your next message ({len(text)} characters, {tokens} tokens{room})"


def _path(argument: str) -> Path:
    """A path as typed, or as terminals write one that was dragged in: in quotes, or with backslashes before its blanks."""
    plain = Path(argument).expanduser()
    if not plain.exists() and re.search(r"['\"\\]", argument):
        with contextlib.suppress(ValueError):
            words = shlex.split(argument)
            if len(words) == 1:
                return Path(words[0]).expanduser()
    return plain


def _stats(desk: Desk, argument: str) -> str:
    turn = desk.conversation.last_turn
    return describe_turn(turn) if turn else "nothing was said yet"


def _think(desk: Desk, argument: str) -> str:
    if argument not in THINK_MODES:
        raise UsageError(f"reasoning is {desk.think}", code="bad-setting", hint="/think show, /think fold or /think hide")
    desk.think = argument
    return {"show": "reasoning is shown", "fold": "reasoning is folded", "hide": "reasoning is hidden"}[argument]


def _ctx(desk: Desk, argument: str) -> str:
    talk = desk.conversation
    if argument:
        if not argument.isdigit() or int(argument) < 1:
            raise UsageError(f"n_ctx is a whole number, not {argument!r}", code="bad-setting", hint="/ctx 4096")
        talk.resize(int(argument))
    used = talk.context_tokens
    loaded = talk.engine.loaded
    share = f"{used} of {loaded.n_ctx} tokens ({100 * used // loaded.n_ctx} %)" if used is not None else f"n_ctx {loaded.n_ctx}"
    return f"{share}; the model was trained for {loaded.n_ctx_train}"


def _exit(desk: Desk, argument: str) -> str:
    desk.leaving = True
    return ""


_DOERS: dict[str, Callable[[Desk, str], str]] = {
    "help": lambda desk, argument: help_text(),
    "system": _system,
    "set": _set,
    "show": _show,
    "regen": _regen,
    "undo": _undo,
    "clear": _clear,
    "save": _save,
    "load": _load,
    "read": _read,
    "stats": _stats,
    "think": _think,
    "ctx": _ctx,
    "exit": _exit,
}
