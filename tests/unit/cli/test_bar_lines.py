"""What a bar's line says at which width: never two lines, never without percent and speed."""

from __future__ import annotations

import io
import itertools
from dataclasses import replace

import pytest
from rich.cells import cell_len

from provision.cli.bar_lines import lay_out, line_of
from provision.cli.bars import Bars
from provision.cli.screen import open_console
from provision.cli.shorten import shorten
from provision.events import Progress

FILE = Progress(
    task="f",
    label="Qwen3-30B-A3B-Instruct-2507-Q4_K_M.gguf",
    done=4 << 30,
    total=18 << 30,
    unit="bytes",
    per_s=38e6,
    left_s=395.0,
    note="8 connections",
    brief="8 conn.",
)
MIRRORED = replace(FILE, task="m", note="8 connections · hf-mirror.com", brief="8 × hf-mirror.com")
LONG = replace(FILE, task="l", label="a-model-with-a-name-that-goes-on-and-on-and-on-UD-Q4_K_XL-00002-of-00011.gguf")
CHINESE = replace(FILE, task="c", label="通义千问三代三百亿参数混合专家指令微调版本二五零七-Q8_0.gguf")
PLAIN = replace(
    FILE, task="p", label="compiling the cuda engine", done=123, total=456, unit="steps", per_s=None, note="", brief=""
)


def drawn(width: int, *events: Progress) -> list[str]:
    out = io.StringIO()
    bars = Bars(console=open_console(out, width=width))
    for event in events:
        bars.follow(event, None)
    console = open_console(out, width=width)
    console.print(bars.make_tasks_table(bars.tasks))
    return [line.rstrip() for line in out.getvalue().splitlines()]


@pytest.mark.parametrize("event", [FILE, MIRRORED, LONG, CHINESE])
def test_at_120_columns_everything_is_there(event: Progress) -> None:
    (line,) = drawn(120, event)
    for said in ("━", "22 %", "36.2 MiB/s", "6 min 35 s left", event.note):
        assert said in line
    assert line.partition(" ")[0].endswith(".gguf")


@pytest.mark.parametrize("event", [FILE, MIRRORED, LONG, CHINESE])
@pytest.mark.parametrize("width", [80, 100])
def test_at_80_columns_everything_is_there_in_brief(event: Progress, width: int) -> None:
    (line,) = drawn(width, event)
    for said in ("━", "22 %", "36.2 MiB/s", "6 min 35 s", event.brief.partition(" ")[0] + " "):
        assert said in line
    if event is MIRRORED:
        assert "hf-mirror.com" in line


@pytest.mark.parametrize("event", [FILE, MIRRORED, LONG, CHINESE])
def test_at_60_columns_as_well(event: Progress) -> None:
    (line,) = drawn(60, event)
    for said in ("━", "22 %", "36.2 MiB/s", "6 min 35 s", event.brief[:3]):
        assert said in line


@pytest.mark.parametrize("width", [20, 24, 30, 40, 50, 59, 60, 61, 72, 79, 80, 81, 99, 120, 200])
def test_a_task_is_one_line_and_keeps_percent_and_speed(width: int) -> None:
    for count in (1, 2, 3):
        for events in itertools.combinations((FILE, MIRRORED, LONG, CHINESE, PLAIN), count):
            lines = drawn(width, *events)
            assert len(lines) == count
            for event, line in zip(events, lines, strict=True):
                assert cell_len(line) < width
                assert ("22 %" if event.unit == "bytes" else "26 %") in line
                assert event.per_s is None or "36.2 MiB/s" in line


def test_a_build_counts_its_steps_where_there_is_room() -> None:
    assert "123/456 steps" in drawn(80, PLAIN)[0]
    assert "26 %" in drawn(40, PLAIN)[0]


def test_a_task_of_unknown_length_says_what_it_is() -> None:
    looking = Progress(task="t", label="loading m", done=0, total=None, unit="steps")
    (line,) = drawn(60, looking)
    assert "loading m" in line
    assert "?" not in line
    unknown = Progress(task="t", label="downloading cuda", done=5 << 20, total=None, unit="bytes")
    assert "5.0 MiB" in drawn(60, unknown)[0]


def test_the_layout_stands_still_while_numbers_change() -> None:
    early = line_of(replace(FILE, done=1 << 20, per_s=3e6, left_s=6.0))
    late = line_of(replace(FILE, done=17 << 30, per_s=900e6, left_s=2000.0))
    for width in (60, 80, 99):
        assert lay_out([early], width) == lay_out([late], width)


@pytest.mark.parametrize(
    ("name", "width", "short"),
    [
        ("m-Q8_0.gguf", 20, "m-Q8_0.gguf"),
        ("Qwen3-30B-A3B-Instruct-2507-Q4_K_M.gguf", 24, "Qwen3-30B-A3…Q4_K_M.gguf"),
        ("BF16/Big-Model-BF16-00001-of-00003.gguf", 24, "BF16/Bi…BF16-1-of-3.gguf"),
        ("UD-Q4_K_XL/Big-UD-Q4_K_XL-00012-of-00100.gguf", 16, "UD-Q4_K_XL….gguf"),
        ("通义千问三代三百亿-Q8_0.gguf", 16, "通义千…Q8_0.gguf"),
        ("a-text-without-any-label-at-all.json", 16, "a-text-wit….json"),
        ("no-extension-and-no-label-whatever", 12, "no-extensio…"),
        ("x-Q4_K_M.gguf", 3, "Q4…"),
        ("x-Q4_K_M.gguf", 0, ""),
    ],
)
def test_a_name_keeps_its_quant_and_extension(name: str, width: int, short: str) -> None:
    assert shorten(name, width) == short
    assert cell_len(short) <= width
