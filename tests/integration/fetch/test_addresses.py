"""Addresses that servers and people name: what cannot be asked drops one source, and never the whole fetch."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from provision.errors import TransferError, UsageError
from provision.events import Event, Note
from provision.fetch.service import fetch
from provision.fetch.types import FetchResult, FetchWish
from provision.models.refs import parse_ref
from provision.settings import Settings
from provision.units import MIB
from tests.support.hub import Fault, Kind, Noise, RunningHub, repo, start_hub
from tests.support.settings import settings_in

pytestmark = pytest.mark.integration

REF = "org/tiny-GGUF"
NAME = "tiny-中-Q8_0.gguf"
MODEL = Noise(5 * MIB + 3, seed=9)
NOWHERE = ["http://127.0.0.1:99999/x", "http://..../x", "http://[::1/x", "file:///etc/passwd", f"http://{'a' * 64}.example/x"]


@pytest.fixture
def hub() -> Iterator[RunningHub]:
    with start_hub(repos=[repo(REF, {NAME: MODEL})]) as running:
        yield running


@pytest.fixture
def mirror() -> Iterator[RunningHub]:
    with start_hub(repos=[repo(REF, {NAME: MODEL})]) as running:
        yield running


@pytest.fixture
def settings(hub: RunningHub, tmp_path: Path) -> Settings:
    return settings_in(tmp_path, HF_ENDPOINT=hub.url)


def get(settings: Settings, events: list[Event] | None = None, **wish: object) -> FetchResult:
    asked = replace(FetchWish(patience_s=20.0, connections=2), **wish)  # type: ignore[arg-type]
    report = events.append if events is not None else (lambda event: None)
    return fetch(parse_ref(f"{REF}:Q8_0"), asked, settings=settings, reporter=report)


@pytest.mark.parametrize("location", NOWHERE)
@pytest.mark.parametrize("where", ["cdn", "resolve", "tree"])
def test_a_source_that_sends_us_nowhere_is_dropped_and_named(
    hub: RunningHub, mirror: RunningHub, settings: Settings, where: str, location: str
) -> None:
    hub.inject(Fault(kind=Kind.REDIRECT, where=where, text=location, times=None))
    with pytest.raises(TransferError) as caught:
        get(settings)
    assert caught.value.code == "bad-redirect"
    assert (hub.cdn_url if where == "cdn" else hub.url) in caught.value.message
    events: list[Event] = []
    done = get(settings, events, endpoints=(hub.url, mirror.url))
    assert done.files[0].sources == {mirror.url: MODEL.size_bytes}
    if where == "tree":
        assert any(hub.url in event.message for event in events if isinstance(event, Note))


@pytest.mark.parametrize("where", ["cdn", "resolve"])
def test_a_name_in_raw_utf8_is_followed(hub: RunningHub, settings: Settings, where: str) -> None:
    raw = f"/{REF}/resolve/{hub.repos[REF].head}/{NAME}".encode().decode("latin-1")
    hub.inject(Fault(kind=Kind.REDIRECT, where=where, text=(hub.url if where == "cdn" else "") + raw))
    assert get(settings).files[0].sha256 == MODEL.sha256


def test_a_wrong_option_is_told_before_anything_is_asked(hub: RunningHub, settings: Settings) -> None:
    for wrong in ("http://..", f"http://{'a' * 64}", "http://h:99999", "hub.example"):
        with pytest.raises(UsageError):
            get(settings, endpoints=(hub.url, wrong))
    assert hub.log.all() == []


def test_a_name_and_password_in_an_endpoint_go_to_its_own_origin_for_bytes_too(hub: RunningHub, tmp_path: Path) -> None:
    small = Noise(1000, seed=3)
    hub.add(repo(REF, {NAME: small}))
    hub.inject(Fault(kind=Kind.RELATIVE_REDIRECT, where="resolve", times=None))
    asked = hub.url.replace("http://", "http://me:p%40ss@")
    assert get(settings_in(tmp_path, HF_ENDPOINT=asked)).files[0].size_bytes == 1000
    basic = "Basic " + base64.b64encode(b"me:p@ss").decode()
    assert hub.log.body_bytes(path=NAME) > 0
    assert {one.headers.get("authorization") for one in hub.log.all(face="hub")} == {basic}


def test_a_name_and_password_go_to_no_other_origin(hub: RunningHub, tmp_path: Path) -> None:
    get(settings_in(tmp_path, HF_ENDPOINT=hub.url.replace("http://", "http://me:secret@")))
    assert hub.log.all(face="cdn")
    assert not [one for one in hub.log.all(face="cdn") if "authorization" in one.headers]
