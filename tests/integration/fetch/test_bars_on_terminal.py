"""`provision fetch` and `verify` as a person sees them: on terminals of several widths."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.cells import cell_len

from provision.units import MIB
from tests.support.commands import private_environ
from tests.support.hub import Noise, RunningHub, repo, start_hub
from tests.support.pty_session import PtySession

pytestmark = pytest.mark.integration

NAME = "Qwen3-30B-A3B-Instruct-2507-Q4_K_M.gguf"
CHINESE = "通义千问三代三百亿参数混合专家指令微调版本-Q8_0.gguf"
HOSTILE = "m\x9b2J\u202efugg-Q4_K_M.gguf"
_CODES = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")


@pytest.fixture
def hub() -> Iterator[RunningHub]:
    files = {NAME: Noise(3 * MIB, seed=4), CHINESE: Noise(3 * MIB, seed=5)}
    with start_hub(repos=[repo("org/m", files), repo("org/evil", {HOSTILE: Noise(10, seed=6)})]) as running:
        yield running


def session(hub: RunningHub, home: Path, *words: str, columns: int, **environ: str) -> PtySession:
    argv = [sys.executable, "-m", "provision", *words]
    return PtySession(argv, environ={**private_environ(home), "HF_ENDPOINT": hub.url, **environ}, columns=columns)


def bars(terminal: PtySession, *, since: int = 0) -> list[str]:
    """Every state of the bar that knew its speed."""
    lines = [line.rstrip() for line in re.split(r"[\r\n]+", _CODES.sub("", terminal.raw[since:]))]
    return [line for line in lines if re.search(r"\d %.*/s", line)]


@pytest.mark.parametrize("columns", [60, 80, 120])
@pytest.mark.parametrize(("quant", "end"), [("Q4_K_M", "Q4_K_M.gguf"), ("Q8_0", "Q8_0.gguf")])
def test_a_bar_says_everything_on_one_line(hub: RunningHub, tmp_path: Path, columns: int, quant: str, end: str) -> None:
    words = ("fetch", f"org/m:{quant}", "--limit-rate", "1M", "--connections", "2")
    with session(hub, tmp_path, *words, columns=columns) as terminal:
        assert terminal.end() == 0
    shown = bars(terminal)
    assert shown
    assert all(cell_len(line) < columns for line in shown)
    host = hub.url.partition("://")[2]
    for line in shown:
        assert line.startswith(("Qwen", "通义"))
        assert end in line
        assert re.search(r"━|╸", line) or line.find(" 0 %") > 0
        assert re.search(r"\d+ % +[\d.]+ [KM]?i?B/s +[\d.]+ s", line)
        assert re.search(rf"\d × {re.escape(host[:2])}" if columns < 120 else rf"connections? · {re.escape(host)}", line)


def test_a_narrower_window_gets_shorter_lines(hub: RunningHub, tmp_path: Path) -> None:
    words = ("fetch", "org/m:Q4_K_M", "--limit-rate", "1M")
    with session(hub, tmp_path, *words, columns=120) as terminal:
        terminal.expect(r"\d %.*/s")
        terminal.resize(60)
        seen = len(terminal.raw)
        assert terminal.end() == 0
    # One drawing may have been on its way.
    late = bars(terminal, since=seen)[1:]
    assert late
    assert all(cell_len(line) < 60 for line in late)


def test_a_dumb_terminal_gets_lines_and_no_codes(hub: RunningHub, tmp_path: Path) -> None:
    words = ("fetch", "org/m:Q4_K_M", "--limit-rate", "400K")
    with session(hub, tmp_path, *words, columns=60, TERM="dumb") as terminal:
        assert terminal.end() == 0
    assert "\x1b" not in terminal.raw
    assert re.search(rf"{re.escape(NAME)}  [\d.]+ [KM]iB / 3.0 MiB \(\d+ %\)", terminal.raw)


@pytest.mark.parametrize("words", [("fetch", "org/evil:Q4_K_M"), ("fetch", "org/evil", "--file", HOSTILE)])
def test_a_name_that_a_terminal_would_obey_is_refused(hub: RunningHub, tmp_path: Path, words: tuple[str, ...]) -> None:
    with session(hub, tmp_path, *words, columns=80) as terminal:
        assert terminal.end() == 8
    assert "not safe to write" in terminal.text
    assert not re.search("[\x80-\x9f\u202e]", terminal.raw)
    assert not list((tmp_path / ".cache").rglob("*.gguf"))
