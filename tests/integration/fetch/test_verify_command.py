"""`provision verify` by its words: a repository, a file, the whole cache; offline, with exit 8 for damage."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from provision.units import MIB
from tests.support.commands import provision
from tests.support.hub import RunningHub, repo, start_hub

pytestmark = pytest.mark.integration

MODEL = random.Random(9).randbytes(2 * MIB)


@pytest.fixture
def hub() -> Iterator[RunningHub]:
    with start_hub(repos=[repo("org/tiny-GGUF", {"tiny-Q8_0.gguf": MODEL, "tiny-Q4_0.gguf": MODEL[:MIB]})]) as running:
        yield running


def test_a_plain_folder_is_held_to_what_was_once_verified(hub: RunningHub, tmp_path: Path) -> None:
    folder = tmp_path / "models"
    fetched = provision("fetch", "org/tiny-GGUF:Q8_0", "--local-dir", folder, home=tmp_path, HF_ENDPOINT=hub.url)
    assert fetched.exit_code == 0, fetched.stderr
    file = folder / "tiny-Q8_0.gguf"
    assert provision("verify", file, home=tmp_path).exit_code == 0
    file.write_bytes(MODEL[:-1] + b"?")
    ran = provision("verify", file, "--json", home=tmp_path)
    assert ran.exit_code == 8
    assert ran.data["files"][0]["status"] == "damaged"
    assert ran.envelope["errors"][0]["code"] == "file-damaged"
    # The user's own file is not taken away before the right one is here.
    hub.drop_connections()
    down = provision("fetch", "org/tiny-GGUF:Q8_0", "--local-dir", folder, home=tmp_path, HF_ENDPOINT="http://127.0.0.1:9")
    assert down.exit_code == 7
    assert file.exists()


def test_a_repository_a_quant_and_the_whole_cache(hub: RunningHub, tmp_path: Path) -> None:
    provision("fetch", "org/tiny-GGUF", "--include", "*", home=tmp_path, HF_ENDPOINT=hub.url)
    quant = provision("verify", "org/tiny-GGUF:Q4_0", "--json", home=tmp_path)
    assert [file["path"] for file in quant.data["files"]] == ["tiny-Q4_0.gguf"]
    everything = provision("verify", "--json", home=tmp_path)
    assert (everything.exit_code, len(everything.data["files"])) == (0, 2)
    assert provision("verify", "org/other", home=tmp_path).exit_code == 5
    stranger = tmp_path / "stranger.gguf"
    stranger.write_bytes(b"?")
    assert provision("verify", stranger, home=tmp_path).exit_code == 5


def test_a_missing_blob_is_missing_not_fine(hub: RunningHub, tmp_path: Path) -> None:
    ran = provision("fetch", "org/tiny-GGUF:Q4_0", "--json", home=tmp_path, HF_ENDPOINT=hub.url)
    Path(ran.data["files"][0]["local_path"]).resolve().unlink()
    ran = provision("verify", "org/tiny-GGUF:Q4_0", "--json", home=tmp_path)
    assert (ran.exit_code, ran.data["files"][0]["status"]) == (8, "missing")
    # This very file in this very revision, wherever main goes meanwhile.
    hint = f"provision fetch org/tiny-GGUF@{hub.repos['org/tiny-GGUF'].head} --file tiny-Q4_0.gguf"
    assert ran.envelope["errors"][0]["hint"] == hint
    ran = provision("verify", "--json", home=tmp_path)
    assert ran.envelope["errors"][0]["hint"] == hint
    assert provision(*hint.split()[1:], home=tmp_path, HF_ENDPOINT=hub.url).exit_code == 0
    assert provision("verify", home=tmp_path).exit_code == 0
