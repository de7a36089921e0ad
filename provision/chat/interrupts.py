"""Ctrl-C while an answer is running: the first stops the answer, the second ends the engine. Neither raises."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType


@dataclass(slots=True)
class Interrupts:
    """How often the person pressed Ctrl-C."""

    count: int = 0
    hung_up: bool = False
    """SIGTERM or SIGHUP came: stop, keep what was said, and leave."""


@contextmanager
def interrupts_stop(stop: Callable[[], None], kill: Callable[[], None]) -> Iterator[Interrupts]:
    """While open, SIGINT, SIGTERM and SIGHUP call `stop`, and `kill` when they come again.

    No exception is raised, so no line of the answer can be lost half-read. Outside of the main thread nothing is installed.
    """
    seen = Interrupts()

    def handle(number: int, frame: FrameType | None) -> None:
        seen.count += 1
        seen.hung_up = seen.hung_up or number != signal.SIGINT
        if seen.count == 1:
            stop()
        else:
            kill()

    if threading.current_thread() is not threading.main_thread():
        yield seen
        return
    numbers = [signal.SIGINT, signal.SIGTERM]
    if hasattr(signal, "SIGHUP"):
        numbers.append(signal.SIGHUP)
    before = [(number, signal.signal(number, handle)) for number in numbers]
    try:
        yield seen
    finally:
        for number, handler in before:
            signal.signal(number, handler)
