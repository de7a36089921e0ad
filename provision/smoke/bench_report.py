"""Bench rows as Markdown, as a picture (SVG) and as bars for a terminal. Pure text from `data` of `provision bench`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any
from xml.sax.saxutils import escape

Rows = Sequence[Mapping[str, Any]]
_COLOURS = {"pp": "#4878d0", "tg": "#ee854a"}


def short_device(device: str) -> str:
    """`CUDA0` of `CUDA0 (NVIDIA L4)`, `CUDA0+CUDA1` of two: names of cards are long, and are told once below the table."""
    return "+".join(re.findall(r"(?:^|, )([^\s(),]+)(?= \(|, |$)", device)) or device


def devices(rows: Rows) -> list[str]:
    """What the short names stand for, one sentence each; nothing for a plain CPU."""
    return [
        f"{short_device(name)}: {name}" for name in dict.fromkeys(row["device"] for row in rows) if short_device(name) != name
    ]


def label(row: Mapping[str, Any]) -> str:
    """`Q8_0 · CPU · 4 threads`: what tells one measured setting from another."""
    threads = f"{row['n_threads']} thread{'' if row['n_threads'] == 1 else 's'}"
    return f"{row['quant'] or row['model']} · {short_device(row['device'])} · {threads}"


def number(value: float, *, like: float | None = None) -> str:
    """Digits that mean something: `1043`, `530.8`, `76.92`, `0.0217`; with as many decimals as `like` has when given."""
    scale = value if like is None else like
    digits = 0 if scale >= 999.5 else 1 if scale >= 99.95 else 2 if scale >= 0.995 else 4
    return f"{value:.{digits}f}"


_UNITS = (("tokens/s", "tokens_per_s"), ("ms/token", "ms_per_token"), ("s/100 tokens", "s_per_100_tokens"))


def side_by_side(rows: Rows) -> list[tuple[str, str, str, str, str, str]]:
    """CPU against GPU: (model, test, unit, CPU, GPU, gain) for each model and test measured on both, each side's fastest
    thread count. Empty when there is only one side."""
    pairs: dict[tuple[str, str], dict[bool, Mapping[str, Any]]] = {}
    for row in rows:
        sides = pairs.setdefault((row["model"], row["test"]), {})
        on_gpu = bool(row["offloaded_layers"])
        if on_gpu not in sides or row["tokens_per_s"] > sides[on_gpu]["tokens_per_s"]:
            sides[on_gpu] = row
    lines = []
    for (model, test), sides in pairs.items():
        if len(sides) == 2:
            cpu, gpu = sides[False], sides[True]
            for unit, key in _UNITS:
                gain = f"{number(gpu[key] / cpu[key])} x" if key == "tokens_per_s" else ""
                lines.append((cpu["quant"] or model, test, unit, number(cpu[key]), number(gpu[key]), gain))
    return lines


def markdown(rows: Rows, notes: Sequence[str]) -> str:
    """A table as people paste it into issues, tokens/s with its spread; CPU and GPU side by side where both were measured."""
    lines = [
        "| model | device | threads | test | tokens/s | ms/token | s/100 tokens |",
        "|---|---|---:|---|---:|---:|---:|",
    ]
    for row in rows:
        speed = f"{number(row['tokens_per_s'])} ± {number(row['tokens_per_s_stdev'], like=row['tokens_per_s'])}"
        cells = (row["model"], row["device"], row["n_threads"], row["test"], speed)
        lines.append(_markdown_row([*cells, number(row["ms_per_token"]), number(row["s_per_100_tokens"])]))
    pairs = side_by_side(rows)
    if pairs:
        lines += ["", "| model | test | | CPU | GPU | GPU / CPU |", "|---|---|---|---:|---:|---:|"]
        lines += [_markdown_row(cells) for cells in pairs]
    return "\n".join([*lines, *("\n" + note for note in notes)]) + "\n"


def _markdown_row(cells: Sequence[Any]) -> str:
    return f"| {' | '.join(str(cell).replace('|', chr(92) + '|') for cell in cells)} |"


def bars(rows: Rows, *, width: int) -> list[str]:
    """One line per row, none wider than `width` where that can be: label, a bar as long as its share of the fastest of its
    test, the figure."""
    lines = []
    for test in dict.fromkeys(row["test"] for row in rows):
        group = [row for row in rows if row["test"] == test]
        longest = max(len(label(row)) for row in group)
        figures = [f" {number(row['tokens_per_s'])} tok/s" for row in group]
        room = max(4, width - longest - 3 - max(len(figure) for figure in figures))
        top = max(row["tokens_per_s"] for row in group)
        lines.append(test)
        for row, figure in zip(group, figures, strict=True):
            bar = "█" * max(1, round(room * row["tokens_per_s"] / top))
            lines.append(f"  {label(row):<{longest}} {bar}{figure}")
    return lines


def svg(rows: Rows) -> str:
    """A bar chart with error bars of one standard deviation, one panel per test; text is escaped."""
    panels = []
    top = 16
    for test in dict.fromkeys(row["test"] for row in rows):
        group = [row for row in rows if row["test"] == test]
        panels.append(_panel(test, group, top))
        top += 44 + 30 * len(group)
    for said in devices(rows):
        panels.append(f'<text x="16" y="{top + 4}" fill="#555555">{escape(said)}</text>')
        top += 22
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="760" height="{top}" font-family="sans-serif" font-size="13">'
    return "\n".join([head, '<rect width="100%" height="100%" fill="white"/>', *panels, "</svg>"]) + "\n"


def _panel(test: str, group: Rows, top: int) -> str:
    best = max(row["tokens_per_s"] + row["tokens_per_s_stdev"] for row in group)
    colour = _COLOURS.get(test[:2], "#888888")
    parts = [f'<text x="16" y="{top + 14}" font-weight="bold">{escape(test)}, tokens per second</text>']
    for index, row in enumerate(group):
        y = top + 28 + 30 * index
        length = 330 * row["tokens_per_s"] / best
        spread = 330 * row["tokens_per_s_stdev"] / best
        end = 300 + length
        parts += [
            f'<text x="290" y="{y + 14}" text-anchor="end">{escape(label(row)[:44])}</text>',
            f'<rect x="300" y="{y}" width="{length:.1f}" height="20" fill="{colour}"/>',
            f'<line x1="{end - spread:.1f}" x2="{end + spread:.1f}" y1="{y + 10}" y2="{y + 10}" stroke="black"/>',
            f'<text x="{end + spread + 6:.1f}" y="{y + 14}">{number(row["tokens_per_s"])}</text>',
        ]
    return "\n".join(parts)
