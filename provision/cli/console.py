"""A rich console for text that nobody has vouched for."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from provision.terminal import harmless


class HarmlessConsole(Console):
    """Everything printed is made harmless, whatever it is wrapped in: a line, a table's cell, a bar's label."""

    def render_str(self, text: str, **options: Any) -> Text:
        """Before it is measured: what is removed must not take room."""
        return super().render_str(harmless(text), **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """At the end: what came as a `Text` or a renderable of its own has not passed `render_str`."""
        for segment in super().render(renderable, options):
            # Cursor movements of rich itself are marked as control.
            yield segment if segment.control else segment._replace(text=harmless(segment.text))
