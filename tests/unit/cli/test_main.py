"""The error boundary: every way a command can end, in both voices."""

import json
from typing import Any

import pytest
import typer

from provision.cli import main as boundary
from provision.cli.session import JsonOption, Spoken
from provision.errors import AccessError, ExitCode, NotFoundError
from provision.result import ErrorItem, Result


def speak(console: Any, data: Any) -> None:
    console.print(f"hello {data['name']}")


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> None:
    def good(name: str, json: JsonOption = False) -> Spoken:
        return Spoken(result=Result(command="good", data={"name": name}), render=lambda console, data: speak(console, data))

    def partial(json: JsonOption = False) -> Spoken:
        item = ErrorItem(code="half", message="half of it", hint="provision good x")
        result = Result(
            command="partial", data={"name": "x"}, status="partial", exit_code=ExitCode.DOES_NOT_FIT, errors=(item,)
        )
        return Spoken(result=result, render=speak)

    def known(json: JsonOption = False) -> Spoken:
        raise AccessError("the repository is gated", code="gated", hint="visit its page")

    def bug(json: JsonOption = False) -> Spoken:
        raise ZeroDivisionError("of ours")

    def interrupted(json: JsonOption = False) -> Spoken:
        raise KeyboardInterrupt

    def register(app: typer.Typer, *, only: str) -> None:
        for command in (good, partial, known, bug, interrupted):
            app.command(command.__name__)(command)

    monkeypatch.setattr(boundary, "register", register)


@pytest.mark.usefixtures("commands")
@pytest.mark.parametrize(
    ("argv", "code", "error"),
    [
        (["good", "you"], 0, None),
        (["partial"], 9, "half"),
        (["known"], 6, "gated"),
        (["bug"], 70, "bug"),
        (["interrupted"], 130, "interrupted"),
        (["good"], 2, "usage"),
        (["good", "you", "--nonsense"], 2, "usage"),
        (["nonsense"], 2, "usage"),
    ],
)
def test_json_is_one_object_alone_on_stdout_and_the_exit_code_is_the_same_without_it(
    argv: list[str], code: int, error: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert boundary.main([*argv, "--json"]) == code
    spoken = capsys.readouterr()
    envelope = json.loads(spoken.out)
    assert list(envelope) == ["provision", "command", "status", "exit_code", "data", "errors"]
    assert envelope["provision"] == "1"
    assert envelope["command"] == argv[0]
    assert envelope["exit_code"] == code
    assert [item["code"] for item in envelope["errors"]] == ([error] if error else [])
    assert (envelope["status"] == "ok") == (code == 0)

    assert boundary.main(argv) == code
    spoken = capsys.readouterr()
    assert ("hello" in spoken.out) == (argv[0] in {"good", "partial"} and error != "usage")
    assert ("error: " in spoken.err) == (error is not None)


@pytest.mark.usefixtures("commands")
def test_a_bug_shows_its_traceback_on_stderr_only(capsys: pytest.CaptureFixture[str]) -> None:
    assert boundary.main(["bug", "--json"]) == ExitCode.BUG
    spoken = capsys.readouterr()
    assert "Traceback" in spoken.err
    assert "Traceback" not in spoken.out


@pytest.mark.usefixtures("commands")
def test_a_renderer_that_fails_is_a_bug_too(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def broken(console: Any, data: Any) -> None:
        raise KeyError("no such key")

    monkeypatch.setattr(f"{__name__}.speak", broken)
    assert boundary.main(["good", "you"]) == ExitCode.BUG
    assert "a bug in provision" in capsys.readouterr().err


@pytest.mark.usefixtures("commands")
def test_json_after_a_double_dash_is_an_argument(capsys: pytest.CaptureFixture[str]) -> None:
    assert boundary.main(["good", "--", "--json"]) == 0
    assert capsys.readouterr().out == "hello --json\n"


def test_every_error_class_ends_in_its_own_code() -> None:
    codes = {kind.exit_code for kind in (AccessError, NotFoundError)}
    assert codes == {ExitCode.ACCESS, ExitCode.NOT_FOUND}


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    from provision import __version__

    assert boundary.main(["--version"]) == 0
    assert capsys.readouterr().out == f"provision {__version__}\n"
