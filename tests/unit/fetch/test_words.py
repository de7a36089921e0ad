from __future__ import annotations

from provision.errors import TransferError
from provision.fetch.sources import Offer, Source
from provision.fetch.words import sources_in_words
from provision.hub.types import Resolved

HUB, MIRROR = "https://huggingface.co", "https://hf-mirror.com"


def source(origin: str, *, active: int, not_before: float = 0.0, dead: str | None = None) -> Source:
    def resolve() -> Resolved:
        raise TransferError("not asked", code="x", hint="")

    made = Source(offer=Offer(origin=origin, resolve=resolve), patience_s=1.0)
    made.active, made.not_before, made.dead = active, not_before, dead
    return made


def test_the_hub_alone_goes_without_saying() -> None:
    assert sources_in_words([source(HUB, active=8)]) == ("8 connections", "8 conn.")


def test_another_place_is_named_and_so_are_several() -> None:
    assert sources_in_words([source(MIRROR, active=1)]) == ("1 connection · hf-mirror.com", "1 × hf-mirror.com")
    both = [source(HUB, active=5), source(MIRROR, active=3), source("http://gone", active=0, dead="refused")]
    note, brief = sources_in_words(both)
    assert note == "8 connections · huggingface.co, hf-mirror.com"
    assert brief == "8 × huggingface.co, hf-mirror.com"


def test_waiting_is_said_first() -> None:
    note, brief = sources_in_words([source(MIRROR, active=0, not_before=107.0)], clock=lambda: 100.0)
    assert note == "asked to wait 7 s · 0 connections · hf-mirror.com"
    assert brief == "asked to wait 7 s"
