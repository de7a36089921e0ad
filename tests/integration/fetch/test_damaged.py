"""A damaged file that has its final name: nothing is asked offline, and no byte is thrown away before the right one is here."""

from __future__ import annotations

import os
import random
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from provision.units import MIB
from tests.support.commands import Ran, provision
from tests.support.hub import Fault, Kind, RunningHub, repo, start_hub

pytestmark = pytest.mark.integration

MODEL = random.Random(21).randbytes(13 * MIB)
NAME = "tiny-Q8_0.gguf"


@pytest.fixture
def hub() -> Iterator[RunningHub]:
    with start_hub(repos=[repo("org/tiny-GGUF", {NAME: MODEL, "tiny-Q4_0.gguf": MODEL[:MIB]})]) as running:
        yield running


@pytest.fixture
def blob(hub: RunningHub, tmp_path: Path) -> Path:
    """The cached model with one bad byte at its beginning."""
    ran = provision("fetch", "org/tiny-GGUF:Q8_0", "--json", home=tmp_path, HF_ENDPOINT=hub.url)
    path = Path(ran.data["files"][0]["local_path"]).resolve()
    path.write_bytes(b"?" + MODEL[1:])
    return path


def fetch(home: Path, endpoint: str, *words: str, **environ: str) -> Ran:
    return provision("fetch", "org/tiny-GGUF:Q8_0", "--json", *words, home=home, HF_ENDPOINT=endpoint, **environ)


def paste(hint: str, home: Path, endpoint: str) -> Ran:
    words = shlex.split(hint)
    environ = {}
    while "=" in words[0]:
        name, _, environ[name] = words.pop(0).partition("=")
    assert words[0] == "provision"
    return provision(*words[1:], home=home, HF_ENDPOINT=endpoint, **environ)


@pytest.mark.parametrize("how", ["option", "environment"])
def test_offline_asks_nobody_and_takes_nothing_away(hub: RunningHub, blob: Path, tmp_path: Path, how: str) -> None:
    asked, damaged = len(hub.log.all()), blob.read_bytes()
    ran = fetch(tmp_path, hub.url, "--offline") if how == "option" else fetch(tmp_path, hub.url, HF_HUB_OFFLINE="1")
    assert (ran.exit_code, ran.envelope["errors"][0]["code"]) == (8, "file-damaged")
    assert len(hub.log.all()) == asked
    assert blob.read_bytes() == damaged
    hint = ran.envelope["errors"][0]["hint"]
    assert paste(hint, tmp_path, hub.url).exit_code == 0
    assert blob.read_bytes() == MODEL
    assert fetch(tmp_path, hub.url, "--offline").exit_code == 0


def test_a_repair_fetches_only_until_the_hash_is_right(hub: RunningHub, blob: Path, tmp_path: Path) -> None:
    before = hub.log.body_bytes()
    # So slow that the hash of the whole is done before the rest has come.
    hub.throttle(4_000_000)
    ran = fetch(tmp_path, hub.url, "--connections", "1")
    assert ran.data["files"][0]["action"] == "repaired"
    assert blob.read_bytes() == MODEL
    assert hub.log.body_bytes() - before < len(MODEL)
    assert sorted(path.name for path in blob.parent.iterdir()) == [blob.name]


def test_without_a_hub_every_byte_stays_and_the_name_goes(hub: RunningHub, blob: Path, tmp_path: Path) -> None:
    hub.drop_connections()
    hub.inject(Fault(kind=Kind.STATUS, value=404, times=None))
    ran = fetch(tmp_path, hub.url)
    assert ran.exit_code == 7
    assert not blob.exists()
    (partial,) = blob.parent.glob("*.provision.incomplete")
    assert partial.read_bytes() == b"?" + MODEL[1:]
    plan = fetch(tmp_path, hub.url, "--dry-run")
    assert (plan.data["files"][0]["action"], plan.data["missing_bytes"]) == ("repair", len(MODEL))
    assert fetch(tmp_path, hub.url, "--offline").exit_code == 5
    hub.faults.clear()
    assert fetch(tmp_path, hub.url).data["files"][0]["action"] == "repaired"
    assert blob.read_bytes() == MODEL


def test_a_shorter_file_keeps_its_whole_pieces(hub: RunningHub, blob: Path, tmp_path: Path) -> None:
    blob.write_bytes(MODEL[: 9 * MIB])
    assert fetch(tmp_path, hub.url, "--dry-run").data["files"][0]["action"] == "repair"
    before = hub.log.body_bytes()
    assert fetch(tmp_path, hub.url).data["files"][0]["action"] == "repaired"
    assert blob.read_bytes() == MODEL
    assert hub.log.body_bytes() - before == 5 * MIB


def test_bytes_that_others_share_are_not_written_to(hub: RunningHub, blob: Path, tmp_path: Path) -> None:
    other = tmp_path / "of-somebody-else"
    os.link(blob, other)
    assert fetch(tmp_path, hub.url).data["files"][0]["action"] == "repaired"
    assert blob.read_bytes() == MODEL
    assert other.read_bytes() == b"?" + MODEL[1:]


def test_a_plan_says_keep_only_of_what_was_verified(hub: RunningHub, blob: Path, tmp_path: Path) -> None:
    assert fetch(tmp_path, hub.url, "--dry-run").data["files"][0]["action"] == "check"
    fetch(tmp_path, hub.url)
    assert fetch(tmp_path, hub.url, "--dry-run").data["files"][0]["action"] == "keep"
    shown = provision("fetch", "org/tiny-GGUF:Q4_0", "--dry-run", home=tmp_path, HF_ENDPOINT=hub.url)
    assert "1.0 MiB to fetch" in shown.stdout
