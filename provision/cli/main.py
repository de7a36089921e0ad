"""The one error boundary: whatever happens below ends here in one result, one exit code, one voice."""

from __future__ import annotations

import gc
import os
import signal
import sys
import traceback
from collections.abc import Sequence

import typer
from typer.exceptions import TyperException

from provision import __version__
from provision.cli.commands import register
from provision.cli.session import Spoken, human_console
from provision.errors import ExitCode, ProvisionError
from provision.result import ErrorItem, Result, failed, json_text

ISSUES_URL = "the issue tracker of the project"
_OBJECTS_BETWEEN_COLLECTIONS = 50_000


def make_app(command: str = "") -> typer.Typer:
    """The Typer application with every command registered; with the name of one, with little more than that."""
    app = typer.Typer(
        name="provision",
        help="From a bare machine to a verified local LLM chat, and the proof that it is right.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
    )

    @app.callback(invoke_without_command=True)
    def root(version: bool = typer.Option(False, "--version", help="Print the version and exit.")) -> None:
        if version:
            print(f"provision {__version__}")
            raise typer.Exit(0)

    register(app, only=command)
    return app


def main(argv: Sequence[str], *, interrupted: bool = False) -> int:
    """Run one command line; returns the exit code. stdout gets the result, stderr everything else.

    `interrupted`: Ctrl-C came while the program was starting.
    """
    json_wanted = _asks_for_json(argv)
    command = next((word for word in argv if not word.startswith("-")), "")
    try:
        if interrupted:
            raise KeyboardInterrupt
        outcome = make_app(argv[0] if argv else "")(args=_split_joined(argv), prog_name="provision", standalone_mode=False)
        if isinstance(outcome, Spoken):
            return _speak(outcome, json_wanted=json_wanted)
        if outcome == ExitCode.INTERRUPTED:
            # Typer turns Ctrl-C inside a command into this number.
            raise KeyboardInterrupt
        return outcome if isinstance(outcome, int) else ExitCode.OK
    except ProvisionError as error:
        return _speak_failure(failed(command, error), json_wanted=json_wanted)
    except TyperException as error:
        return _speak_failure(_usage_failure(command, error), json_wanted=json_wanted)
    except (typer.Abort, KeyboardInterrupt):
        return _speak_failure(_interruption(command), json_wanted=json_wanted)
    except typer.Exit as leaving:
        return leaving.exit_code
    except BrokenPipeError:
        # Whoever read us has gone (`provision ... | head`). Nothing is left to say, and Python must not try at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.FAILURE
    except Exception as error:
        traceback.print_exc(file=sys.stderr)
        item = ErrorItem(
            code="bug",
            message=f"a bug in provision: {type(error).__name__}: {error}",
            hint=f"please report the traceback above in {ISSUES_URL}, with the output of: provision doctor --markdown",
        )
        result = Result(command=command, status="error", exit_code=ExitCode.BUG, errors=(item,))
        return _speak_failure(result, json_wanted=json_wanted)


def run(*, interrupted: bool = False) -> None:
    """The whole process, once everything is imported; `provision.__main__` comes before."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        # Closed by whoever started us (`>&-`): then nobody listens, and no file of ours may get that number either.
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115 - for as long as we live
    for stream in (sys.stdout, sys.stderr):
        # A Latin-1 or C locale must not turn a check mark or a Chinese answer into a crash.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(encoding="utf-8", errors="replace")
    # A polite kill ends like Ctrl-C: what we started is stopped, what arrived is kept.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # Starting is importing: tens of thousands of objects that stay. The collector would walk them again and again, and once
    # more at exit: a fifth of the CPU time of a short command.
    gc.freeze()
    gc.set_threshold(_OBJECTS_BETWEEN_COLLECTIONS)
    try:
        code = int(main(sys.argv[1:], interrupted=interrupted))
    except KeyboardInterrupt:
        # Once more, while the first was being told.
        code = int(ExitCode.INTERRUPTED)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        # All is said; Ctrl-C during Python's own last steps has nothing to add but a traceback.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    gc.freeze()
    sys.exit(code)


def _asks_for_json(argv: Sequence[str]) -> bool:
    words = list(argv)
    return "--json" in (words[: words.index("--")] if "--" in words else words)


def _split_joined(argv: Sequence[str]) -> list[str]:
    """`chat -io FILE` is one flag with two letters in the contract; the parser would read it as `-i o`."""
    return ["--history" if word == "-io" else word for word in argv]


def _interruption(command: str) -> Result:
    item = ErrorItem(code="interrupted", message="interrupted", hint="run the same command again; it goes on where it stopped")
    return Result(command=command, status="error", exit_code=ExitCode.INTERRUPTED, errors=(item,))


def _usage_failure(command: str, error: TyperException) -> Result:
    item = ErrorItem(code="usage", message=error.format_message(), hint=f"see: provision {command} --help".replace("  ", " "))
    return Result(command=command, status="error", exit_code=ExitCode.USAGE, errors=(item,))


def _speak(spoken: Spoken, *, json_wanted: bool) -> int:
    if json_wanted:
        print(json_text(spoken.result.envelope()))
    else:
        spoken.render(human_console(), spoken.result.data)
        _print_errors(spoken.result)
    sys.stdout.flush()
    return int(spoken.result.exit_code)


def _speak_failure(result: Result, *, json_wanted: bool) -> int:
    if json_wanted:
        print(json_text(result.envelope()))
    else:
        _print_errors(result)
    return int(result.exit_code)


def _print_errors(result: Result) -> None:
    from provision.cli.called import as_called
    from provision.cli.screen import tell

    for item in result.errors:
        tell(sys.stderr, f"error: {item.message}")
        if item.hint:
            tell(sys.stderr, f"  → {as_called(item.hint)}")
