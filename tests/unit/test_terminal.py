import json

import pytest

from provision.result import json_text
from provision.terminal import TerminalFilter, harmless, strip_terminal_escapes

HOSTILE = [
    ("\x1b[2J\x1b[Hhello", "hello"),
    ("a\x1b]0;title\x07b", "ab"),
    ("a\x1b]52;c;cm0gLXJm\x1b\\b", "ab"),
    ("a\x9b31mb", "ab"),
    ("a\x9d0;t\x9cb", "ab"),
    ("a\x1bPdcs\x1b\\b", "ab"),
    ("a\x1b_apc\x1b\\b", "ab"),
    ("a\x1b(0b", "ab"),
    ("a\x1bcb", "ab"),
    ("bell\x07 back\x08 del\x7f nul\x00", "bell back del nul"),
    ("over\rwritten", "overwritten"),
    ("kept\n\ttab 中文 é", "kept\n\ttab 中文 é"),
    ("\x1b\x1b[31mx", "x"),
    ("a\x1b[31\nb", "a\nb"),
]


@pytest.mark.parametrize(("raw", "clean"), HOSTILE)
@pytest.mark.parametrize("size", [1, 2, 5, 1000])
def test_sequences_go_wherever_they_are_cut(raw: str, clean: str, size: int) -> None:
    terminal = TerminalFilter()
    assert "".join(terminal.feed(raw[at : at + size]) for at in range(0, len(raw), size)) == clean


def test_a_sequence_that_never_ends_does_not_swallow_the_answer() -> None:
    text = strip_terminal_escapes("\x1b]0;" + "x" * 2000 + "the end")
    assert text.endswith("the end")
    assert "\x1b" not in text


def test_json_carries_no_control_a_terminal_would_obey_and_still_means_the_same() -> None:
    value = {"text": "a\x9b31m\x7f中"}
    written = json_text(value)
    assert "\x9b" not in written
    assert "\x7f" not in written
    assert json.loads(written) == value


def test_names_lose_what_turns_their_direction_and_speech_keeps_it() -> None:
    assert harmless("a\u202efugg\x9b2J.exe\u2069 \u061c\u200f中") == "afugg.exe 中"
    assert harmless("می\u200cخواهم") == "می\u200cخواهم"
    assert TerminalFilter().feed("שלום\u200f!") == "שלום\u200f!"
    assert json_text({"name": "a\u202eb"}) == '{"name": "a\\u202eb"}'
