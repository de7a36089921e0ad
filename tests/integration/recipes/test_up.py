"""`provision up` by subprocess: nothing between the command line and the engine is replaced."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from tests.integration.recipes.conftest import REPO, Machine
from tests.support.commands import private_environ
from tests.support.hub import Fault, Kind, start_hub

pytestmark = pytest.mark.integration

STEPS = ["doctor", "install", "fit", "fetch", "smoke"]


def statuses(envelope: dict[str, Any]) -> dict[str, str]:
    return {step["name"]: step["status"] for step in envelope["data"]["steps"]}


def test_up_demo_answers_and_a_second_run_takes_seconds(machine: Machine) -> None:
    envelope = machine.json("up")
    data = envelope["data"]
    assert envelope["command"] == "up"
    assert data["recipe"] == "demo"
    assert list(statuses(envelope)) == STEPS
    assert data["verdict"] == "pass"
    assert data["smoke"]["verdict"] == "pass"
    assert data["answer"]
    assert data["model"]["path"].endswith(".gguf")
    started = time.monotonic()
    ran = machine.run("up", "demo")
    elapsed = time.monotonic() - started
    assert ran.exit_code == 0, ran.stderr
    line = ran.stdout.splitlines()[0]
    assert line.startswith("PASS  demo · Q8_0 · CPU · ")
    assert "known answers" in line
    assert line.endswith("tok/s")
    assert "provision chat demo" in ran.stdout
    assert elapsed < 45, "a second run keeps everything and only proves it again"
    assert [part for part in ran.stderr.splitlines() if part.startswith(("✓ install", "- fetch"))]


def test_the_plan_changes_nothing(machine: Machine) -> None:
    before = sorted(path.relative_to(machine.home) for path in machine.home.rglob("*") if "probes" not in path.parts)
    envelope = machine.json("up", "demo", "--plan")
    assert [step["name"] for step in envelope["data"]["plan"]] == STEPS
    after = sorted(path.relative_to(machine.home) for path in machine.home.rglob("*") if "probes" not in path.parts)
    assert after == before


def test_a_repository_of_a_hub_is_fetched_verified_and_kept(machine: Machine, hub_root: Path) -> None:
    with start_hub(hub_root) as hub:
        first = machine.json("up", f"{REPO}:Q8_0", HF_ENDPOINT=hub.url)
        again = machine.json("up", REPO, HF_ENDPOINT=hub.url)
    assert first["data"]["verdict"] == again["data"]["verdict"] == "pass"
    assert statuses(first)["fetch"] == "done"
    assert statuses(again)["fetch"] == "kept"
    assert first["data"]["model"]["quant"] == "Q8_0"


def test_a_hub_that_is_down_is_a_transfer_error(machine: Machine) -> None:
    envelope = machine.json("up", REPO, code=7, HF_ENDPOINT="http://127.0.0.1:9")
    assert envelope["errors"][0]["hint"]
    assert envelope["data"]["steps"][-1]["status"] == "failed"
    assert envelope["data"]["verdict"] is None


def test_a_repository_that_is_not_there(machine: Machine, hub_root: Path) -> None:
    with start_hub(hub_root) as hub:
        assert machine.json("up", "team/no-such", code=5, HF_ENDPOINT=hub.url)["errors"]
        wrong = machine.json("up", f"{REPO}:Q2_K", code=5, HF_ENDPOINT=hub.url)
    assert "Q8_0" in json.dumps(wrong["errors"])


def test_a_mirror_that_flips_a_bit_is_caught(machine: Machine, hub_root: Path) -> None:
    # Every time it sends that byte: a bit that is wrong once is repaired without anybody noticing.
    flipped = Fault(kind=Kind.FLIPPED_BIT, path="*.gguf", at_byte=1_000_000, times=None)
    with start_hub(hub_root, faults=[flipped]) as hub:
        envelope = machine.json("up", f"{REPO}:Q8_0", code=8, HF_ENDPOINT=hub.url)
    assert statuses(envelope)["fetch"] == "failed"
    assert not list((machine.home / "hf").rglob("snapshots/*/*.gguf"))


def test_a_bad_recipe_says_everything_that_is_wrong(machine: Machine, tmp_path: Path) -> None:
    recipe = tmp_path / "mine.toml"
    recipe.write_text('name = "mine"\ntitel = "x"\n[model]\nrepo = "org"\n', encoding="utf-8")
    envelope = machine.json("up", recipe, code=2)
    message = envelope["errors"][0]["message"]
    assert "perhaps you meant 'title'" in message
    assert "model.repo" in message
    assert machine.json("up", "demoo", code=2)["errors"][0]["code"] == "unknown-target"


def test_a_full_disk_is_named_before_anything_is_downloaded(machine: Machine, hub_root: Path, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mount = f"mount -t tmpfs -o size=1m none {small} && exec {sys.executable} -m provision up {REPO} --json"
    with start_hub(hub_root) as hub:
        environ = private_environ(machine.home, HF_HOME=str(small), HF_ENDPOINT=hub.url)
        done = subprocess.run(["unshare", "-rm", "sh", "-c", mount], capture_output=True, env=environ, check=False, timeout=120)
        sent = hub.log.body_bytes()
    if b"unshare" in done.stderr or b"mount:" in done.stderr:
        pytest.skip("this machine lets nobody mount a small file system")
    envelope = json.loads(done.stdout)
    assert envelope["exit_code"] == done.returncode == 3
    assert envelope["errors"][0]["code"] == "disk-full"
    assert sent < 1_000_000


def start(machine: Machine, *words: str, **more: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "provision", "up", *words, "--json", "--progress", "json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=private_environ(machine.home, **{**machine.environ, **more}),
        start_new_session=True,
    )


def wait_for_step(process: subprocess.Popen[bytes], step: str) -> None:
    """Read progress until `step` begins (for `fetch`: until bytes arrive)."""
    assert process.stderr is not None
    begun = False
    for raw in process.stderr:
        event = json.loads(raw) if raw.startswith(b"{") else {}
        begun = begun or (event.get("event") == "StepStarted" and event.get("step") == step)
        moving = event.get("event") == "Progress" and 0 < event["done"] < (event["total"] or 0)
        if begun and (step != "fetch" or moving):
            # Somebody must go on reading, or the child stops at a full pipe.
            threading.Thread(target=process.stderr.read, daemon=True).start()
            return
    pytest.fail(f"`up` ended before {step} began")


def kill_hard(process: subprocess.Popen[bytes]) -> None:
    os.killpg(process.pid, signal.SIGKILL)
    process.wait(timeout=30)


@pytest.mark.parametrize("step", [pytest.param(s, marks=[] if s in ("fetch", "smoke") else [pytest.mark.slow]) for s in STEPS])
def test_killed_at_any_step_it_goes_on_where_it_stopped(step: str, machine: Machine, hub_root: Path) -> None:
    with start_hub(hub_root, throttle_bytes_per_s=150_000) as hub:
        process = start(machine, REPO, HF_ENDPOINT=hub.url)
        wait_for_step(process, step)
        kill_hard(process)
        hub.throttle(None)
        sent_before = hub.log.body_bytes()
        envelope = machine.json("up", REPO, HF_ENDPOINT=hub.url)
    assert envelope["data"]["verdict"] == "pass"
    assert statuses(envelope)["install"] == "kept"
    if step == "smoke":
        assert statuses(envelope)["fetch"] == "kept"
    assert sent_before >= 0


def test_ctrl_c_says_so_and_keeps_what_arrived(machine: Machine, hub_root: Path) -> None:
    with start_hub(hub_root, throttle_bytes_per_s=150_000) as hub:
        process = start(machine, REPO, HF_ENDPOINT=hub.url)
        wait_for_step(process, "fetch")
        os.kill(process.pid, signal.SIGINT)
        assert process.stdout is not None
        envelope = json.loads(process.stdout.read())
        assert process.wait(timeout=30) == envelope["exit_code"] == 130
        hub.throttle(None)
        assert machine.json("up", REPO, HF_ENDPOINT=hub.url)["data"]["verdict"] == "pass"


def test_two_at_once_both_arrive(machine: Machine, hub_root: Path) -> None:
    with start_hub(hub_root, throttle_bytes_per_s=1_000_000) as hub:
        both = [start(machine, REPO, HF_ENDPOINT=hub.url) for _ in range(2)]
        answers = [process.communicate(timeout=240)[0] for process in both]
        size = (hub_root / REPO / "demo-Q8_0.gguf").stat().st_size
        sent = hub.log.body_bytes()
    assert [json.loads(answer)["data"]["verdict"] for answer in answers] == ["pass", "pass"]
    assert sent < 1.9 * size, "the second waits for the first instead of fetching everything again"
