"""Kills, company, full disks and missing locks: the command as a process of its own."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from provision.units import MIB
from tests.support.commands import private_environ, provision
from tests.support.hub import RunningHub, repo, start_hub

pytestmark = pytest.mark.integration

MODEL = random.Random(3).randbytes(24 * MIB + 5)
PIECE = 4 * MIB
CONNECTIONS = 4


@pytest.fixture
def hub() -> Iterator[RunningHub]:
    with start_hub(repos=[repo("org/tiny-GGUF", {"tiny-Q8_0.gguf": MODEL})]) as running:
        yield running


def start(hub: RunningHub, home: Path, *words: str, **environ: str) -> subprocess.Popen[bytes]:
    argv = [
        sys.executable,
        "-m",
        "provision",
        "fetch",
        "org/tiny-GGUF:Q8_0",
        "--json",
        "--connections",
        str(CONNECTIONS),
        *words,
    ]
    env = private_environ(home, HF_ENDPOINT=hub.url, **environ)
    return subprocess.Popen(argv, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def finish(hub: RunningHub, home: Path) -> dict[str, object]:
    ran = provision("fetch", "org/tiny-GGUF:Q8_0", "--json", home=home, HF_ENDPOINT=hub.url)
    assert ran.exit_code == 0, ran.stdout + ran.stderr
    (file,) = ran.data["files"]
    assert Path(file["local_path"]).read_bytes() == MODEL
    return dict(file)


def blobs(home: Path) -> list[str]:
    return sorted(path.name for path in (home / ".cache/huggingface/hub/models--org--tiny-GGUF/blobs").iterdir())


def kill_many(hub: RunningHub, home: Path, kills: int, seed: int) -> None:
    """Kill the download again and again, then let it finish, and count what the server had to send."""
    chance = random.Random(seed)
    killed = 0
    hub.throttle(24 * MIB / kills / CONNECTIONS * 2)
    while killed < kills:
        process = start(hub, home)
        before = hub.log.body_bytes()
        deadline = time.monotonic() + 20
        while hub.log.body_bytes() == before and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(chance.uniform(0, 0.4))
        process.kill()
        process.communicate()
        if process.returncode != -signal.SIGKILL:
            break
        killed += 1
    hub.throttle(None)
    finish(hub, home)
    assert killed == kills
    assert hub.log.body_bytes() <= len(MODEL) + killed * CONNECTIONS * PIECE
    assert len(blobs(home)) == 1


def test_killed_again_and_again_it_still_arrives(hub: RunningHub, tmp_path: Path) -> None:
    kill_many(hub, tmp_path, kills=4, seed=1)


@pytest.mark.slow
def test_a_hundred_kills(hub: RunningHub, tmp_path: Path) -> None:
    kill_many(hub, tmp_path, kills=100, seed=2)


def test_ctrl_c_keeps_everything_and_says_130(hub: RunningHub, tmp_path: Path) -> None:
    hub.throttle(4 * MIB)
    process = start(hub, tmp_path)
    while hub.log.body_bytes() < 20 * MIB and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=20)
    assert process.returncode == 130
    assert b'"interrupted"' in out
    hub.throttle(None)
    file = finish(hub, tmp_path)
    assert file["action"] == "resumed"
    assert int(str(file["transferred_bytes"])) <= len(MODEL) - 2 * PIECE


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_stopped_again_and_again_before_a_piece_is_whole_it_still_arrives(
    hub: RunningHub, tmp_path: Path, how: signal.Signals
) -> None:
    each = MIB // 4
    hub.throttle(each)
    stops, span_s = 3, 2.5
    for number in range(stops):
        process = start(hub, tmp_path)
        before = hub.log.body_bytes()
        while hub.log.body_bytes() == before and process.poll() is None:
            time.sleep(0.02)
        time.sleep(span_s)
        process.send_signal(how)
        process.communicate(timeout=20)
        assert process.returncode == (130 if how is signal.SIGINT else -signal.SIGKILL)
        assert blobs(tmp_path), number
    hub.throttle(None)
    file = finish(hub, tmp_path)
    assert file["action"] == "resumed"
    # A clean stop loses what was on the wire; a killed process what came since the journal's last word on it, too.
    lost = int(stops * CONNECTIONS * each * (0.5 if how is signal.SIGINT else 1.8))
    assert hub.log.body_bytes() <= len(MODEL) + lost


@pytest.mark.parametrize("count", [2, pytest.param(5, marks=pytest.mark.slow)])
def test_processes_share_one_download(hub: RunningHub, tmp_path: Path, count: int) -> None:
    hub.throttle(10 * MIB)
    processes = [start(hub, tmp_path) for _ in range(count)]
    for process in processes:
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, out + err
    assert hub.log.body_bytes() <= len(MODEL) + MIB
    assert finish(hub, tmp_path)["action"] == "kept"
    assert len(blobs(tmp_path)) == 1


@pytest.mark.slow
def test_when_one_of_two_is_killed_the_other_goes_on_from_there(hub: RunningHub, tmp_path: Path) -> None:
    hub.throttle(5 * MIB)
    first = start(hub, tmp_path)
    while hub.log.body_bytes() < 18 * MIB and first.poll() is None:
        time.sleep(0.02)
    second = start(hub, tmp_path)
    time.sleep(0.8)
    first.kill()
    first.communicate()
    out, err = second.communicate(timeout=60)
    assert second.returncode == 0, out + err
    assert hub.log.body_bytes() <= len(MODEL) + CONNECTIONS * PIECE
    assert finish(hub, tmp_path)["action"] == "kept"


@pytest.mark.slow
def test_a_full_disk_is_exit_3_before_the_first_byte_and_in_the_middle(hub: RunningHub, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", str(disk)], capture_output=True).returncode:
        pytest.skip("mounting a tmpfs needs root")
    try:
        environ = {"HF_ENDPOINT": hub.url, "HF_HUB_CACHE": str(disk / "hub")}
        ran = provision("fetch", "org/tiny-GGUF:Q8_0", "--json", home=tmp_path, **environ)
        assert (ran.exit_code, ran.envelope["errors"][0]["code"]) == (3, "disk-full")
        assert hub.log.body_bytes() == 0
        subprocess.run(["mount", "-o", "remount,size=100m", str(disk)], check=True)
        hub.throttle(2 * MIB)
        process = start(hub, tmp_path, HF_HUB_CACHE=str(disk / "hub"))
        while hub.log.body_bytes() < 10 * MIB and process.poll() is None:
            time.sleep(0.02)
        (disk / "other").write_bytes(bytes(80 * MIB))
        out, err = process.communicate(timeout=60)
        assert process.returncode == 3, out + err
        assert b'"disk-full"' in out
        (disk / "other").unlink()
        hub.throttle(None)
        ran = provision("fetch", "org/tiny-GGUF:Q8_0", "--json", home=tmp_path, **environ)
        assert ran.exit_code == 0
        assert ran.data["files"][0]["action"] == "resumed"
        assert Path(ran.data["files"][0]["local_path"]).read_bytes() == MODEL
    finally:
        subprocess.run(["umount", str(disk)], check=True)


NO_FLOCK = "import errno, fcntl\ndef flock(fd, operation):\n    {}\nfcntl.flock = flock\n"


MISSING = pytest.param("raise OSError(errno.ENOSYS, 'no flock here')", id="missing")


@pytest.mark.slow
@pytest.mark.parametrize("body", [pytest.param("return None", id="no-op"), MISSING])
def test_where_flock_does_nothing_two_processes_still_do_not_meet(hub: RunningHub, tmp_path: Path, body: str) -> None:
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(NO_FLOCK.format(body))
    hub.throttle(5 * MIB)
    processes = [start(hub, tmp_path, PYTHONPATH=str(site)) for _ in range(2)]
    for process in processes:
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, out + err
    assert hub.log.body_bytes() <= len(MODEL) + MIB
    assert len(blobs(tmp_path)) == 1
    finish(hub, tmp_path)


@pytest.mark.slow
def test_a_killed_holder_of_a_soft_lock_does_not_block_the_next(hub: RunningHub, tmp_path: Path) -> None:
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(NO_FLOCK.format("return None"))
    hub.throttle(5 * MIB)
    process = start(hub, tmp_path, PYTHONPATH=str(site))
    while hub.log.body_bytes() < 6 * MIB and process.poll() is None:
        time.sleep(0.02)
    process.kill()
    process.communicate()
    assert list((tmp_path / ".cache/huggingface/hub/.locks").rglob("*.soft")), "the missing flock was not noticed"
    hub.throttle(None)
    again = start(hub, tmp_path, PYTHONPATH=str(site))
    out, err = again.communicate(timeout=30)
    assert again.returncode == 0, out + err


@pytest.mark.slow
def test_a_clock_that_jumps_does_not_matter(hub: RunningHub, tmp_path: Path) -> None:
    site = tmp_path / "site"
    site.mkdir()
    year = "86400 * 365 * (1 if int(real() * 4) % 2 else -1)"
    (site / "sitecustomize.py").write_text(f"import time\nreal = time.time\ntime.time = lambda: real() + {year}\n")
    process = start(hub, tmp_path, PYTHONPATH=str(site))
    out, err = process.communicate(timeout=30)
    assert process.returncode == 0, out + err
    os.utime(next((tmp_path / ".cache/huggingface/hub").rglob("refs/main")), (0, 0))
    assert finish(hub, tmp_path)["action"] == "kept"
