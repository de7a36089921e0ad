"""`provision up` by subprocess: nothing between the command line and the engine is replaced."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from provision.fetch.pieces import SMALL_PIECE_BYTES
from tests.integration.recipes.conftest import REPO, Machine
from tests.support.commands import private_environ
from tests.support.demo_variants import write_deeper, write_variant
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
    def there() -> list[Path]:
        # What was found out about this machine and this file is remembered; that is not what was asked to be done.
        known = {"probes", "fits"}
        return sorted(path.relative_to(machine.home) for path in machine.home.rglob("*") if not known & set(path.parts))

    before = there()
    envelope = machine.json("up", "demo", "--plan")
    assert [step["name"] for step in envelope["data"]["plan"]] == STEPS
    assert there() == before


def test_the_plan_of_a_repository_names_its_files_and_fetches_none(machine: Machine, hub_root: Path) -> None:
    with start_hub(hub_root) as hub:
        plan = machine.json("up", REPO, "--plan", HF_ENDPOINT=hub.url)["data"]["plan"]
        assert hub.log.body_bytes() < 1_500_000, "the header and no more"
        machine.json("up", f"{REPO}:Q2_K", "--plan", code=5, HF_ENDPOINT=hub.url)
    fetch = next(step for step in plan if step["name"] == "fetch")
    assert fetch["details"] == ["demo-Q8_0.gguf"]
    assert "still to transfer" in fetch["summary"]
    assert not (machine.home / "hf").exists()


def test_a_repository_of_a_hub_is_fetched_verified_and_kept(machine: Machine, hub_root: Path) -> None:
    with start_hub(hub_root) as hub:
        first = machine.json("up", f"{REPO}:Q8_0", HF_ENDPOINT=hub.url)
        again = machine.json("up", REPO, HF_ENDPOINT=hub.url)
    assert first["data"]["verdict"] == again["data"]["verdict"] == "pass"
    assert statuses(first)["fetch"] == "done"
    assert statuses(again)["fetch"] == "kept"
    assert first["data"]["model"]["quant"] == "Q8_0"


def test_fit_takes_a_recipe_and_keeps_to_its_variants(machine: Machine, hub_root: Path, tmp_path: Path) -> None:
    write_variant(tmp_path, "Q4_0").rename(hub_root / REPO / "demo-Q4_0.gguf")
    recipe = tmp_path / "small.toml"
    recipe.write_text(
        f'name = "small"\ntitle = "Small"\n[model]\nrepo = "{REPO}"\n[[variants]]\nquant = "Q4_0"\n[load]\nn_ctx = 640\n',
        encoding="utf-8",
    )
    with start_hub(hub_root) as hub:
        free = machine.json("fit", REPO, HF_ENDPOINT=hub.url)["data"]
        told = machine.json("fit", recipe, HF_ENDPOINT=hub.url)["data"]
    assert free["chosen"]["quant"] == "Q8_0"
    assert (told["target"], told["chosen"]["quant"], told["chosen"]["n_ctx"]) == (str(recipe), "Q4_0", 640)
    assert machine.json("fit", "demo")["data"]["chosen"]["llama_kwargs"]["n_ctx"] == 2048


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


def test_no_compiler_is_named_with_the_command_that_brings_one(machine: Machine, fresh_python: Path, tmp_path: Path) -> None:
    shutil.rmtree(machine.home / "provision" / "wheels")
    (tmp_path / "empty").mkdir()
    envelope = machine.json("up", "demo", "--python", fresh_python, code=3, PATH=str(tmp_path / "empty"))
    assert statuses(envelope) == {"doctor": "done", "install": "failed"}
    error = envelope["errors"][0]
    assert "compiler" in error["message"]
    assert error["hint"]


class Running:
    """An `up` in a session of its own, its voices in files, so that nobody has to read for it to go on."""

    def __init__(self, machine: Machine, folder: Path, *words: str, **more: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.out, self.err = folder / "stdout", folder / "stderr"
        with self.out.open("wb") as out, self.err.open("wb") as err:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "provision", "up", *words, "--json", "--progress", "json"],
                stdout=out,
                stderr=err,
                env=private_environ(machine.home, **{**machine.environ, **more}),
                start_new_session=True,
            )

    def wait_for(self, step: str) -> None:
        """Until `step` has begun; for `fetch`, until half the bytes are here."""
        self.wait_until(lambda: self._reached(step), f"{step} never began")

    def _reached(self, step: str) -> bool:
        lines = self.err.read_text(encoding="utf-8").splitlines()
        events = [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]
        starts = [n for n, event in enumerate(events) if event["event"] == "StepStarted" and event["step"] == step]
        since = events[starts[0] :] if starts else []
        moving = any(
            event["event"] == "Progress" and event["unit"] == "bytes" and 2 * event["done"] > event["total"] for event in since
        )
        return bool(starts) and (step != "fetch" or moving)

    def wait_for_a_piece(self, hub_cache: Path) -> None:
        """Until the download's journal has recorded a piece."""
        self.wait_until(
            lambda: any(
                b'"piece"' in line
                for path in hub_cache.rglob("*-journal.incomplete")
                for line in path.read_bytes().splitlines()[1:]
            ),
            "no piece was ever recorded",
        )

    def wait_until(self, seen: Callable[[], bool], otherwise: str) -> None:
        deadline = time.monotonic() + 120
        while not seen():
            assert self.process.poll() is None, f"`up` ended too early: {self.err.read_text()[-2000:]}"
            assert time.monotonic() < deadline, otherwise
            time.sleep(0.02)

    def stop(self, number: int) -> int:
        os.killpg(self.process.pid, number)
        return self.process.wait(timeout=60)

    def envelope(self) -> dict[str, Any]:
        self.process.wait(timeout=240)
        found: dict[str, Any] = json.loads(self.out.read_text(encoding="utf-8"))
        return found


@pytest.mark.parametrize("step", [pytest.param(s, marks=[] if s == "fetch" else [pytest.mark.slow]) for s in STEPS])
def test_killed_at_any_step_it_goes_on_where_it_stopped(step: str, machine: Machine, hub_root: Path, tmp_path: Path) -> None:
    with start_hub(hub_root, throttle_bytes_per_s=150_000 if step == "fetch" else None) as hub:
        running = Running(machine, tmp_path / "run", REPO, HF_ENDPOINT=hub.url)
        running.wait_for(step)
        assert running.stop(signal.SIGKILL) == -signal.SIGKILL
        hub.throttle(None)
        envelope = machine.json("up", REPO, HF_ENDPOINT=hub.url)
    assert envelope["data"]["verdict"] == "pass"
    assert statuses(envelope)["install"] == "kept"
    if step == "smoke":
        assert statuses(envelope)["fetch"] == "kept"


def test_ctrl_c_says_so_and_leaves_nothing_half_written(machine: Machine, hub_root: Path, tmp_path: Path) -> None:
    with start_hub(hub_root, throttle_bytes_per_s=150_000) as hub:
        running = Running(machine, tmp_path / "run", REPO, HF_ENDPOINT=hub.url)
        running.wait_for("fetch")
        assert running.stop(signal.SIGINT) == 130
        envelope = running.envelope()
    assert envelope["exit_code"] == 130
    assert envelope["errors"][0]["code"] == "interrupted"
    assert not list((machine.home / "hf").rglob("snapshots/*/*"))


def test_a_killed_download_goes_on_with_the_pieces_it_has(machine: Machine, hub_root: Path, tmp_path: Path) -> None:
    for small in (hub_root / REPO).glob("*.gguf"):
        small.unlink()
    size = write_deeper(hub_root / REPO / "deep-F32.gguf", layers=6).stat().st_size
    assert size > 5 * SMALL_PIECE_BYTES
    with start_hub(hub_root, throttle_bytes_per_s=4_000_000) as hub:
        running = Running(machine, tmp_path / "run", REPO, HF_ENDPOINT=hub.url)
        running.wait_for_a_piece(machine.home / "hf")
        assert running.stop(signal.SIGKILL) == -signal.SIGKILL
        hub.throttle(None)
        before = hub.log.body_bytes()
        envelope = machine.json("up", REPO, HF_ENDPOINT=hub.url)
        sent = hub.log.body_bytes() - before
    assert envelope["data"]["verdict"] == "pass"
    assert statuses(envelope)["fetch"] == "done"
    assert sent < size, "what a killed `up` has recorded is not fetched again"
    assert 0 < envelope["data"]["transferred_bytes"] < size


@pytest.mark.slow
def test_killed_while_the_engine_moves_in_it_goes_on(machine: Machine, fresh_python: Path, tmp_path: Path) -> None:
    state = fresh_python.parents[1] / ".provision"
    running = Running(machine, tmp_path / "run", "demo", "--python", str(fresh_python))
    running.wait_until(lambda: any(state.rglob("*.so")), "the engine was never laid out aside")
    assert running.stop(signal.SIGKILL) == -signal.SIGKILL
    envelope = machine.json("up", "demo", "--python", fresh_python)
    assert envelope["data"]["verdict"] == "pass"
    assert statuses(machine.json("up", "demo", "--python", fresh_python))["install"] == "kept"


@pytest.mark.slow
def test_two_at_once_into_a_fresh_environment(machine: Machine, fresh_python: Path, tmp_path: Path) -> None:
    both = [Running(machine, tmp_path / name, "demo", "--python", str(fresh_python)) for name in ("a", "b")]
    envelopes = [running.envelope() for running in both]
    assert [envelope["data"]["verdict"] for envelope in envelopes] == ["pass", "pass"]
    assert sorted(statuses(envelope)["install"] for envelope in envelopes) == ["done", "kept"]


@pytest.mark.slow
def test_two_at_once_both_arrive(machine: Machine, hub_root: Path, tmp_path: Path) -> None:
    with start_hub(hub_root, throttle_bytes_per_s=1_000_000) as hub:
        both = [Running(machine, tmp_path / name, REPO, HF_ENDPOINT=hub.url) for name in ("a", "b")]
        verdicts = [running.envelope()["data"]["verdict"] for running in both]
        size = (hub_root / REPO / "demo-Q8_0.gguf").stat().st_size
        sent = hub.log.body_bytes()
    assert verdicts == ["pass", "pass"]
    assert sent < 1.9 * size, "the second waits for the first instead of fetching everything again"


def test_the_plan_of_a_bundle_changes_nothing(machine: Machine, tmp_path: Path) -> None:
    envelope = machine.json("bundle", "create", "demo", "--output", tmp_path / "b", "--dry-run")
    assert any("llama-cpp-python" in row["what"] for row in envelope["data"]["plan"])
    assert not (tmp_path / "b").exists()
    assert not (machine.home / "provision" / "uses").exists()
