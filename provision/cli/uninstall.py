"""`provision uninstall`: takes out the engine it placed, and what came along with it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from provision.cli.session import JsonOption, ProgressOption, Spoken, open_session
from provision.result import Result

if TYPE_CHECKING:
    from rich.console import Console


def uninstall(
    python: Annotated[Path | None, typer.Option("--python", metavar="PATH", help="Uninstall from this Python.")] = None,
    json: JsonOption = False,
    progress: ProgressOption = "auto",
) -> Spoken:
    """Remove the engine that provision placed, and the packages that came with it unless something else needs them."""
    from provision.engine.uninstall import uninstall as run

    session = open_session(json=json, progress=progress)
    data = run(python, settings=session.settings)
    return Spoken(result=Result(command="uninstall", data=data), render=_render)


def _render(console: Console, data: Mapping[str, Any]) -> None:
    for name in data["removed"]:
        console.print(f"removed {name}", markup=False)
    for name in data["kept"]:
        console.print(f"kept {name}: other packages need it", markup=False)
    if data["left"]:
        console.print(f"left {data['left']}: provision only removes what it placed", markup=False)
