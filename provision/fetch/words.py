"""Where a file's bytes come from right now, in words for people."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from provision.fetch.sources import Source
from provision.settings import OFFICIAL_ENDPOINT


def sources_in_words(sources: Sequence[Source], *, clock: Callable[[], float] = time.monotonic) -> tuple[str, str]:
    """A note and the same in brief: `8 connections · hf-mirror.com`, `8 × hf-mirror.com`. The Hub alone goes without saying."""
    alive = [source for source in sources if source.dead is None]
    count = sum(source.active for source in alive)
    note = f"{count} connection{'s' if count != 1 else ''}"
    brief = f"{count} conn."
    if [source.origin for source in alive] != [OFFICIAL_ENDPOINT]:
        names = ", ".join(source.origin.partition("://")[2] for source in alive)
        note, brief = f"{note} · {names}", f"{count} × {names}"
    wait_s = min((source.not_before for source in alive), default=0.0) - clock()
    if wait_s > 2:
        waiting = f"asked to wait {wait_s:.0f} s"
        return f"{waiting} · {note}", waiting
    return note, brief
