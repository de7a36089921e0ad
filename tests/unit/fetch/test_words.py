from __future__ import annotations

from provision.errors import TransferError
from provision.fetch.patience import Patience
from provision.fetch.sources import Offer, Source
from provision.fetch.words import sources_in_words
from provision.hub.types import Resolved

HUB, MIRROR = "https://huggingface.co", "https://hf-mirror.com"


def source(origin: str, *, active: int, dead: str | None = None) -> Source:
    def resolve() -> Resolved:
        raise TransferError("not asked", code="x", hint="")

    made = Source(offer=Offer(origin=origin, resolve=resolve), patience=Patience(total_s=60.0))
    made.active, made.dead = active, dead
    return made


def test_the_hub_alone_goes_without_saying() -> None:
    assert sources_in_words([source(HUB, active=8)]) == ("8 connections", "8 conn.")


def test_another_place_is_named_and_so_are_several() -> None:
    assert sources_in_words([source(MIRROR, active=1)]) == ("1 connection · hf-mirror.com", "1 × hf-mirror.com")
    both = [source(HUB, active=5), source(MIRROR, active=3), source("http://gone", active=0, dead="refused")]
    note, brief = sources_in_words(both)
    assert note == "8 connections · huggingface.co, hf-mirror.com"
    assert brief == "8 × huggingface.co, hf-mirror.com"


def test_before_the_first_connection_it_says_who_is_asked() -> None:
    assert sources_in_words([source(MIRROR, active=0)]) == ("asking hf-mirror.com", "asking")


def test_waiting_is_said_with_its_reason_and_its_end() -> None:
    one = source(MIRROR, active=0)
    one.waiting_for = "HTTP 503"
    one.patience.failed(100.0, wait_s=30.0)
    note, brief = sources_in_words([one], clock=lambda: 107.0)
    assert note == "waiting 7 s of at most 90 s for hf-mirror.com: HTTP 503"
    assert brief == "waiting 7 s"


def test_while_another_delivers_nobody_waits() -> None:
    one = source(MIRROR, active=0)
    one.waiting_for = "HTTP 503"
    assert sources_in_words([source(HUB, active=4), one])[1] == "4 × huggingface.co, hf-mirror.com"
