"""How bench figures are shown, and the files they are written to."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from provision.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console


def render_bench(console: Console, data: Mapping[str, Any]) -> None:
    """A table, then bars when there is something to compare, then the notes."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from provision.smoke.bench_report import bars

    table = Table(box=box.SIMPLE, show_edge=False, pad_edge=False)
    for title, justify in (("model", "left"), ("device", "left"), ("threads", "right"), ("test", "left")):
        table.add_column(title, justify="right" if justify == "right" else "left", overflow="fold")
    for title in ("tokens/s", "ms/token", "s/100 tokens"):
        table.add_column(title, justify="right", no_wrap=True)
    for row in data["rows"]:
        speed = f"{row['tokens_per_s']:.1f} ± {row['tokens_per_s_stdev']:.1f}"
        cells = (row["quant"] or row["model"], row["device"], row["n_threads"], row["test"], speed)
        figures = (f"{row['ms_per_token']:.2f}", f"{row['s_per_100_tokens']:.2f}")
        table.add_row(*(Text(str(cell)) for cell in (*cells, *figures)))
    console.print(table)
    tests = [row["test"] for row in data["rows"]]
    if len(tests) > len(set(tests)):
        for line in bars(data["rows"], width=console.width):
            console.print(line, markup=False, highlight=False, no_wrap=True, overflow="crop")
    for note in data["notes"]:
        console.print(note, markup=False, highlight=False)


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
