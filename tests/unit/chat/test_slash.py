import pytest

from provision.chat.commands import _DOERS
from provision.chat.slash import COMMANDS, Command, change_sampling, completions, help_text, parse_line
from provision.chat.types import Sampling
from provision.errors import UsageError


@pytest.mark.parametrize(
    ("line", "parsed"),
    [
        ("/help", Command(name="help")),
        ("/?", Command(name="help")),
        ("/SET temperature 0.5", Command(name="set", argument="temperature 0.5")),
        ("  exit ", Command(name="exit")),
        ("QUIT", Command(name="exit")),
        ("bye", Command(name="exit")),
        ("/bye", Command(name="exit")),
        ("goodbye", "goodbye"),
        ("exit the building", "exit the building"),
        (" /etc/passwd is what?", " /etc/passwd is what?"),
        ("//comment", "/comment"),
        ("what is a/b?", "what is a/b?"),
    ],
)
def test_lines(line: str, parsed: Command | str) -> None:
    assert parse_line(line) == parsed


def test_an_unknown_command_is_not_sent_to_the_model() -> None:
    with pytest.raises(UsageError) as caught:
        parse_line("/claer")
    assert "/clear" in caught.value.hint


def test_every_command_can_be_carried_out_and_is_in_the_help() -> None:
    assert set(_DOERS) == set(COMMANDS)
    for name in COMMANDS:
        assert f"/{name}" in help_text()


def test_settings() -> None:
    assert change_sampling(Sampling(), "temperature", "0.2").temperature == 0.2
    assert change_sampling(Sampling(), "top_k", "5").top_k == 5
    assert change_sampling(Sampling(max_tokens=3), "max_tokens", "none").max_tokens is None
    assert change_sampling(Sampling(), "stop", "END").stop == ("END",)


@pytest.mark.parametrize(("name", "value"), [("temperature", "warm"), ("top_p", "1.5"), ("top_k", "2.5"), ("temprature", "1")])
def test_bad_settings_are_refused(name: str, value: str) -> None:
    with pytest.raises(UsageError) as caught:
        change_sampling(Sampling(), name, value)
    assert caught.value.code == "bad-setting"
    assert caught.value.hint


def test_completion() -> None:
    assert completions("/s") == ["/save", "/set", "/show", "/stats", "/system"]
    assert completions("/think f") == ["fold"]
    assert completions("/set te") == ["temperature"]
    assert completions("/set overflow d") == ["drop-oldest"]
    assert completions("hello /s") == []
