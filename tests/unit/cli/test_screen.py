"""Nothing that people see is obeyed by their terminal, whichever way it takes to the screen."""

from __future__ import annotations

import ast
import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.table import Table
from rich.text import Text

import provision.cli
from provision.cli import cache, fetch, verify
from provision.cli.progress import make_reporter
from provision.cli.screen import open_console, tell
from provision.cli.session import human_console
from provision.events import Note, Progress, StepEnded, StepStarted

HOSTILE = "a\x9b2Jb\x1b]0;title\x07\u202efugg\x85.exe"
OBEYED = ("\x1b", "\x07", "\x9b", "\x85", "\u202e")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown(*, terminal: bool = False) -> Any:
    return Terminal() if terminal else io.StringIO()


def harmless_on(out: io.StringIO) -> bool:
    return not any(sign in out.getvalue() for sign in OBEYED) and "abfugg.exe" in out.getvalue()


def test_lines_tables_and_texts_are_made_harmless() -> None:
    table = Table()
    table.add_column("name")
    table.add_row(HOSTILE)
    for renderable in (HOSTILE, table):
        out = shown()
        open_console(out, width=80).print(renderable)
        assert harmless_on(out), out.getvalue()
    out = shown()
    # rich takes the BEL out of a Text itself, so the title has no end, and its contents go as well.
    open_console(out, width=80).print(Text(HOSTILE))
    assert out.getvalue().startswith("ab")
    assert not any(sign in out.getvalue() for sign in OBEYED)
    out = shown()
    tell(out, HOSTILE)
    assert out.getvalue() == "abfugg.exe\n"


def test_brackets_and_colons_of_a_name_stay() -> None:
    out = shown()
    table = Table()
    table.add_column("name")
    table.add_row("[red]m[/red] :smile:")
    open_console(out, width=80).print(table)
    assert "[red]m[/red] :smile:" in out.getvalue()


@pytest.mark.parametrize("mode", ["plain", "auto"])
@pytest.mark.parametrize(
    "event",
    [
        Note(level="warning", message=HOSTILE),
        StepStarted(step="s", title=HOSTILE),
        StepEnded(step="s", status="done", summary=HOSTILE, elapsed_s=1.0),
    ],
)
def test_what_is_reported_meanwhile_is_harmless(mode: str, event: Any) -> None:
    out = shown(terminal=mode == "auto")
    make_reporter(mode=mode, stream=out)(event)
    assert harmless_on(out)


def test_a_bar_with_a_hostile_name_is_harmless(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    out = shown(terminal=True)
    report = make_reporter(mode="auto", stream=out)
    report(Progress(task="f", label=HOSTILE, done=1, total=2, unit="bytes"))
    report(Note(level="info", message=HOSTILE))
    assert "abfugg.exe" in out.getvalue()
    assert not any(sign in out.getvalue() for sign in ("\x07", "\x9b", "\x85", "\u202e", "]0;"))


def test_events_for_programs_escape_it_and_mean_the_same() -> None:
    out = shown()
    make_reporter(mode="json", stream=out)(Note(level="info", message=HOSTILE))
    assert not any(sign in out.getvalue() for sign in OBEYED)
    assert json.loads(out.getvalue())["message"] == HOSTILE


def _file(**more: Any) -> dict[str, Any]:
    return {"path": HOSTILE, "size_bytes": 1, "local_path": f"/c/{HOSTILE}", "missing_bytes": 0, "revision": None, **more}


DONE: dict[str, Any] = {"repo_id": "o/r", "commit": "c" * 40, "bytes_per_s": None, "elapsed_s": 1.0}


@pytest.mark.parametrize(
    ("render", "data"),
    [
        (fetch._render, {**DONE, "files": [_file(action="downloaded", sources={HOSTILE: 1, "x": 2}, transferred_bytes=3)]}),
        (
            fetch._render_plan,
            {**DONE, "files": [_file(action="keep")], "free_bytes": 1, "missing_bytes": 0, "sources": [HOSTILE]},
        ),
        (verify._render, {"files": [_file(status="ok")]}),
        (cache._render_verify, {"files": [{"status": "ok", "name": HOSTILE}]}),
    ],
)
def test_results_are_harmless(render: Any, data: dict[str, Any]) -> None:
    out = shown()
    render(open_console(out, width=120), data)
    assert harmless_on(out), out.getvalue()


def test_many_files_say_their_folder_once_and_no_name_is_broken_in_two() -> None:
    names = [f"data/{'a-long-name-' * 8}{number:03d}.json" for number in range(50)]
    files = [
        {
            "path": name,
            "local_path": f"/c/{name}",
            "size_bytes": 1,
            "action": "downloaded",
            "sources": {},
            "transferred_bytes": 1,
        }
        for name in names
    ]
    out = shown()
    fetch._render(open_console(out, width=80), {**DONE, "files": files})
    lines = out.getvalue().splitlines()
    assert [line.split()[1] for line in lines[:50]] == names
    assert lines[50] == "all in /c/"
    assert len(lines) == 52
    planned = [{**file, "action": "download", "missing_bytes": 1} for file in files[:2]]
    out = shown()
    data = {**DONE, "files": planned, "free_bytes": None, "missing_bytes": 2, "sources": ["x"]}
    fetch._render_plan(open_console(out, width=80), data)
    assert out.getvalue().splitlines()[1].strip() == f"/c/{names[0]}"
    out = shown()
    verify._render(open_console(out, width=80), {"files": [_file(path=names[0], status="ok")]})
    assert out.getvalue().splitlines()[0] == f"✓ {names[0]}  1 B  ok"


@pytest.mark.parametrize(("columns", "width"), [("", 80), ("wide", 80), ("40", 80), ("132", 132), ("-1", 80)])
def test_columns_of_the_environment_are_taken_for_what_they_are(
    columns: str, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setattr("sys.stdout", io.StringIO())
    assert human_console().width == width


# Answers pass a filter of their own; JSON and documents to be redirected are no screen text.
_DOORS = {
    "screen.py": {"write"},
    "console.py": {"Console"},
    "chat_voice.py": {"write"},
    "progress.py": {"write"},
    "main.py": {"print"},
    "recipe.py": {"write"},
    "serve.py": {"write"},
    "bench_view.py": {"write"},
}


def test_there_is_no_other_door_to_the_screen() -> None:
    found = set()
    for path in Path(provision.cli.__path__[0]).glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                called = node.func
                name = called.id if isinstance(called, ast.Name) else called.attr if isinstance(called, ast.Attribute) else ""
                bare_print = name == "print" and isinstance(called, ast.Name)
                if (name in ("write", "Console", "echo", "secho") or bare_print) and name not in _DOORS.get(path.name, set()):
                    found.add(f"{path.name}:{node.lineno} {name}")
    assert found == set()
