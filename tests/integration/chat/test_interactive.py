"""The interactive chat as a person meets it: a terminal, keys, Ctrl-C, Ctrl-D."""

import json
import os
import signal
import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.commands import private_environ
from tests.support.pty_session import PtySession

if TYPE_CHECKING:
    from tests.integration.chat.conftest import ScriptedModel

pytestmark = pytest.mark.integration

GREETING: list[str | list[str]] = ["Hello", ", ", "world", "!"]
ENDLESS: list[str | list[str]] = ["Once", " upon", " a time"]


def talk(model: Path, home: Path, *words: str | Path) -> PtySession:
    argv = [sys.executable, "-m", "provision", "chat", str(model), "--progress", "none", *map(str, words)]
    return PtySession(argv, environ=private_environ(home))


def roles(file: Path) -> list[tuple[str, str]]:
    return [(row["role"], row["content"]) for row in json.loads(file.read_text())]


@pytest.mark.parametrize("leave", ["bye\r", pytest.param("\x04", marks=pytest.mark.slow)])
def test_two_turns_are_saved_as_they_happen_and_every_way_out_works(
    leave: str, scripted_model: "ScriptedModel", tmp_path: Path
) -> None:
    file = tmp_path / "talk.json"
    with talk(scripted_model(GREETING), tmp_path, "-io", file) as person:
        person.expect(r"\[0/4096\] >")
        person.line("one")
        person.expect("Hello, world!")
        person.expect(r"\[\d+/4096\] >")
        assert roles(file) == [("user", "one"), ("assistant", "Hello, world!")]
        person.line("two")
        person.expect("Hello, world!")
        person.expect(r"\[\d+/4096\] >")
        person.send(leave)
        assert person.end() == 0
    assert len(roles(file)) == 4


def test_ctrl_c_stops_the_answer_and_keeps_it(scripted_model: "ScriptedModel", tmp_path: Path) -> None:
    file = tmp_path / "talk.json"
    with talk(scripted_model(ENDLESS, loop=True, n_ctx_train=32768), tmp_path, "-o", file, "--ctx", "32768") as person:
        person.expect(r"\] >")
        person.line("tell")
        person.expect("a time a time a time")
        person.send("\x03")
        person.expect("stopped; what was said is kept")
        person.expect(r"\] >")
        kept = roles(file)
        assert kept[0] == ("user", "tell")
        assert kept[1][1].startswith("Once upon a time a time")
        person.line("/undo")
        person.expect("taken back")
        person.expect("tell")
        person.send("\x15")
        person.line("/stats")
        person.expect("stopped by you")
        person.send("\x03")
        person.expect("Ctrl-D or /exit leaves")
        person.expect(r"\] >")
        person.send("\x04")
        assert person.end() == 0


@pytest.mark.slow
def test_closing_the_terminal_keeps_what_was_said(scripted_model: "ScriptedModel", tmp_path: Path) -> None:
    file = tmp_path / "talk.json"
    with talk(scripted_model(ENDLESS, loop=True, n_ctx_train=32768), tmp_path, "-o", file, "--ctx", "32768") as person:
        person.expect(r"\] >")
        person.line("tell")
        person.expect("a time a time")
        person.signal(signal.SIGHUP)
        person.end()
    assert roles(file)[1][1].startswith("Once upon a time")


@pytest.mark.slow
def test_an_engine_that_dies_is_named_and_comes_back(scripted_model: "ScriptedModel", tmp_path: Path) -> None:
    with talk(
        scripted_model(ENDLESS, loop=True, n_ctx_train=32768), tmp_path, "--ctx", "32768", "--max-tokens", "3000"
    ) as person:
        person.expect(r"\] >")
        person.line("tell")
        person.expect("a time a time")
        os.kill(_worker_of(person), signal.SIGSEGV)
        person.expect(r"the engine crashed \(SIGSEGV\) while answering")
        person.expect("provision doctor")
        person.line("/set max_tokens 4")
        person.expect("max_tokens is 4 now")
        person.line("again")
        person.expect("the engine had ended and is started again")
        person.expect("Once upon a time")
        person.expect("cut at --max-tokens")


def test_commands(scripted_model: "ScriptedModel", tmp_path: Path) -> None:
    notes = tmp_path / "notes.txt"
    notes.write_text("the notes\n")
    file = tmp_path / "later.json"
    with talk(scripted_model(GREETING), tmp_path, "--seed", "5") as person:
        person.expect(r"\] >")
        person.line("/help")
        person.expect("/regen")
        person.line("/system Be short.")
        person.expect("system message set")
        person.send(f"/read {notes.parent}/no\t")
        person.expect("notes.txt")
        person.send("\r")
        person.expect("in front of your next message")
        person.line("what do they say?")
        person.expect("Hello, world!")
        person.line(f"/save {file}")
        person.expect("saved to")
        saved = roles(file)
        assert saved[0] == ("system", "Be short.")
        assert saved[1][1] == "notes.txt:\n```\nthe notes\n```\n\nwhat do they say?"
        person.line("/regen")
        person.expect("Hello, world!")
        assert roles(file) == saved
        person.line("/show")
        person.expect(r"seed +6")
        person.line("/ctx 512")
        person.expect(r"of 512 tokens")
        person.line("/clear")
        person.expect("empty again")
        assert roles(file) == [("system", "Be short.")]
        person.line("/claer")
        person.expect("perhaps /clear")
        person.line("/load nowhere.json")
        person.expect("does not exist")
        person.line("/read /dev/zero")
        person.expect("larger than 1 MiB")
        person.line(f"/read '{notes}'")
        person.expect(r"10 characters, \d+ tokens")
        person.line("/read -")
        person.expect("1 file taken away again")
        person.line(f"/save {notes}")
        person.expect("holds no transcript, so it is left alone")
        other = tmp_path / "other.json"
        hostile = "Be\x1b]0;title\x07 long.\x1b[31m"
        other.write_text(json.dumps([{"role": "system", "content": hostile}]))
        person.line(f"/load {other}")
        person.expect("later.json stays as it is")
        person.line("/system")
        person.expect("Be long.")
        assert "\x1b]0;" not in person.raw
        assert roles(file) == [("system", "Be short.")]
        person.send("/thi\t")
        person.expect("/think")
        person.line(" show")
        person.expect("reasoning is shown")


@pytest.mark.slow
def test_several_lines_and_a_private_history(scripted_model: "ScriptedModel", tmp_path: Path) -> None:
    file = tmp_path / "talk.json"
    with talk(scripted_model(GREETING), tmp_path, "-o", file) as person:
        for typed in ("first \\\rsecond\r", '"""\rone\rtwo\r"""\r', "a\x1b\rb\r", " secret\r", "//slash\r"):
            person.expect(r"\] >")
            person.send(typed)
            person.expect("Hello, world!")
        person.expect(r"\] >")
    asked = [content for role, content in roles(file) if role == "user"]
    assert [text.strip() for text in asked] == ["first \nsecond", "one\ntwo", "a\nb", "secret", "/slash"]
    history = tmp_path / "provision" / "chat-history"
    assert stat.S_IMODE(history.stat().st_mode) == 0o600
    assert "first" in history.read_text()
    assert "secret" not in history.read_text()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mode", "sees", "not_sees"), [("show", "Two and two", "thought for"), ("fold", "thought for", "Two and two")]
)
def test_reasoning_shown_or_folded(
    mode: str, sees: str, not_sees: str, scripted_model: "ScriptedModel", tmp_path: Path
) -> None:
    model = scripted_model(["<think>", "Two and", " two", "</think>", "\n\n", "It is", " 4."])
    with talk(model, tmp_path, "--think", mode) as person:
        person.expect(r"\] >")
        person.line("2+2?")
        said = person.expect(r"It is 4\.")
        assert sees in said
        assert not_sees not in said


def test_overflow_is_told_before_and_when_it_happens(scripted_model: "ScriptedModel", tmp_path: Path) -> None:
    file = tmp_path / "talk.json"
    with talk(scripted_model(GREETING), tmp_path, "--ctx", "256", "-o", file) as person:
        person.expect(r"\] >")
        person.line("a" * 160)
        person.expect(r"the context is \d+ % full")
        person.expect(r"\] >")
        person.line("b" * 80)
        person.expect(r"error: this turn needs \d+ tokens and \d+ for the answer, and the context holds 256")
        person.expect("b" * 80)
        assert len(roles(file)) == 2
        person.send("\x15")
        person.line("/set overflow drop-oldest")
        person.expect("overflow is drop-oldest now")
        person.line("c" * 80)
        person.expect("left out of the prompt, kept in the transcript: the 2 oldest messages")
        person.expect("Hello, world!")
        person.expect(r"\] >")
        assert len(roles(file)) == 4
        person.line("/set overflow grow")
        person.expect("overflow is grow now")
        person.line("d" * 80)
        person.expect("loading the model again")
        person.expect("n_ctx is 512 now")
        person.expect("Hello, world!")
        person.expect(r"/512\] >")
        person.line("/ctx 2000000000")
        person.expect(r"error: .* does not fit: main memory needs")
        person.line("/ctx")
        person.expect("of 512 tokens")


def _worker_of(person: PtySession) -> int:
    children = Path(f"/proc/{person.pid}/task/{person.pid}/children").read_text().split()
    assert len(children) == 1
    return int(children[0])
