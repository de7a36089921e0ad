"""Where a file's bytes come from right now, in words for people."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from provision.fetch.sources import Source
from provision.settings import OFFICIAL_ENDPOINT


def sources_in_words(sources: Sequence[Source], *, clock: Callable[[], float] = time.monotonic) -> tuple[str, str]:
    """A note and the same in brief: `8 connections · hf-mirror.com`, `8 × hf-mirror.com`. The Hub alone goes without saying.

    While nobody delivers: for whom we wait, why, how long already and how long at most.
    """
    alive = [source for source in sources if source.dead is None]
    if alive and all(source.waiting_for for source in alive):
        return _waiting(min(alive, key=lambda source: source.not_before), clock())
    count = sum(source.active for source in alive)
    note = f"{count} connection{'s' if count != 1 else ''}"
    brief = f"{count} conn."
    names = ", ".join(_name(source) for source in alive)
    if alive and not count:
        return f"asking {names}", "asking"
    if [source.origin for source in alive] != [OFFICIAL_ENDPOINT]:
        note, brief = f"{note} · {names}", f"{count} × {names}"
    return note, brief


def _waiting(source: Source, now: float) -> tuple[str, str]:
    waited_s, limit_s = source.patience.waited_s(now), source.patience.limit_s
    # Beyond it only the last few tries are still under way.
    most = f" of at most {limit_s:.0f} s" if waited_s <= limit_s else ""
    brief = f"waiting {waited_s:.0f} s"
    return f"{brief}{most} for {_name(source)}: {source.waiting_for}", brief


def _name(source: Source) -> str:
    return source.origin.partition("://")[2]
