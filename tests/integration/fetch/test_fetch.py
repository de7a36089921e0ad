"""`fetch` against the test hub: every fault of the protocol ends in the right bytes or the right exit code, nothing lost."""

from __future__ import annotations

import hashlib
import os
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from provision.errors import AccessError, IntegrityError, MachineError, NotFoundError, ProvisionError, TransferError
from provision.events import Event, Note
from provision.fetch.service import fetch, plan_fetch
from provision.fetch.types import FetchResult, FetchWish
from provision.fetch.verify import verify_cached
from provision.models.refs import parse_ref
from provision.settings import Settings, read_settings
from provision.units import MIB
from tests.support.hub import Fault, Kind, Repo, RunningHub, repo, start_hub

pytestmark = pytest.mark.integration

MODEL = random.Random(7).randbytes(9 * MIB + 77)
OTHER = random.Random(8).randbytes(5 * MIB)


@pytest.fixture
def hub() -> Iterator[RunningHub]:
    files: dict[str, bytes] = {"README.md": b"# a card\n", "tiny-Q8_0.gguf": MODEL, "sub/tiny-Q4_0.gguf": OTHER}
    with start_hub(repos=[repo("org/tiny-GGUF", files)]) as running:
        yield running


@pytest.fixture
def settings(hub: RunningHub, tmp_path: Path) -> Settings:
    environ = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "hf"), "PROVISION_HOME": str(tmp_path / "own")}
    return read_settings(environ, home=tmp_path)


def get(settings: Settings, ref: str = "org/tiny-GGUF:Q8_0", events: list[Event] | None = None, **wish: object) -> FetchResult:
    asked = replace(FetchWish(patience_s=1.0, stall_s=1.0, connections=4), **wish)  # type: ignore[arg-type]
    report = events.append if events is not None else (lambda event: None)
    return fetch(parse_ref(ref), asked, settings=settings, reporter=report)


def test_one_model_lands_in_the_shared_cache(hub: RunningHub, settings: Settings) -> None:
    done = get(settings)
    (file,) = done.files
    commit = hub.repos["org/tiny-GGUF"].head
    folder = settings.hf_hub_cache / "models--org--tiny-GGUF"
    assert done.commit == commit
    assert file.local_path == folder / "snapshots" / commit / "tiny-Q8_0.gguf"
    assert file.local_path.read_bytes() == MODEL
    assert (folder / "refs/main").read_text() == commit
    assert hub.log.body_bytes() == len(MODEL)
    assert len(hub.log.all(where="resolve")) == 1
    assert get(settings).files[0].action == "kept"
    assert hub.log.body_bytes() == len(MODEL)


FAULTS = [
    Fault(kind=Kind.OTHER_RANGE, at_byte=1000),
    Fault(kind=Kind.WRONG_TOTAL, at_byte=10),
    Fault(kind=Kind.SHORT_BODY, at_byte=300_000),
    Fault(kind=Kind.RESET, at_byte=300_000),
    Fault(kind=Kind.HANG_UP),
    Fault(kind=Kind.STALL, at_byte=100_000, seconds=8),
    Fault(kind=Kind.STATUS, value=403),
    Fault(kind=Kind.STATUS, value=503),
    Fault(kind=Kind.HTML),
    Fault(kind=Kind.GZIP),
    Fault(kind=Kind.GROWN, at_byte=5),
    Fault(kind=Kind.CHUNKED),
    Fault(kind=Kind.RANGE_IGNORED),
    Fault(kind=Kind.HEAD_REFUSED, where="resolve"),
    Fault(kind=Kind.NO_COMMIT, where="resolve"),
    Fault(kind=Kind.UPPER_SHA, where="tree"),
]
# Waiting is what these are about.
SLOW_FAULTS = [
    Fault(kind=Kind.STATUS, value=429, seconds=1),
    Fault(kind=Kind.STATUS, where="resolve", value=503),
    Fault(kind=Kind.STATUS, where="resolve", value=429, seconds=1),
    Fault(kind=Kind.STATUS, where="tree", value=503),
    Fault(kind=Kind.NO_LENGTH),
    Fault(kind=Kind.NO_LINKED, where="resolve"),
]


@pytest.mark.parametrize(
    "fault",
    [*FAULTS, *(pytest.param(one, marks=pytest.mark.slow) for one in SLOW_FAULTS)],
    ids=lambda fault: f"{fault.where}-{fault.kind}{fault.value or ''}",
)
def test_a_fault_on_the_way_costs_nothing_but_time(hub: RunningHub, settings: Settings, fault: Fault) -> None:
    hub.inject(replace(fault, skip=1) if fault.where == "cdn" else fault)
    (file,) = get(settings).files
    assert file.local_path.read_bytes() == MODEL
    assert hub.faults.hits


def test_range_ignored_for_good_is_one_stream(hub: RunningHub, settings: Settings) -> None:
    hub.inject(Fault(kind=Kind.RANGE_IGNORED, times=None))
    assert get(settings).files[0].local_path.read_bytes() == MODEL
    assert hub.log.body_bytes() <= len(MODEL) + MIB


def test_expired_signatures_are_resolved_again(hub: RunningHub, settings: Settings) -> None:
    hub.inject(Fault(kind=Kind.ACTION, skip=2, action=hub.expire_signatures))
    assert get(settings).files[0].local_path.read_bytes() == MODEL
    assert len(hub.log.all(where="resolve")) == 2


def test_a_flipped_bit_for_good_is_exit_8_and_leaves_no_name(hub: RunningHub, settings: Settings) -> None:
    hub.inject(Fault(kind=Kind.FLIPPED_BIT, at_byte=5_000_000, times=None))
    with pytest.raises(IntegrityError) as caught:
        get(settings)
    assert caught.value.code == "hash-mismatch"
    assert list((settings.hf_hub_cache / "models--org--tiny-GGUF/blobs").iterdir()) == []


def test_a_flipped_bit_on_a_mirror_is_mended_by_the_hub(hub: RunningHub, settings: Settings) -> None:
    files: dict[str, bytes] = {"README.md": b"# a card\n", "tiny-Q8_0.gguf": MODEL, "sub/tiny-Q4_0.gguf": OTHER}
    with start_hub(repos=[repo("org/tiny-GGUF", files)]) as mirror:
        mirror.inject(
            Fault(kind=Kind.FLIPPED_BIT, at_byte=9_000_000, times=None), Fault(kind=Kind.FLIPPED_BIT, at_byte=1, times=None)
        )
        events: list[Event] = []
        # The hub is slow, so that the mirror surely serves some of it.
        hub.throttle(2_000_000)
        done = get(settings, events=events, endpoints=(hub.url, mirror.url))
        assert done.files[0].local_path.read_bytes() == MODEL
        if done.files[0].action == "repaired":
            assert any(isinstance(event, Note) and mirror.url in event.message for event in events)


@pytest.mark.slow
def test_a_hub_that_is_down_is_exit_7(settings: Settings) -> None:
    with pytest.raises(TransferError):
        get(replace(settings, endpoint="http://127.0.0.1:9"))


def test_nothing_is_kept_back_after_the_cdn_died(hub: RunningHub, settings: Settings) -> None:
    hub.inject(Fault(kind=Kind.STATUS, value=503, skip=1, times=None))
    with pytest.raises(TransferError) as caught:
        get(settings, connections=1)
    assert caught.value.code == "transfer-gave-up"
    sent = hub.log.body_bytes()
    assert sent >= 4 * MIB
    hub.faults.clear()
    (file,) = get(settings).files
    assert file.action == "resumed"
    assert file.transferred_bytes == len(MODEL) - sent // (4 * MIB) * 4 * MIB


def test_names_and_quants_that_are_not_there(settings: Settings) -> None:
    for ref in ("org/tiny-GGUF:Q2_K", "org/nothing:Q8_0", "org/tiny-GGUF:Q8_0@gone"):
        with pytest.raises(NotFoundError):
            get(settings, ref)


def test_gated_repositories_are_exit_6_with_the_page(hub: RunningHub, settings: Settings) -> None:
    hub.add(Repo(repo_id="org/gated", gated=True))
    hub.repos["org/gated"].push({"m-Q8_0.gguf": OTHER})
    with pytest.raises(AccessError) as caught:
        get(settings, "org/gated:Q8_0")
    assert "org/gated" in caught.value.message + caught.value.hint


def test_the_token_goes_nowhere_it_was_not_meant_for(hub: RunningHub, settings: Settings) -> None:
    secret = "hf_very_secret"
    get(replace(settings, token=secret))
    assert not any(request.authorization for request in hub.log.all())
    named = {**settings.environ, "PROVISION_TOKEN_ORIGINS": hub.url}
    get(replace(settings, token=secret, environ=named), "org/tiny-GGUF:Q4_0")
    for request in hub.log.all(face="cdn"):
        assert request.authorization is None
    for file in settings.hf_home.rglob("*"):
        assert secret not in str(file)
        assert not file.is_file() or secret.encode() not in file.read_bytes()


@pytest.mark.parametrize("name", ["../../evil.gguf", "/etc/evil.gguf", "a\\..\\evil.gguf", "x/\n.gguf"])
def test_a_hostile_name_writes_nothing(hub: RunningHub, settings: Settings, tmp_path: Path, name: str) -> None:
    hub.add(repo("org/evil", {name: OTHER}))
    before = set(tmp_path.rglob("*"))
    with pytest.raises(ProvisionError):
        get(settings, "org/evil", include=("*",))
    new = set(tmp_path.rglob("*")) - before
    assert not [path for path in new if path.is_file()]


def test_a_branch_that_moves_is_followed_and_both_commits_stay(hub: RunningHub, settings: Settings) -> None:
    first = get(settings)
    hub.repos["org/tiny-GGUF"].push({"tiny-Q8_0.gguf": OTHER})
    second = get(settings)
    assert first.commit != second.commit
    assert second.files[0].local_path.read_bytes() == OTHER
    assert first.files[0].local_path.read_bytes() == MODEL
    assert (settings.hf_hub_cache / "models--org--tiny-GGUF/refs/main").read_text() == second.commit


def test_a_tag_is_pinned_and_main_stays_what_it_was(hub: RunningHub, settings: Settings) -> None:
    origin = hub.repos["org/tiny-GGUF"]
    origin.tags["v1"] = origin.head
    get(settings, "org/tiny-GGUF:Q8_0@v1")
    refs = settings.hf_hub_cache / "models--org--tiny-GGUF/refs"
    assert (refs / "v1").read_text() == (refs / "main").read_text() == origin.head
    origin.push({"tiny-Q8_0.gguf": OTHER})
    get(settings, "org/tiny-GGUF:Q8_0@v1")
    assert (refs / "main").read_text() == origin.tags["v1"]


def test_a_plain_folder_and_its_second_run(hub: RunningHub, settings: Settings, tmp_path: Path) -> None:
    folder = tmp_path / "models"
    done = get(settings, "org/tiny-GGUF:Q4_0", local_dir=folder)
    assert (folder / "sub/tiny-Q4_0.gguf").read_bytes() == OTHER
    assert [file.action for file in done.files] == ["downloaded"]
    assert get(settings, "org/tiny-GGUF:Q4_0", local_dir=folder).files[0].action == "kept"
    assert not settings.hf_hub_cache.exists()


def test_a_plan_changes_nothing(settings: Settings, tmp_path: Path) -> None:
    plan = plan_fetch(parse_ref("org/tiny-GGUF"), FetchWish(include=("*",)), settings=settings)
    assert plan.missing_bytes == len(MODEL) + len(OTHER) + len(b"# a card\n")
    assert not settings.hf_home.exists()
    assert {file.file.path for file in plan.files} == {"README.md", "tiny-Q8_0.gguf", "sub/tiny-Q4_0.gguf"}


def test_small_files_are_bound_by_their_git_hash(hub: RunningHub, settings: Settings) -> None:
    (file,) = get(settings, names=("README.md",), ref="org/tiny-GGUF").files
    assert file.sha256 is None
    expected = hashlib.sha1(b"blob 9\0# a card\n", usedforsecurity=False).hexdigest()
    assert os.readlink(file.local_path) == f"../../blobs/{expected}"
    hub.add(repo("org/small", {"README.md": b"# a card\n"}))
    hub.inject(Fault(kind=Kind.FLIPPED_BIT, where="resolve*", at_byte=2, times=None))
    with pytest.raises(ProvisionError):
        get(settings, names=("README.md",), ref="org/small")


def test_offline_uses_what_is_here_and_says_what_is_not(hub: RunningHub, settings: Settings) -> None:
    get(settings)
    asked = len(hub.log.all())
    assert get(settings, offline=True).files[0].action == "kept"
    with pytest.raises(NotFoundError):
        get(settings, "org/tiny-GGUF:Q4_0", offline=True)
    assert len(hub.log.all()) == asked


def test_modelscope_delivers_beside_the_hub(hub: RunningHub, settings: Settings) -> None:
    environ = {**settings.environ, "MODELSCOPE_DOMAIN": hub.modelscope_url}
    # Slow enough that whoever comes second still finds work to take over.
    hub.throttle(700_000)
    done = get(replace(settings, environ=environ), sources=("hf", "modelscope"))
    assert done.files[0].local_path.read_bytes() == MODEL
    assert set(done.files[0].sources) == {hub.url, hub.modelscope_url}


def test_verify_finds_damage_at_rest_without_asking_anybody(hub: RunningHub, settings: Settings) -> None:
    (file,) = get(settings).files
    ref = parse_ref("org/tiny-GGUF:Q8_0")
    asked = len(hub.log.all())
    assert [one.status for one in verify_cached(ref, settings=settings)] == ["ok"]
    blob = file.local_path.resolve()
    damaged = bytearray(MODEL)
    damaged[5_000_000] ^= 1
    blob.write_bytes(damaged)
    assert [one.status for one in verify_cached(ref, settings=settings)] == ["damaged"]
    assert len(hub.log.all()) == asked
    assert get(settings).files[0].action == "repaired"
    assert [one.status for one in verify_cached(ref, settings=settings)] == ["ok"]


def test_a_file_where_a_folder_is_wanted_is_named(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("mine")
    with pytest.raises(MachineError) as caught:
        get(settings, local_dir=tmp_path / "taken")
    assert caught.value.code == "not-a-folder"
    assert (tmp_path / "taken").read_text() == "mine"


def test_many_small_files_come_side_by_side_and_one_error_ends_all(hub: RunningHub, settings: Settings) -> None:
    files = {f"part-{number:02}.json": b"%d" % number * 100 for number in range(24)}
    hub.add(repo("org/many", files))
    done = get(settings, "org/many", include=("*",))
    assert {file.path: file.local_path.read_bytes() for file in done.files} == files
    assert [file.path for file in done.files] == sorted(files)
    hub.add(repo("org/torn", {**files, "torn.json": b"?" * 50}))
    hub.inject(Fault(kind=Kind.STATUS, where="resolve*", path="torn.json", value=404, times=None))
    with pytest.raises(ProvisionError):
        get(settings, "org/torn", include=("*",))
