"""Several servers, some of them bad: one slow, one hanging, one lying, one sending us elsewhere. The bytes still come right."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from provision.errors import IntegrityError, TransferError
from provision.events import Event, Note
from provision.fetch.service import fetch, plan_fetch
from provision.fetch.types import FetchResult, FetchWish
from provision.hub.http import Asker
from provision.models.refs import parse_ref
from provision.settings import Settings
from provision.units import MIB
from tests.support.hub import Fault, Kind, Noise, RunningHub, repo, start_hub
from tests.support.settings import settings_in

pytestmark = pytest.mark.integration

MODEL = Noise(20 * MIB + 77, seed=7)
BYTES = b"".join(bytes(MODEL.read(at, MIB)) for at in range(0, MODEL.size_bytes, MIB))
FILES = {"tiny-Q8_0.gguf": MODEL, "README.md": b"# card\n", "empty.txt": b""}
REF = "org/tiny-GGUF"


@pytest.fixture
def hub() -> Iterator[RunningHub]:
    with start_hub(repos=[repo(REF, FILES)]) as running:
        yield running


@pytest.fixture
def mirror() -> Iterator[RunningHub]:
    with start_hub(repos=[repo(REF, FILES)]) as running:
        yield running


@pytest.fixture
def settings(hub: RunningHub, tmp_path: Path) -> Settings:
    return settings_in(tmp_path, HF_ENDPOINT=hub.url, HF_TOKEN="hf_secret", PROVISION_TOKEN_ORIGINS=hub.url)


def get(settings: Settings, ref: str = f"{REF}:Q8_0", events: list[Event] | None = None, **wish: object) -> FetchResult:
    asked = replace(FetchWish(patience_s=2.0, stall_s=1.0, connections=4), **wish)  # type: ignore[arg-type]
    report = events.append if events is not None else (lambda event: None)
    return fetch(parse_ref(ref), asked, settings=settings, reporter=report)


def model_of(done: FetchResult) -> bytes:
    return done.files[0].local_path.read_bytes()


def test_one_slow_connection_does_not_hold_up_the_end(hub: RunningHub, settings: Settings) -> None:
    hub.throttle(8_000_000)
    hub.inject(Fault(kind=Kind.SLOW, skip=1, value=100_000))
    began = time.monotonic()
    assert model_of(get(settings)) == BYTES
    # At 100 kB/s its first piece alone would take 42 s.
    assert time.monotonic() - began < 15


def test_a_hanging_source_does_not_hold_up_the_other(hub: RunningHub, mirror: RunningHub, settings: Settings) -> None:
    mirror.inject(Fault(kind=Kind.DELAY, where="resolve", seconds=8, times=None))
    began = time.monotonic()
    done = get(settings, endpoints=(hub.url, mirror.url), connections=2)
    assert model_of(done) == BYTES
    assert time.monotonic() - began < 7


def test_the_first_source_hangs_and_the_second_delivers(hub: RunningHub, mirror: RunningHub, settings: Settings) -> None:
    hub.inject(Fault(kind=Kind.DELAY, where="resolve", seconds=8, times=None))
    began = time.monotonic()
    assert model_of(get(settings, endpoints=(hub.url, mirror.url), connections=2)) == BYTES
    assert time.monotonic() - began < 7


def test_one_connection_does_not_wait_for_a_hanging_source(hub: RunningHub, mirror: RunningHub, settings: Settings) -> None:
    hub.inject(Fault(kind=Kind.DELAY, where="resolve", seconds=8, times=None))
    began = time.monotonic()
    assert model_of(get(settings, endpoints=(hub.url, mirror.url), connections=1)) == BYTES
    assert time.monotonic() - began < 7


@pytest.mark.parametrize("where", ["info", "resolve"])
def test_a_hub_that_answers_byte_by_byte_leaves_the_work_to_the_next(
    hub: RunningHub, mirror: RunningHub, settings: Settings, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    monkeypatch.setattr(Asker, "answer_s", 1.0)
    hub.inject(Fault(kind=Kind.DRIP, where=where, seconds=0.05, times=None))
    began = time.monotonic()
    assert model_of(get(settings, endpoints=(hub.url, mirror.url))) == BYTES
    with pytest.raises(TransferError):
        get(settings, ref=f"{REF}@main", endpoints=(hub.url,), names=("README.md",))
    assert time.monotonic() - began < 12


def test_two_mirrors_on_one_server_are_told_apart(hub: RunningHub, settings: Settings) -> None:
    twice = replace(FetchWish(), endpoints=(hub.url, hub.url + "/", hub.url + "/api/hf-proxy"))
    plan = plan_fetch(parse_ref(f"{REF}:Q8_0"), twice, settings=settings)
    assert plan.sources == (hub.url, hub.url + "/api/hf-proxy")
    assert set(get(settings, endpoints=twice.endpoints).files[0].sources) == {hub.url}


def test_all_questions_to_a_hub_share_one_connection(hub: RunningHub, settings: Settings) -> None:
    get(settings, REF, names=("tiny-Q8_0.gguf", "README.md"))
    questions = [one for one in hub.log.all(face="hub") if one.where in ("info", "tree") or one.method == "HEAD"]
    assert len(questions) == 4
    assert len({one.connection for one in questions}) <= 2


def test_ctrl_c_is_heard_while_a_server_is_silent(hub: RunningHub, settings: Settings) -> None:
    hub.inject(Fault(kind=Kind.DELAY, where="resolve", seconds=10, times=None))
    began = time.monotonic()

    def interrupt(event: Event) -> None:
        if time.monotonic() - began > 1.0:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(parse_ref(f"{REF}:Q8_0"), FetchWish(), settings=settings, reporter=interrupt)
    assert time.monotonic() - began < 5


def test_when_the_first_endpoint_is_down_the_second_lists_too(mirror: RunningHub, settings: Settings) -> None:
    events: list[Event] = []
    with start_hub() as gone:
        address = gone.url
    done = get(settings, events=events, endpoints=(address, mirror.url))
    assert model_of(done) == BYTES
    assert any(isinstance(event, Note) and address in event.message for event in events)


def test_all_endpoints_down_is_exit_7(settings: Settings) -> None:
    with start_hub() as gone:
        address = gone.url
    with pytest.raises(TransferError):
        get(settings, endpoints=(address, address + "/other"))


def test_a_mirror_without_the_repository_is_left_out(hub: RunningHub, settings: Settings) -> None:
    with start_hub() as empty:
        done = get(settings, endpoints=(hub.url, empty.url))
        assert model_of(done) == BYTES
        assert set(done.files[0].sources) == {hub.url}


def test_a_mirror_that_promises_other_bytes_delivers_nothing(hub: RunningHub, settings: Settings) -> None:
    with start_hub(repos=[repo(REF, {**FILES, "tiny-Q8_0.gguf": Noise(20 * MIB + 77, seed=99)})]) as other:
        # The same commit, other content: a mirror that was tampered with, or is broken.
        other.repos[REF].commits = {hub.repos[REF].head: other.repos[REF].commits[other.repos[REF].head]}
        done = get(settings, endpoints=(hub.url, other.url))
        assert model_of(done) == BYTES
        assert done.files[0].action == "downloaded"
        assert other.log.body_bytes() == 0


def test_only_a_mirror_that_promises_other_bytes_is_exit_8_at_once(hub: RunningHub, settings: Settings) -> None:
    changed = hub.repos[REF].commits[hub.repos[REF].head]

    def tamper() -> None:
        changed["tiny-Q8_0.gguf"] = replace(changed["tiny-Q8_0.gguf"], content=Noise(20 * MIB + 77, seed=5))

    hub.inject(Fault(kind=Kind.ACTION, where="resolve", action=tamper))
    began = time.monotonic()
    with pytest.raises(IntegrityError) as caught:
        get(settings, patience_s=30.0)
    assert caught.value.code == "promise-broken"
    assert time.monotonic() - began < 10


def test_a_cdn_that_sends_us_to_a_stranger_tells_it_no_secret(hub: RunningHub, mirror: RunningHub, settings: Settings) -> None:
    # Both worlds sign alike, so the stranger's CDN accepts the same path and query.
    hub.inject(Fault(kind=Kind.REDIRECT, text=f"{mirror.cdn_url}{{path}}", times=None))
    assert model_of(get(settings)) == BYTES
    assert any(one.authorization == "Bearer hf_secret" for one in hub.log.all(face="hub"))
    for request in [*mirror.log.all(), *hub.log.all(face="cdn")]:
        assert "secret" not in str(request.headers)


def test_a_hub_that_offers_xet_alone_is_named_with_the_way_out(hub: RunningHub, settings: Settings) -> None:
    hub.inject(Fault(kind=Kind.XET_ONLY, where="resolve", times=None))
    began = time.monotonic()
    with pytest.raises(TransferError) as caught:
        get(settings, patience_s=60.0)
    assert time.monotonic() - began < 10
    assert caught.value.code == "xet-only"
    assert hub.url in caught.value.message
    assert f"hf download {REF} tiny-Q8_0.gguf --revision {hub.repos[REF].head} && provision verify" in caught.value.hint
    assert hub.log.all(face="cdn") == []


def test_beside_a_hub_that_offers_xet_alone_a_mirror_delivers(hub: RunningHub, mirror: RunningHub, settings: Settings) -> None:
    hub.inject(Fault(kind=Kind.XET_ONLY, where="resolve", times=None))
    done = get(settings, endpoints=(hub.url, mirror.url))
    assert model_of(done) == BYTES
    assert set(done.files[0].sources) == {mirror.url}


def test_a_repository_in_xet_storage_is_read_through_its_plain_address(hub: RunningHub, settings: Settings) -> None:
    tree = hub.repos[REF].commits[hub.repos[REF].head]
    tree["tiny-Q8_0.gguf"] = replace(tree["tiny-Q8_0.gguf"], xet_hash="7d" * 32)
    assert model_of(get(settings)) == BYTES
    assert not [one for one in hub.log.all() if "xet" in one.target]


def test_small_files_of_every_habit(hub: RunningHub, settings: Settings) -> None:
    hub.inject(Fault(kind=Kind.RELATIVE_REDIRECT, where="resolve", path="README.md", times=None))
    done = get(settings, REF, include=("*.md", "*.txt"))
    assert {file.path: file.local_path.read_bytes() for file in done.files} == {"README.md": b"# card\n", "empty.txt": b""}


def test_a_listing_without_lfs_is_completed_by_the_file_itself(hub: RunningHub, settings: Settings) -> None:
    hub.inject(Fault(kind=Kind.NO_LFS, where="tree", times=None))
    done = get(settings)
    assert model_of(done) == BYTES
    assert done.files[0].sha256 == MODEL.sha256
    assert done.files[0].local_path.resolve().name == MODEL.sha256


def test_the_commit_moves_while_we_download(hub: RunningHub, settings: Settings) -> None:
    def move() -> None:
        hub.repos[REF].push({"tiny-Q8_0.gguf": Noise(1000, seed=1)})

    before = hub.repos[REF].head
    hub.inject(Fault(kind=Kind.ACTION, where="resolve", action=move), Fault(kind=Kind.STATUS, value=403, skip=2))
    done = get(settings)
    assert (done.commit, model_of(done)) == (before, BYTES)
    assert hub.repos[REF].head != before


@pytest.mark.slow
def test_connections_dropped_by_the_server_every_moment(hub: RunningHub, settings: Settings) -> None:
    hub.throttle(5_000_000)
    over = threading.Event()

    def drop() -> None:
        for _ in range(6):
            over.wait(0.3)
            hub.drop_connections()

    thread = threading.Thread(target=drop)
    thread.start()
    try:
        assert model_of(get(settings, patience_s=10.0)) == BYTES
    finally:
        over.set()
        thread.join()
    # Nothing that arrived is asked for again, apart from what was on the wire.
    assert hub.log.body_bytes(path="tiny-Q8_0.gguf") < 2 * MODEL.size_bytes


def test_an_authority_of_ones_own(tmp_path: Path) -> None:
    with start_hub(repos=[repo(REF, FILES)], tls=True) as hub:
        trusting = settings_in(tmp_path, HF_ENDPOINT=hub.url, SSL_CERT_FILE=str(hub.ca_file))
        assert model_of(get(trusting)) == BYTES
        with pytest.raises(TransferError) as caught:
            get(settings_in(tmp_path / "other", HF_ENDPOINT=hub.url))
        assert caught.value.code == "tls-untrusted"
        assert "SSL_CERT_FILE" in caught.value.hint


@pytest.mark.parametrize("seed", [0, 1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(2, 12))])
def test_everything_at_once(hub: RunningHub, mirror: RunningHub, settings: Settings, seed: int) -> None:
    """Random faults at both servers, many at a time: right bytes in the end, whatever the order."""
    import random

    chance = random.Random(seed)
    menu = [
        lambda: Fault(kind=Kind.RESET, at_byte=chance.randrange(2 * MIB), skip=chance.randrange(8)),
        lambda: Fault(kind=Kind.SHORT_BODY, at_byte=chance.randrange(2 * MIB), skip=chance.randrange(8)),
        lambda: Fault(kind=Kind.STATUS, value=chance.choice([403, 500, 502, 503]), skip=chance.randrange(8)),
        lambda: Fault(kind=Kind.STATUS, value=429, seconds=1, skip=chance.randrange(8)),
        lambda: Fault(kind=Kind.OTHER_RANGE, at_byte=chance.randrange(1, MIB), skip=chance.randrange(8)),
        lambda: Fault(kind=Kind.FLIPPED_BIT, at_byte=chance.randrange(MODEL.size_bytes), skip=chance.randrange(8)),
        lambda: Fault(kind=Kind.STALL, at_byte=chance.randrange(MIB), seconds=2, skip=chance.randrange(8)),
        lambda: Fault(kind=Kind.HTML, skip=chance.randrange(8)),
        lambda: Fault(kind=Kind.GZIP, skip=chance.randrange(8)),
        lambda: Fault(kind=Kind.RANGE_IGNORED, skip=chance.randrange(8)),
        lambda: Fault(kind=Kind.HANG_UP, skip=chance.randrange(8)),
        lambda: Fault(kind=Kind.CHUNKED, skip=chance.randrange(8)),
    ]
    for server in (hub, mirror):
        server.throttle(20_000_000)
        server.inject(*(chance.choice(menu)() for _ in range(8)))
    done = get(settings, endpoints=(hub.url, mirror.url), patience_s=10.0, connections=chance.choice([1, 3, 8]))
    assert model_of(done) == BYTES
    blobs = [path.name for path in (settings.hf_hub_cache / "models--org--tiny-GGUF" / "blobs").iterdir()]
    assert blobs == [MODEL.sha256]
