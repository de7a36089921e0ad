"""One deployment, locked, repeated in a second environment, and carried to a machine without network. By subprocess."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from provision.recipes.lockfile import digest_of
from tests.integration.recipes.conftest import REPO, Machine
from tests.support.commands import private_environ
from tests.support.hub import start_hub

pytestmark = [pytest.mark.integration, pytest.mark.slow]


def flip(path: Path, offset: int) -> None:
    os.chmod(path, 0o644)
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)
        file.seek(offset)
        file.write(bytes([byte[0] ^ 1]))


def rewrite(lock: Path, output: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """`lock` with a change by somebody who knows how to compute the digest."""
    data = tomllib.loads(lock.read_text(encoding="utf-8"))
    del data["digest"]
    change(data)
    output.write_text(tomli_w.dumps({"digest": digest_of(data), **data}), encoding="utf-8")
    return output


@pytest.fixture
def locked(machine: Machine, hub_root: Path, tmp_path: Path) -> Path:
    """A lock of a model from a hub, and the model in the cache."""
    path = tmp_path / "provision.lock"
    with start_hub(hub_root) as hub:
        machine.json("lock", REPO, "--output", path, HF_ENDPOINT=hub.url)
    return path


def test_locking_twice_gives_the_same_bytes_and_check_agrees(
    machine: Machine, tmp_path: Path, provenance: dict[str, Any]
) -> None:
    first, second = tmp_path / "a.lock", tmp_path / "b.lock"
    envelope = machine.json("lock", "demo", "--output", first)
    machine.json("lock", "demo", "--output", second)
    assert first.read_bytes() == second.read_bytes()
    assert envelope["data"]["lock"]["model"]["source"] == "package"
    checked = machine.json("lock", "--check", "--output", first)
    assert checked["data"]["differences"] == []
    assert checked["data"]["tree_sha256"] == envelope["data"]["lock"]["tree_sha256"]
    text = first.read_text(encoding="utf-8")
    assert str(machine.home) not in text
    assert "tok/s" not in text
    lock = envelope["data"]["lock"]
    name, _, sha256 = provenance["source"].partition(" sha256 ")
    assert lock["engine"].get("sdist") == ({"filename": name, "sha256": sha256} if sha256 else None)
    assert lock["engine"]["wheel"]["sha256"] == provenance["wheel"]["sha256"]
    assert lock["engine"]["cmake_args"] == provenance["plan"]["cmake_args"]
    assert machine.json("lock", "demo", "--output", tmp_path / "none" / "x.lock", code=2)["errors"][0]["code"] == "no-folder"
    assert lock["hardware"]["python"] == f"{sys.version_info.major}.{sys.version_info.minor}"
    assert all(package["wheel_sha256"] for package in lock["packages"])
    assert len(lock["smoke"]["golden"]["passages"][0]["best"]) > 5


def test_the_golden_logits_are_compared_within_the_tolerance_the_lock_states(machine: Machine, tmp_path: Path) -> None:
    lock = tmp_path / "a.lock"
    machine.json("lock", "demo", "--output", lock)

    def move(logit: float, setting: str) -> Callable[[dict[str, Any]], None]:
        def change(data: dict[str, Any]) -> None:
            golden = data["smoke"]["golden"]
            golden["setting"] = setting
            for passage in golden["passages"]:
                lines = [[pair.split("=") for pair in line.split()] for line in passage["best"]]
                passage["best"] = [" ".join(f"{i}={float(x) * (1 + logit):.4f}" for i, x in line) for line in lines]

        return change

    here = tomllib.loads(lock.read_text(encoding="utf-8"))["smoke"]["golden"]["setting"]
    # NMSE is the square of the factor: 4e-4 is noise in half a tensor on the same CPU, and rounding on another device.
    same = rewrite(lock, tmp_path / "same.lock", move(0.02, here))
    error = machine.json("lock", "--check", "--output", same, code=8)["errors"][0]
    assert (error["code"], "smoke.golden" in error["message"]) == ("lock-differs", True)
    other = rewrite(lock, tmp_path / "other.lock", move(0.02, "CUDA0, flash attention on, KV f16"))
    assert machine.json("lock", "--check", "--output", other)["data"]["verdict"] == "pass"
    far = rewrite(lock, tmp_path / "far.lock", move(0.2, "CUDA0, flash attention on, KV f16"))
    assert "smoke.golden" in machine.json("lock", "--check", "--output", far, code=8)["errors"][0]["message"]


def test_a_lock_of_version_1_still_syncs(machine: Machine, locked: Path, tmp_path: Path) -> None:
    def older(data: dict[str, Any]) -> None:
        data["schema"] = 1
        for table, keys in (("engine", ("sdist", "cflags", "compiler")), ("hardware", ("python",)), ("smoke", ("golden",))):
            for key in keys:
                data[table].pop(key, None)

    old = rewrite(locked, tmp_path / "old.lock", older)
    assert machine.json("sync", old, "--frozen")["data"]["differences"] == []


def test_up_lock_sync_gives_the_same_tree_in_a_second_environment(
    machine: Machine, locked: Path, fresh_python: Path, hub_root: Path, tmp_path: Path
) -> None:
    shutil.rmtree(machine.home / "hf")
    with start_hub(hub_root) as hub:
        envelope = machine.json("sync", locked, "--frozen", "--python", fresh_python, HF_ENDPOINT=hub.url)
        again = machine.json("sync", locked, "--frozen", "--python", fresh_python, HF_ENDPOINT=hub.url)
    lock_tree = machine.json("lock", "--check", "--output", locked, "--python", fresh_python)["data"]["tree_sha256"]
    assert envelope["data"]["tree_sha256"] == again["data"]["tree_sha256"] == lock_tree
    assert envelope["data"]["verdict"] == "pass"
    assert [step["status"] for step in again["data"]["steps"]][1:4] == ["kept", "kept", "kept"]


def test_what_was_tampered_with_is_named(machine: Machine, locked: Path, fresh_python: Path, tmp_path: Path) -> None:
    # the lock itself
    bad = tmp_path / "bad.lock"
    bad.write_text(locked.read_text(encoding="utf-8").replace('backend = "cpu"', 'backend = "cuda"'), encoding="utf-8")
    assert machine.json("sync", bad, code=8)["errors"][0]["code"] == "lock-digest"
    # a lock from the future, and a lock for another Python
    strange = tmp_path / "strange.lock"
    strange.write_text("schema = 99\n", encoding="utf-8")
    assert machine.json("sync", strange, code=2)["errors"][0]["code"] == "lock-version"
    other = rewrite(locked, tmp_path / "other.lock", lambda data: data["hardware"].update(python="3.99"))
    assert machine.json("sync", other, code=3)["errors"][0]["code"] == "other-python"
    assert "hardware.python" in machine.json("lock", "--check", "--output", other, code=8)["errors"][0]["message"]
    # the model at rest
    blob = next((machine.home / "hf" / "hub").rglob("blobs/" + "?" * 64))
    flip(blob, 1_000_000)
    error = machine.json("lock", "--check", "--output", locked, code=8)["errors"][0]
    assert "model.files[0].sha256" in error["message"]
    assert machine.json("cache", "verify", code=8)["errors"][0]["code"] == "damaged-at-rest"
    error = machine.json("verify", locked, code=8)["errors"][0]
    assert (error["code"], error["hint"]) == ("file-damaged", f"provision sync {locked}")
    flip(blob, 1_000_000)
    assert [file["status"] for file in machine.json("verify", locked)["data"]["files"]] == ["ok"]
    # the wheel: its bytes are not the locked ones any more, or it is gone, and frozen builds nothing anew
    flip(machine.wheel, 1000)
    error = machine.json("sync", locked, "--frozen", "--python", fresh_python, code=8)["errors"][0]
    assert (error["code"], "engine.wheel.sha256" in error["message"]) == ("locked-wheel-damaged", True)
    flip(machine.wheel, 1000)
    machine.wheel.rename(tmp_path / "elsewhere.whl")
    error = machine.json("sync", locked, "--frozen", "--python", fresh_python, code=5)["errors"][0]
    assert error["code"] == "locked-wheel-missing"
    assert "engine.wheel" in error["message"]
    # as the hint says: beside the lock it is found
    (tmp_path / "elsewhere.whl").rename(locked.parent / machine.wheel.name)
    assert machine.json("sync", locked, "--frozen", "--python", fresh_python)["data"]["differences"] == []


def test_cache_gc_keeps_what_a_lock_needs(machine: Machine, locked: Path) -> None:
    rows = machine.json("cache", "list")["data"]["entries"]
    model = next(row for row in rows if row["kind"] == "model")
    assert model["name"] == f"{REPO}: demo-Q8_0.gguf"
    assert any(str(locked) in user for user in model["referred_by"])
    assert machine.json("cache", "gc", "--dry-run")["data"]["entries"] == []


def test_a_bundle_installs_without_network_from_a_read_only_medium(machine: Machine, locked: Path, tmp_path: Path) -> None:
    medium = tmp_path / "medium"
    medium.mkdir()
    made = machine.json("bundle", "create", locked, "--output", medium / "demo")["data"]
    assert made["target"].startswith("linux-")
    assert machine.json("bundle", "verify", medium / "demo")["data"]["files"] == made["files"]
    subprocess.run(["chmod", "-R", "a-w", str(medium)], check=True)
    home = tmp_path / "empty-home"
    home.mkdir()
    command = f"cd {home} && exec {sys.executable} {medium}/demo/install.py --into {home}/engine --json"
    bound = f"mount --bind {medium} {medium} && mount -o remount,ro,bind {medium} && {command}"
    done = subprocess.run(
        ["unshare", "-rmn", "sh", "-c", bound], capture_output=True, env=private_environ(home), check=False, timeout=300
    )
    if b"unshare" in done.stderr or b"mount:" in done.stderr:
        pytest.skip("this machine lets nobody cut the network for a process")
    assert done.returncode == 0, done.stderr.decode()[-3000:] + done.stdout.decode()[-2000:]
    envelope = json.loads(done.stdout)
    assert envelope["data"]["verdict"] == "pass"
    assert envelope["data"]["tree_sha256"] == made["tree_sha256"]
    assert envelope["data"]["differences"] == []
    # What was installed stays: `up` without network finds everything in place.
    up = ["unshare", "-rn", str(home / "engine" / "bin" / "provision"), "up", f"{REPO}:Q8_0", "--json"]
    done = subprocess.run(
        up, capture_output=True, env=private_environ(home, HF_HUB_OFFLINE="1"), cwd=home, check=False, timeout=120
    )
    assert done.returncode == 0, done.stdout.decode()[-2000:]
    steps = {step["name"]: step["status"] for step in json.loads(done.stdout)["data"]["steps"]}
    assert (steps["install"], steps["fetch"]) == ("kept", "kept")


def test_one_corrupt_byte_anywhere_in_a_bundle_is_refused_by_name(machine: Machine, locked: Path, tmp_path: Path) -> None:
    machine.json("bundle", "create", locked, "--output", tmp_path / "demo.tar")
    machine.json("bundle", "create", locked, "--output", tmp_path / "demo")
    for bundle in ("demo", "demo.tar"):
        assert machine.json("verify", tmp_path / bundle)["command"] == "verify"
    names = sorted(path.relative_to(tmp_path / "demo").as_posix() for path in (tmp_path / "demo").rglob("*") if path.is_file())
    for name in names[:: max(1, len(names) // 6)]:
        path = tmp_path / "demo" / name
        flip(path, path.stat().st_size // 2)
        error = machine.json("bundle", "verify", tmp_path / "demo", code=8)["errors"][0]
        assert name.split("/")[-1] in error["message"]
        assert machine.json("verify", tmp_path / "demo", code=8)["errors"][0] == error
        flip(path, path.stat().st_size // 2)
    size = (tmp_path / "demo.tar").stat().st_size
    for offset in (0, 600, size // 3, size - 700):
        flip(tmp_path / "demo.tar", offset)
        home = tmp_path / "home2"
        home.mkdir(exist_ok=True)
        done = subprocess.run(
            [
                sys.executable,
                str(tmp_path / "demo" / "install.py"),
                str(tmp_path / "demo.tar"),
                "--into",
                str(home / "e"),
            ],
            capture_output=True,
            env=private_environ(home),
            check=False,
            timeout=120,
        )
        assert done.returncode == 8, done.stderr
        assert not (home / "e").exists()
        flip(tmp_path / "demo.tar", offset)


def peak_memory_of_create(machine: Machine, lock: Path, output: Path) -> int:
    script = (
        "import resource, subprocess, sys; code = subprocess.run(sys.argv[1:]).returncode; "
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss); sys.exit(code)"
    )
    words = [sys.executable, "-c", script, sys.executable, "-m", "provision", "bundle", "create", str(lock), "-o", str(output)]
    environ = private_environ(machine.home, **machine.environ)
    done = subprocess.run(words, capture_output=True, env=environ, check=True, timeout=300)
    return int(done.stdout.split()[-1]) * 1024


def test_a_bundle_streams(machine: Machine, tmp_path: Path) -> None:
    size = 1536 * 1024 * 1024
    machine.json("lock", "demo", "--output", tmp_path / "demo.lock")
    model = tmp_path / "big.gguf"
    with model.open("wb") as file:
        file.truncate(size)
    with model.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()

    def bigger(data: dict[str, Any]) -> None:
        data["model"].update(source="file", files=[{"path": model.name, "size_bytes": size, "sha256": sha256}])

    lock = rewrite(tmp_path / "demo.lock", tmp_path / "big.lock", bigger)
    out = tmp_path / "out"
    out.mkdir()
    peak = peak_memory_of_create(machine, lock, out / "big.tar")
    assert (out / "big.tar").stat().st_size > size
    assert peak < 300 * 1024 * 1024
    assert [path.name for path in out.iterdir()] == ["big.tar"], "nothing is left beside it"
