"""Several files of one fetch: large ones in turn, with all connections each; small ones side by side, one connection each."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from provision.events import Event, Reporter
from provision.fetch.pieces import SMALL_PIECE_BYTES
from provision.fetch.types import FetchedFile, PlannedFile

_MOST_TOGETHER = 8


def fetch_all(
    files: Sequence[PlannedFile], fetch_one: Callable[[PlannedFile], FetchedFile], *, together: int, cancel: threading.Event
) -> tuple[FetchedFile, ...]:
    """The results in the order of `files`; the first error, or Ctrl-C, ends all of them (`cancel` tells the transfers)."""
    small = [planned for planned in files if planned.size_bytes <= SMALL_PIECE_BYTES]
    done: dict[str, FetchedFile] = {}
    if len(small) > 1:
        with ThreadPoolExecutor(max_workers=min(_MOST_TOGETHER, together), thread_name_prefix="fetch-small") as pool:
            try:
                for fetched in pool.map(fetch_one, small):
                    done[fetched.path] = fetched
            except BaseException:
                cancel.set()
                pool.shutdown(wait=True, cancel_futures=True)
                raise
    for planned in files:
        if planned.file.path not in done:
            done[planned.file.path] = fetch_one(planned)
    return tuple(done[planned.file.path] for planned in files)


def one_at_a_time(reporter: Reporter) -> Reporter:
    """The same reporter for several threads."""
    lock = threading.Lock()

    def report(event: Event) -> None:
        with lock:
            reporter(event)

    return report
