"""Probes running at the same time, each in a thread of its own with a limit. One that crashes or hangs becomes a sentence."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar, cast

from provision.events import Progress, ProgressEnded, Reporter

T = TypeVar("T")
Item = TypeVar("Item")
_TASK = "probes"


class Probe(Generic[T]):
    """One running probe. A thread that hangs is left behind; it dies with the process."""

    def __init__(self, name: str, limit_s: float, work: Callable[[], T]) -> None:
        self.name = name
        self.failure: str | None = None
        self._value: T | None = None
        self._limit_s = limit_s
        self._deadline = time.monotonic() + limit_s
        self._ended = threading.Event()
        threading.Thread(target=self._run, args=(work,), name=f"probe-{name}", daemon=True).start()

    def get(self) -> T | None:
        """What it found; None when it failed or its time is over. May be called from several threads."""
        if not self._ended.wait(max(0.0, self._deadline - time.monotonic())):
            self.failure = f"probe {self.name}: no answer in {self._limit_s:g} s"
            return None
        return self._value

    def _run(self, work: Callable[[], T]) -> None:
        try:
            self._value = work()
        except Exception as error:  # noqa: BLE001 - whatever a strange machine makes a probe do, the other probes go on
            self.failure = f"probe {self.name}: {type(error).__name__}: {error}"
        finally:
            self._ended.set()


def for_each(work: Callable[[Item], T], items: Sequence[Item], *, workers: int = 4) -> list[T]:
    """`work` of every item, in their order, a few at a time.

    In daemon threads, unlike those of a ThreadPoolExecutor: one that hangs in a dead network mount must not keep the process
    from ending. The first failure is raised.
    """
    results: list[T | Exception | None] = [None] * len(items)
    left = iter(range(len(items)))
    lock = threading.Lock()

    def run() -> None:
        while True:
            with lock:
                place = next(left, None)
            if place is None:
                return
            try:
                results[place] = work(items[place])
            except Exception as error:  # noqa: BLE001 - raised below
                results[place] = error

    threads = [threading.Thread(target=run, daemon=True) for _ in range(min(workers, len(items)))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for result in results:
        if isinstance(result, Exception):
            raise result
    return cast("list[T]", results)


class Probes:
    """The probes of one run, in the order they were started."""

    def __init__(self, *, reporter: Reporter) -> None:
        self._reporter = reporter
        self._probes: list[Probe[Any]] = []
        self._started = 0
        self._done = 0
        self._over = False
        self._lock = threading.Lock()

    def start(self, name: str, limit_s: float, work: Callable[[], T]) -> Probe[T]:
        """Start `work` in its thread; its result is `.get()`."""
        with self._lock:
            self._started += 1
        probe = Probe(name, limit_s, lambda: self._counted(name, work))
        self._probes.append(probe)
        return probe

    def failures(self) -> tuple[str, ...]:
        """One sentence per probe that failed, in starting order. Call after the last `.get()`."""
        return tuple(probe.failure for probe in self._probes if probe.failure is not None)

    def end(self) -> None:
        """Tell the reporter that the task is over. A probe that was given up says nothing after that."""
        with self._lock:
            self._over = True
        self._reporter(ProgressEnded(task=_TASK))

    def _counted(self, name: str, work: Callable[[], T]) -> T:
        try:
            return work()
        finally:
            with self._lock:
                self._done += 1
                if not self._over:
                    done, total = self._done, self._started
                    self._reporter(Progress(task=_TASK, label="looking", done=done, total=total, unit="steps", note=name))
