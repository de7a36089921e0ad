"""One line per task on a terminal, laid out anew at every drawing, so that a resize is followed."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import RenderableType
from rich.progress import Progress as RichProgress
from rich.progress import Task, TaskID
from rich.progress_bar import ProgressBar
from rich.table import Table

from provision.cli.bar_lines import BarLine, Layout, lay_out, line_of
from provision.cli.shorten import shorten
from provision.events import Progress


class Bars(RichProgress):
    """rich's progress with columns that depend on the width."""

    def follow(self, event: Progress, task_id: TaskID | None) -> TaskID:
        """Show `event` on the line `task_id`, or on a new one."""
        if task_id is None:
            return self.add_task(event.label, total=event.total, completed=event.done, event=event)
        self.update(task_id, total=event.total, completed=event.done, event=event)
        return task_id

    def make_tasks_table(self, tasks: Iterable[Task]) -> Table:
        """Called by rich for every drawing."""
        shown = [task for task in tasks if task.visible]
        table = Table.grid(padding=(0, 1))
        if not shown:
            # rich's constructor draws once, before it has a console.
            return table
        lines = [line_of(task.fields["event"]) for task in shown]
        # The last column stays free: some terminals go on to the next line once it is written.
        layout = lay_out(lines, self.console.width - 1)
        for width in layout.columns():
            table.add_column(width=width, no_wrap=True, overflow="ellipsis")
        for task, line in zip(shown, lines, strict=True):
            table.add_row(*_cells(task, line, layout))
        return table


def _cells(task: Task, line: BarLine, layout: Layout) -> list[RenderableType]:
    bar = ProgressBar(total=task.total, completed=task.completed, width=layout.bar, pulse=task.total is None)
    left = line.left if layout.brief or not line.left else f"{line.left} left"
    cells: list[tuple[int, RenderableType]] = [
        (layout.name, shorten(line.name, layout.name)),
        (layout.bar, bar),
        (layout.amount, line.amount),
        (layout.percent, f"{line.percent:>5}"),
        (layout.speed, line.speed),
        (layout.left, left if layout.left >= len(left) else line.left),
        (layout.note, line.brief if layout.brief else line.note),
    ]
    return [cell for width, cell in cells if width]
