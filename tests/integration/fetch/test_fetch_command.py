"""`provision fetch` by its words."""

from __future__ import annotations

import json
import random
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from provision.cli.main import main
from provision.errors import NotFoundError
from provision.smoke.demo import demo_model_path
from provision.units import MIB
from tests.support.commands import private_environ, provision
from tests.support.hub import RunningHub, repo, start_hub

pytestmark = pytest.mark.integration

MODEL = random.Random(13).randbytes(3 * MIB)
SHARDS = {f"Q4_K_M/m-Q4_K_M-0000{n}-of-00003.gguf": MODEL[n * 1000 : n * 1000 + MIB] for n in (1, 2, 3)}


@pytest.fixture
def hub() -> Iterator[RunningHub]:
    with start_hub(repos=[repo("org/m-GGUF", {**SHARDS, "m-Q8_0.gguf": MODEL})]) as running:
        yield running


def test_a_split_model_comes_whole(hub: RunningHub, tmp_path: Path) -> None:
    plan = provision("fetch", "org/m-GGUF:Q4_K_M", "--dry-run", "--json", home=tmp_path, HF_ENDPOINT=hub.url)
    assert plan.data["missing_bytes"] == 3 * MIB
    assert plan.data["dry_run"] is True
    ran = provision("fetch", "org/m-GGUF:Q4_K_M", "--json", home=tmp_path, HF_ENDPOINT=hub.url)
    assert [file["path"] for file in ran.data["files"]] == list(SHARDS)
    assert [Path(file["local_path"]).read_bytes() for file in ran.data["files"]] == list(SHARDS.values())
    assert set(ran.data) == {"repo_id", "revision", "commit", "files", "elapsed_s", "bytes_per_s"}


def test_an_incomplete_split_is_refused(hub: RunningHub, tmp_path: Path) -> None:
    hub.add(repo("org/torn-GGUF", dict(list(SHARDS.items())[:2])))
    ran = provision("fetch", "org/torn-GGUF:Q4_K_M", "--json", home=tmp_path, HF_ENDPOINT=hub.url)
    assert ran.exit_code not in (0, 70)
    assert hub.log.body_bytes() == 0


def test_auto_takes_what_fit_would_choose(hub: RunningHub, tmp_path: Path) -> None:
    try:
        hub.add(repo("org/demo-GGUF", {"demo-Q8_0.gguf": demo_model_path().read_bytes()}))
    except NotFoundError as error:
        pytest.skip(error.message)
    ran = provision("fetch", "org/demo-GGUF", "--quant", "auto", "--json", home=tmp_path, HF_ENDPOINT=hub.url)
    assert ran.exit_code == 0, ran.stdout + ran.stderr
    assert [file["path"] for file in ran.data["files"]] == ["demo-Q8_0.gguf"]


@pytest.mark.parametrize(
    "words",
    [
        ["--connections", "0"],
        ["--connections", "65"],
        ["--limit-rate", "fast"],
        ["--limit-rate", "10"],
        ["--limit-rate", "9" * 400],
        ["--quant", "Q4_K_M"],
        ["--source", "torrent"],
        ["--progress", "loud"],
    ],
    ids=lambda words: " ".join(words)[:30],
)
def test_wrong_options_are_exit_2(
    tmp_path: Path, words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert main(["fetch", "org/m-GGUF:Q8_0", "--json", *words]) == 2
    hint = json.loads(capsys.readouterr().out)["errors"][0]["hint"]
    assert hint
    if words[0] == "--limit-rate":
        assert "--limit-rate 10M" in hint


def test_people_read_what_happened(hub: RunningHub, tmp_path: Path) -> None:
    ran = provision("fetch", "org/m-GGUF:Q8_0", "--progress", "plain", home=tmp_path, HF_ENDPOINT=hub.url)
    assert "✓ m-Q8_0.gguf  3.0 MiB  downloaded" in ran.stdout
    assert "every file verified" in " ".join(ran.stdout.split())
    events = provision("fetch", "org/m-GGUF:Q4_K_M", "--progress", "json", home=tmp_path, HF_ENDPOINT=hub.url)
    assert '"event": "ProgressEnded"' in events.stderr


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_closed_stream_is_nobody_listening(hub: RunningHub, tmp_path: Path, closed: str) -> None:
    words = shlex.join([sys.executable, "-m", "provision", "fetch", "org/m-GGUF:Q8_0"])
    ran = subprocess.run(f"{words} {closed}", shell=True, env=private_environ(tmp_path, HF_ENDPOINT=hub.url), check=False)
    assert ran.returncode == 0
    (blob,) = tmp_path.rglob("blobs/*")
    assert blob.read_bytes() == MODEL
