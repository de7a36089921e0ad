"""The interactive chat: line editing, slash commands, one turn after the other. Nothing here decides what a turn is."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from provision.chat.commands import Desk, execute
from provision.chat.interrupts import interrupts_stop
from provision.chat.slash import Command, completions, parse_line
from provision.cli.chat_voice import HumanVoice, speak
from provision.cli.screen import tell
from provision.errors import ProvisionError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from prompt_toolkit import PromptSession
    from prompt_toolkit.completion import CompleteEvent, Completion
    from prompt_toolkit.document import Document
    from prompt_toolkit.key_binding import KeyBindings

_FILE_COMMANDS = ("/read", "/load", "/save")
_BLOCK = '"""'


def converse(desk: Desk, voice: HumanVoice, *, history_file: Path) -> None:
    """Talk until the person leaves. Ctrl-C stops an answer, or empties the input line; Ctrl-D leaves."""
    session = _session(history_file)
    tell(sys.stderr, f"{desk.model} · /help lists the commands, Ctrl-D leaves")
    while not desk.leaving:
        try:
            line = _read(session, desk)
            if line.strip():
                _take(line, desk, voice)
        except KeyboardInterrupt:
            voice.notice("Ctrl-D or /exit leaves")
        except EOFError:
            break


def _take(line: str, desk: Desk, voice: HumanVoice) -> None:
    try:
        parsed = parse_line(line)
        if isinstance(parsed, Command):
            said = execute(parsed, desk)
            if said:
                tell(sys.stderr, said)
            voice.think = desk.think
            if desk.regenerate:
                desk.regenerate = False
                _turn(desk, voice, question=None)
        else:
            _turn(desk, voice, question=parsed)
    except ProvisionError as error:
        tell(sys.stderr, f"error: {error.message}" + (f"\n  → {error.hint}" if error.hint else ""))


def _turn(desk: Desk, voice: HumanVoice, *, question: str | None) -> None:
    talk = desk.conversation
    before = talk.messages
    attached = list(desk.attached)
    # Asked anew each time: after a crash or /ctx it is another engine.
    with interrupts_stop(lambda: talk.engine.stop(), lambda: talk.engine.kill()) as seen:
        try:
            speak(talk.regenerate() if question is None else talk.ask(desk.message(question)), voice)
        finally:
            if question is not None and talk.messages == before:
                desk.question, desk.attached = question, attached
    desk.leaving = desk.leaving or seen.hung_up


def _read(session: PromptSession[str], desk: Desk) -> str:
    """One message: a line, lines joined by a backslash at their end, or a block between triple quotes."""
    used = desk.conversation.context_tokens
    n_ctx = desk.conversation.engine.loaded.n_ctx
    prompt = f"[{used}/{n_ctx}] > " if used is not None else "> "
    default, desk.question = desk.question or "", None
    line = session.prompt(prompt, default=default)
    if line.lstrip().startswith(_BLOCK):
        text = line.lstrip().removeprefix(_BLOCK)
        while _BLOCK not in text:
            text += "\n" + session.prompt("... ")
        return " " + text.split(_BLOCK)[0].strip("\n")
    while line.endswith("\\"):
        line = line[:-1] + "\n" + session.prompt("... ")
    return line


def _session(history_file: Path) -> PromptSession[str]:
    from prompt_toolkit import PromptSession
    from prompt_toolkit.completion import Completer, Completion, PathCompleter
    from prompt_toolkit.document import Document
    from prompt_toolkit.history import FileHistory

    class SlashCompleter(Completer):
        _paths = PathCompleter(expanduser=True)

        def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
            text = document.text_before_cursor
            command, _, path = text.partition(" ")
            if command in _FILE_COMMANDS:
                yield from self._paths.get_completions(Document(path), complete_event)
                return
            last = text.split(" ")[-1]
            for word in completions(text):
                yield Completion(word, start_position=-len(last))

    class PrivateHistory(FileHistory):
        """Leaves out lines that start with a space, as shells do."""

        def store_string(self, string: str) -> None:
            if not string.startswith(" "):
                # Without its file (disk full, read-only home) the chat goes on; it only forgets its lines.
                with contextlib.suppress(OSError):
                    super().store_string(string)

        def load_history_strings(self) -> Iterator[str]:
            with contextlib.suppress(OSError):
                yield from super().load_history_strings()

    _make_private(history_file)
    return PromptSession(
        history=PrivateHistory(str(history_file)),
        completer=SlashCompleter(),
        complete_while_typing=False,
        key_bindings=_keys(),
        enable_open_in_editor=True,
        reserve_space_for_menu=4,
    )


def _keys() -> KeyBindings:
    from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent

    keys = KeyBindings()

    @keys.add("escape", "enter")
    def newline(event: KeyPressEvent) -> None:
        event.current_buffer.insert_text("\n")

    return keys


def _make_private(path: Path) -> None:
    """What people type to a model is theirs: the file is 0600 before the first line goes into it."""
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600))
        path.chmod(0o600)
