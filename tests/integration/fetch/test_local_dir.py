"""`--local-dir`: a home of files like any other, offline too, and no second download of what the cache has."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from provision.units import MIB
from tests.support.commands import Ran, provision
from tests.support.hub import RunningHub, repo, start_hub

pytestmark = pytest.mark.integration

MODEL = random.Random(25).randbytes(2 * MIB)
OTHER = random.Random(26).randbytes(MIB)
NOBODY = "http://127.0.0.1:9"


@pytest.fixture
def hub() -> Iterator[RunningHub]:
    with start_hub(repos=[repo("o/r", {"m-Q8_0.gguf": MODEL, "m-Q4_0.gguf": OTHER})]) as running:
        yield running


def fetch(home: Path, endpoint: str, *words: str | Path) -> Ran:
    return provision("fetch", *words, "--json", home=home, HF_ENDPOINT=endpoint)


def test_a_tilde_is_the_home(hub: RunningHub, tmp_path: Path) -> None:
    assert fetch(tmp_path, hub.url, "o/r:Q8_0", "--local-dir", "~/models").exit_code == 0
    assert (tmp_path / "models/m-Q8_0.gguf").read_bytes() == MODEL
    assert fetch(tmp_path, hub.url, "o/r:Q8_0", "--local-dir", "~nobody-at-all/x").exit_code == 2


def test_offline_a_file_that_is_there_is_verified_and_kept(hub: RunningHub, tmp_path: Path) -> None:
    place = tmp_path / "models"
    assert fetch(tmp_path, hub.url, "o/r:Q8_0", "--local-dir", place).exit_code == 0
    commit = hub.repos["o/r"].head
    for name in ("o/r:Q8_0", "o/r", f"o/r:Q8_0@{commit}"):
        ran = fetch(tmp_path, NOBODY, name, "--local-dir", place, "--offline")
        assert (ran.exit_code, ran.data["files"][0]["action"], ran.data["commit"]) == (0, "kept", commit)
    assert fetch(tmp_path, NOBODY, "o/r:Q4_0", "--local-dir", place, "--offline").exit_code == 5
    assert fetch(tmp_path, NOBODY, "o/other:Q8_0", "--local-dir", place, "--offline").exit_code == 5
    (place / "m-Q8_0.gguf").write_bytes(b"?" + MODEL[1:])
    ran = fetch(tmp_path, NOBODY, "o/r:Q8_0", "--local-dir", place, "--offline")
    assert (ran.exit_code, ran.envelope["errors"][0]["code"]) == (8, "file-damaged")


@pytest.mark.parametrize("offline", [False, True])
def test_what_the_cache_has_is_copied(hub: RunningHub, tmp_path: Path, offline: bool) -> None:
    place = tmp_path / "models"
    assert fetch(tmp_path, hub.url, "o/r:Q8_0").exit_code == 0
    sent = hub.log.body_bytes()
    words = ["o/r:Q8_0", "--local-dir", place, *(["--offline"] if offline else [])]
    plan = fetch(tmp_path, hub.url, *words, "--dry-run")
    assert (plan.data["files"][0]["action"], plan.data["missing_bytes"]) == ("copy", 0)
    ran = fetch(tmp_path, hub.url, *words)
    assert (ran.exit_code, ran.data["files"][0]["transferred_bytes"]) == (0, 0)
    assert (place / "m-Q8_0.gguf").read_bytes() == MODEL
    assert hub.log.body_bytes() == sent
    # The folder is its owner's: what happens there does not reach the cache.
    (place / "m-Q8_0.gguf").write_bytes(b"mine")
    assert provision("verify", "o/r:Q8_0", home=tmp_path).exit_code == 0


def test_a_damaged_copy_in_the_cache_is_not_copied(hub: RunningHub, tmp_path: Path) -> None:
    place = tmp_path / "models"
    cached = Path(fetch(tmp_path, hub.url, "o/r:Q8_0").data["files"][0]["local_path"])
    cached.resolve().write_bytes(b"?" + MODEL[1:])
    assert fetch(tmp_path, NOBODY, "o/r:Q8_0", "--local-dir", place, "--offline").exit_code == 8
    ran = fetch(tmp_path, hub.url, "o/r:Q8_0", "--local-dir", place)
    assert (ran.exit_code, ran.data["files"][0]["action"]) == (0, "downloaded")
    assert (place / "m-Q8_0.gguf").read_bytes() == MODEL
    assert sorted(path.name for path in (place / ".cache/provision").iterdir() if path.suffix == ".incomplete") == []
