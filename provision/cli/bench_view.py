"""How bench figures are shown, and the files they are written to."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from provision.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console


def render_bench(console: Console, data: Mapping[str, Any]) -> None:
    """A table, CPU against GPU where both were measured, bars when there is something to compare, then the notes."""
    from provision.smoke.bench_report import bars, devices, number, short_device, side_by_side

    rows = data["rows"]
    cells = [
        (
            row["quant"] or row["model"],
            short_device(row["device"]),
            row["n_threads"],
            row["test"],
            f"{number(row['tokens_per_s'])} ± {number(row['tokens_per_s_stdev'], like=row['tokens_per_s'])}",
            number(row["ms_per_token"]),
            number(row["s_per_100_tokens"]),
        )
        for row in rows
    ]
    _table(console, ("model", "device", "threads >", "test", "tokens/s >", "ms/token >", "s/100 tokens >"), cells)
    pairs = side_by_side(rows)
    if pairs:
        _table(console, ("model", "test", "", "CPU >", "GPU >", "GPU / CPU >"), pairs)
    tests = [row["test"] for row in rows]
    if len(tests) > len(set(tests)):
        for line in bars(rows, width=console.width):
            console.print(line, markup=False, highlight=False, no_wrap=True, overflow="crop")
    for note in (*devices(rows), *data["notes"]):
        console.print(note, markup=False, highlight=False)


def _table(console: Console, titles: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """A plain table; a title that ends in ` >` is of a column of figures, set to the right and never broken."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE, show_edge=False, pad_edge=False)
    for title in titles:
        figures = title.endswith(" >")
        table.add_column(title.removesuffix(" >"), justify="right" if figures else "left", no_wrap=figures, overflow="fold")
    for row in rows:
        table.add_row(*(Text(str(cell)) for cell in row))
    console.print(table)


def write_report(path: Path, data: Mapping[str, Any]) -> None:
    """`data` as JSON, Markdown or SVG, by the file's ending; nothing half-written is ever seen."""
    from provision.smoke.bench_report import markdown, svg

    match path.suffix.lower():
        case ".json":
            text = json.dumps(data, ensure_ascii=False, indent=1) + "\n"
        case ".md":
            text = markdown(data["rows"], data["notes"])
        case _:
            text = svg(data["rows"])
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except OSError as error:
        raise UsageError(
            f"cannot write {path}: {error.strerror}", code="cannot-write", hint=f"mkdir -p {path.parent}"
        ) from error
