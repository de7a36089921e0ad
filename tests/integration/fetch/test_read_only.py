"""A cache that cannot be written, filled by somebody else: it serves what is in it, verified, and says so of what is not."""

from __future__ import annotations

import random
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from provision.units import MIB
from tests.support.commands import Ran, provision
from tests.support.hub import RunningHub, repo, start_hub
from tests.support.small_disk import mounted

pytestmark = pytest.mark.integration

MODEL = random.Random(22).randbytes(2 * MIB)
FILES = {"tiny-Q8_0.gguf": MODEL, "tiny-Q4_0.gguf": MODEL[:MIB]}


@pytest.fixture
def hub() -> Iterator[RunningHub]:
    with start_hub(repos=[repo("org/tiny-GGUF", FILES)]) as running:
        yield running


@pytest.fixture
def shared(hub: RunningHub, tmp_path: Path) -> Iterator[Path]:
    """HF_HOME on a disk that became read-only after Q8_0 was put there; a tag of the same commit was not asked for yet."""
    with mounted(tmp_path / "shared", "size=16m") as folder:
        done = provision("fetch", "org/tiny-GGUF:Q8_0", home=tmp_path, HF_ENDPOINT=hub.url, HF_HOME=str(folder))
        assert done.exit_code == 0, done.stderr
        origin = hub.repos["org/tiny-GGUF"]
        origin.tags["v1"] = origin.head
        subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
        yield folder


def run(*words: str, shared: Path, hub: RunningHub, home: Path) -> Ran:
    mine = str(home / "mine")
    return provision(*words, "--json", home=home, HF_ENDPOINT=hub.url, HF_HOME=str(shared), PROVISION_HOME=mine)


@pytest.mark.parametrize("words", [[], ["--offline"], ["--revision", "v1"]], ids=" ".join)
def test_what_is_there_is_verified_and_kept(hub: RunningHub, shared: Path, tmp_path: Path, words: list[str]) -> None:
    ran = run("fetch", "org/tiny-GGUF:Q8_0", *words, shared=shared, hub=hub, home=tmp_path)
    assert ran.exit_code == 0, ran.stdout + ran.stderr
    assert ran.data["files"][0]["action"] == "kept"
    # Verified, not believed: the memory of it is this user's own.
    assert list((tmp_path / "mine" / "verified").glob("*.json"))


def test_what_is_not_there_is_exit_3_with_another_place(hub: RunningHub, shared: Path, tmp_path: Path) -> None:
    ran = run("fetch", "org/tiny-GGUF:Q4_0", shared=shared, hub=hub, home=tmp_path)
    error = ran.envelope["errors"][0]
    assert (ran.exit_code, error["code"]) == (3, "not-writable")
    assert "HF_HUB_CACHE=" in error["hint"]
    assert run("verify", shared=shared, hub=hub, home=tmp_path).exit_code == 0
