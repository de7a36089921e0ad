"""Bench rows as Markdown, as a picture (SVG) and as bars for a terminal. Pure text from `data` of `provision bench`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from xml.sax.saxutils import escape

Rows = Sequence[Mapping[str, Any]]
_COLOURS = {"pp": "#4878d0", "tg": "#ee854a"}


def label(row: Mapping[str, Any]) -> str:
    """`Q8_0 · CPU · 4 threads`: what tells one measured setting from another."""
    return f"{row['quant'] or row['model']} · {row['device']} · {row['n_threads']} thread{'' if row['n_threads'] == 1 else 's'}"


def markdown(rows: Rows, notes: Sequence[str]) -> str:
    """A table as people paste it into issues, tokens/s with its spread."""
    lines = [
        "| model | device | threads | test | tokens/s | ms/token | s/100 tokens |",
        "|---|---|---:|---|---:|---:|---:|",
    ]
    for row in rows:
        speed = f"{row['tokens_per_s']:.2f} ± {row['tokens_per_s_stdev']:.2f}"
        cells = (row["model"], row["device"], row["n_threads"], row["test"], speed, f"{row['ms_per_token']:.2f}")
        clean = " | ".join(str(cell).replace("|", "\\|") for cell in cells)
        lines.append(f"| {clean} | {row['s_per_100_tokens']:.2f} |")
    return "\n".join([*lines, *("\n" + note for note in notes)]) + "\n"


def bars(rows: Rows, *, width: int) -> list[str]:
    """One line per row: label, a bar as long as its share of the fastest of its test, the figure."""
    lines = []
    for test in dict.fromkeys(row["test"] for row in rows):
        group = [row for row in rows if row["test"] == test]
        longest = max(len(label(row)) for row in group)
        room = max(10, width - longest - 22)
        top = max(row["tokens_per_s"] for row in group)
        lines.append(test)
        for row in group:
            bar = "█" * max(1, round(room * row["tokens_per_s"] / top))
            lines.append(f"  {label(row):<{longest}} {bar} {row['tokens_per_s']:.1f} tok/s")
    return lines


def svg(rows: Rows) -> str:
    """A bar chart with error bars of one standard deviation, one panel per test; text is escaped."""
    panels = []
    top = 16
    for test in dict.fromkeys(row["test"] for row in rows):
        group = [row for row in rows if row["test"] == test]
        panels.append(_panel(test, group, top))
        top += 44 + 30 * len(group)
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
            f'<text x="{end + spread + 6:.1f}" y="{y + 14}">{row["tokens_per_s"]:.1f}</text>',
        ]
    return "\n".join(parts)
