"""`provision fetch` by its words: each failure has its exit code, one JSON object, and a way out."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from provision.cli.main import main
from provision.units import MIB
from tests.support.commands import Ran, private_environ, provision
from tests.support.hub import Fault, Kind, Noise, RunningHub, Zeros, repo, start_hub

pytestmark = pytest.mark.integration

MODEL = Noise(9 * MIB + 1, seed=4)
FILES = {
    "m-Q8_0.gguf": MODEL,
    "m-Q4_K_S.gguf": Noise(1000, seed=5),
    "half-Q2_K-00001-of-00002.gguf": Noise(10, seed=6),
    "cut.Q6_K.gguf-split-a": Noise(10, seed=7),
    "cut.Q6_K.gguf-split-b": Noise(10, seed=8),
}
SECRET = "hf_veryverysecret"


@pytest.fixture
def hub() -> Iterator[RunningHub]:
    gated = repo("org/gated", FILES, gated=True)
    liar = repo("org/liar", {"m-Q8_0.gguf": Zeros(3 * MIB, promised="0" * 64)})
    huge = repo("org/huge", {"m-Q8_0.gguf": Zeros(1 << 60, promised="1" * 64)})
    evil = repo("org/evil", {"../../.bashrc.gguf": Noise(10, seed=9)})
    with start_hub(repos=[repo("org/m", FILES), gated, liar, huge, evil], tokens=[SECRET]) as running:
        yield running


def fetch(hub: RunningHub, home: Path, *words: str, **environ: str) -> Ran:
    return provision("fetch", *words, "--json", home=home, HF_ENDPOINT=hub.url, **environ)


@pytest.mark.parametrize(
    ("words", "exit_code", "code", "told"),
    [
        (["not-a-repo"], 2, "bad-ref", "org/repo"),
        (["org/m"], 2, "quant-required", "Q4_K_S"),
        (["org/m:Q8_0", "--connections", "0"], 2, "bad-option", "between 1 and 64"),
        (["org/none:Q8_0"], 5, "repo-not-found", "org/none"),
        (["org/m:Q8_0@gone"], 5, "revision-not-found", "gone"),
        (["org/m:Q4_K_M"], 5, "quant-not-found", "nearest: Q4_K_S"),
        (["org/m:Q2_K"], 5, "split-incomplete", "2 of 2"),
        (["org/m:Q6_K"], 5, "byte-split", "joined"),
        (["org/m", "--file", "none.gguf"], 5, None, "none.gguf"),
        (["org/gated:Q8_0"], 6, "gated-repo", "https://huggingface.co/org/gated"),
        (["org/liar:Q8_0"], 8, "hash-mismatch", "0000"),
        (["org/evil", "--include", "*"], 8, "unsafe-name", "bashrc"),
        (["org/huge:Q8_0"], 3, "disk-full", "are needed"),
    ],
)
def test_each_failure_has_its_exit_code(
    hub: RunningHub,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    exit_code: int,
    code: str | None,
    told: str,
) -> None:
    # In this process, for starting Python thirteen times takes longer than all the rest.
    environ = private_environ(tmp_path, HF_ENDPOINT=hub.url, HF_TOKEN=SECRET)
    for name in os.environ.keys() - environ.keys():
        monkeypatch.delenv(name)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    ended = main(["fetch", *words, "--json"])
    said = capsys.readouterr()
    ran = Ran(exit_code=ended, stdout=said.out, stderr=said.err)
    assert ran.exit_code == exit_code, ran.stdout + ran.stderr
    envelope = ran.envelope
    (error,) = envelope["errors"]
    assert (envelope["status"], envelope["exit_code"]) == ("error", exit_code)
    assert code is None or error["code"] == code
    assert told in error["message"] + error["hint"]
    assert error["hint"]
    assert "Traceback" not in ran.stderr
    assert SECRET not in ran.stdout + ran.stderr
    left = [path for path in tmp_path.rglob("*") if path.is_file() and path.suffix not in (".lock", ".json")]
    assert left == []


def test_a_hub_that_is_down_and_one_that_is_none(tmp_path: Path) -> None:
    with start_hub() as gone:
        url = gone.url
    down = provision("fetch", "org/m:Q8_0", "--json", home=tmp_path, HF_ENDPOINT=url)
    assert (down.exit_code, down.envelope["errors"][0]["code"]) == (7, "hub-unreachable")
    with start_hub(faults=[Fault(kind=Kind.HTML, where="*", times=None)]) as portal:
        page = provision("fetch", "org/m:Q8_0", "--json", home=tmp_path, HF_ENDPOINT=portal.url)
    assert (page.exit_code, page.envelope["errors"][0]["code"]) == (7, "not-a-hub")


def test_a_gated_repository_opens_for_a_token_that_reaches_it(hub: RunningHub, tmp_path: Path) -> None:
    hub.repos["org/gated"].access = frozenset({SECRET})
    ran = fetch(hub, tmp_path, "org/gated:Q8_0", HF_TOKEN=SECRET, PROVISION_TOKEN_ORIGINS=hub.url)
    assert ran.exit_code == 0, ran.stdout
    for file in tmp_path.rglob("*"):
        assert not file.is_file() or SECRET.encode() not in file.read_bytes()
    assert SECRET not in ran.stdout + ran.stderr
    assert all(one.authorization is None for one in hub.log.all(face="cdn"))


def test_the_token_file_of_the_official_client_serves_too(hub: RunningHub, tmp_path: Path) -> None:
    hub.repos["org/gated"].access = frozenset({SECRET})
    folder = tmp_path / ".cache" / "huggingface"
    folder.mkdir(parents=True)
    (folder / "token").write_text(SECRET + "\n")
    assert fetch(hub, tmp_path, "org/gated:Q8_0", PROVISION_TOKEN_ORIGINS=hub.url).exit_code == 0


def test_what_is_given_up_goes_on_from_there(hub: RunningHub, tmp_path: Path) -> None:
    hub.inject(Fault(kind=Kind.STATUS, value=404, skip=1, times=None))
    gave_up = fetch(hub, tmp_path, "org/m:Q8_0", "--connections", "1")
    assert gave_up.exit_code == 7, gave_up.stdout
    assert "same command" in gave_up.envelope["errors"][0]["hint"]
    sent = hub.log.body_bytes()
    hub.faults.clear()
    done = fetch(hub, tmp_path, "org/m:Q8_0")
    assert done.data["files"][0]["action"] == "resumed"
    assert hub.log.body_bytes() - sent <= MODEL.size_bytes - 4 * MIB


@pytest.mark.parametrize("where", ["info", "resolve", "cdn"])
def test_ctrl_c_ends_at_once_while_a_server_says_nothing(hub: RunningHub, tmp_path: Path, where: str) -> None:
    hub.inject(Fault(kind=Kind.DELAY, where=where, seconds=20, times=None))
    argv = [sys.executable, "-m", "provision", "fetch", "org/m:Q8_0", "--json"]
    env = private_environ(tmp_path, HF_ENDPOINT=hub.url)
    process = subprocess.Popen(argv, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 30
    while not hub.log.all(where=where) and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.2)
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=15)
    assert time.monotonic() - began < 6
    assert process.returncode == 130
    assert json.loads(out)["exit_code"] == 130


def test_a_dry_run_tells_everything_and_touches_nothing(hub: RunningHub, tmp_path: Path) -> None:
    ran = fetch(hub, tmp_path, "org/m:Q8_0", "--dry-run")
    assert ran.exit_code == 0
    assert ran.data["missing_bytes"] == MODEL.size_bytes
    assert ran.data["files"][0]["sha256"] == MODEL.sha256
    assert hub.log.body_bytes() == 0
    assert not (tmp_path / ".cache").exists()


@pytest.mark.skipif(not os.path.isdir("/proc"), reason="reads argv from /proc")
def test_the_token_is_in_nobodys_argv(hub: RunningHub, tmp_path: Path) -> None:
    hub.throttle(2_000_000)
    argv = [sys.executable, "-m", "provision", "fetch", "org/m:Q8_0", "--json"]
    env = private_environ(tmp_path, HF_ENDPOINT=hub.url, HF_TOKEN=SECRET, PROVISION_TOKEN_ORIGINS=hub.url)
    process = subprocess.Popen(argv, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    seen = ""
    while process.poll() is None and not hub.log.all(face="cdn"):
        time.sleep(0.05)
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            seen += entry.read_bytes().decode(errors="replace")
        except OSError:
            continue
    process.kill()
    process.communicate()
    assert "provision" in seen
    assert SECRET not in seen
