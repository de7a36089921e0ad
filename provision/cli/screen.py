"""The one door to people's screens. All human output passes `tell` or a console of `open_console`, so none of it is obeyed by a
terminal: it repeats names from servers, archives and model files, which nobody has vouched for. What a model says while it says
it has a filter of its own (`chat_voice`).
"""

from __future__ import annotations

from typing import IO, TYPE_CHECKING

from provision.terminal import harmless

if TYPE_CHECKING:
    from rich.console import Console


def tell(stream: IO[str], text: str) -> None:
    """Write `text` and a newline; without rich, which an error message need not wait for."""
    stream.write(harmless(text) + "\n")
    stream.flush()


def open_console(stream: IO[str], *, width: int | None = None, no_color: bool | None = None) -> Console:
    """A rich console on `stream` that shows only what is harmless. `width` None is the terminal's, also after a resize."""
    from provision.cli.console import HarmlessConsole

    # No markup and no emoji codes: a name with [brackets] or :colons: is a name.
    return HarmlessConsole(file=stream, width=width, highlight=False, markup=False, emoji=False, no_color=no_color)
