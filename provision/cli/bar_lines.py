"""What one line per task shows at which width. Pure: decides; `bars` draws.

Name, percent and speed always stay. What gives way, in this order: how many bytes, the length of names and of the bar, hosts,
the count of connections, the bar, the time left.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from rich.cells import cell_len

from provision.events import Progress
from provision.units import format_bytes, format_rate, format_seconds

_ANY = 10_000
_LONGEST_BAR = 24
_SPEED = len("1023 KiB/s")
_LEFT, _LEFT_BRIEF = len("59 min 59 s left"), len("59 min 59 s")


@dataclass(frozen=True, slots=True, kw_only=True)
class BarLine:
    """The words of one task, before anything is shortened."""

    name: str
    amount: str
    percent: str
    speed: str
    left: str
    note: str
    brief: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Cells per column; 0 leaves it out. `brief` says that short words are meant."""

    name: int
    bar: int
    amount: int
    percent: int
    speed: int
    left: int
    note: int
    brief: bool

    def columns(self) -> tuple[int, ...]:
        return tuple(
            count for count in (self.name, self.bar, self.amount, self.percent, self.speed, self.left, self.note) if count
        )

    def cells(self) -> int:
        """The whole line, with a blank between columns."""
        return sum(self.columns()) + len(self.columns()) - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class _Level:
    name: int
    bar: int
    note: int
    left: int = _LEFT_BRIEF
    amount: bool = False
    brief: bool = True


_LEVELS = (
    _Level(name=_ANY, bar=16, note=_ANY, left=_LEFT, amount=True, brief=False),
    _Level(name=_ANY, bar=16, note=_ANY, left=_LEFT, brief=False),
    _Level(name=32, bar=10, note=_ANY, left=_LEFT, brief=False),
    _Level(name=24, bar=10, note=_ANY, brief=False),
    _Level(name=18, bar=10, note=20),
    _Level(name=16, bar=5, note=7),
    _Level(name=16, bar=5, note=0),
    _Level(name=16, bar=0, note=0),
    _Level(name=16, bar=0, note=0, left=0),
    _Level(name=1, bar=0, note=0, left=0),
)


def line_of(event: Progress) -> BarLine:
    """The words for `event`."""
    if event.unit == "bytes":
        amount = format_bytes(event.done) + (f" / {format_bytes(event.total)}" if event.total is not None else "")
    else:
        amount = f"{event.done}/{event.total} {event.unit}" if event.total is not None else ""
    speed = ""
    if event.per_s:
        speed = format_rate(event.per_s) if event.unit == "bytes" else f"{event.per_s:.1f} {event.unit}/s"
    return BarLine(
        name=event.label,
        amount=amount if event.total is not None or event.done else "",
        percent=f"{100 * event.done // event.total} %" if event.total else "",
        speed=speed,
        left=format_seconds(event.left_s) if event.left_s is not None else "",
        note=event.note,
        brief=event.brief or event.note,
    )


def lay_out(lines: Sequence[BarLine], width: int) -> Layout:
    """The fullest layout of all lines together that fits into `width` cells: columns stand under each other."""
    for level in _LEVELS:
        layout = _at(lines, level)
        if layout.cells() <= width:
            return _widen(lines, layout, width - layout.cells())
    return layout


def _at(lines: Sequence[BarLine], level: _Level) -> Layout:
    left = _longest(line.left for line in lines)
    speed = _longest(line.speed for line in lines)
    return Layout(
        name=min(level.name, _longest(line.name for line in lines)),
        bar=level.bar,
        amount=_longest(line.amount for line in lines) if level.amount else 0,
        percent=_longest(line.percent for line in lines) and len("100 %"),
        speed=speed and max(speed, _SPEED),
        left=left and level.left,
        note=min(level.note, _longest(_noted(lines, brief=level.brief))),
        brief=level.brief,
    )


def _widen(lines: Sequence[BarLine], layout: Layout, spare: int) -> Layout:
    """What is left over goes to the name, then to the sources, then to the bar."""
    name = min(layout.name + spare, _longest(line.name for line in lines))
    spare -= name - layout.name
    note = min(layout.note + spare, _longest(_noted(lines, brief=layout.brief))) if layout.note else 0
    spare -= note - layout.note
    bar = max(layout.bar, min(layout.bar + spare, _LONGEST_BAR)) if layout.bar else 0
    return replace(layout, name=name, note=note, bar=bar)


def _noted(lines: Sequence[BarLine], *, brief: bool) -> list[str]:
    return [line.brief if brief else line.note for line in lines]


def _longest(texts: Iterable[str]) -> int:
    return max((cell_len(text) for text in texts), default=0)
