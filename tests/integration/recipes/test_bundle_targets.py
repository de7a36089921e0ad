"""Bundles for machines of another kind: a CUDA engine with its runtime libraries, and other Pythons. By subprocess."""

from __future__ import annotations

import json
import platform
import re
import subprocess
import sys
import tarfile
from importlib import metadata
from pathlib import Path

import pytest

from provision.engine.types import BuildPlan
from provision.engine.wheelstore import store_wheel
from provision.recipes.children.install import Bundle
from tests.integration.recipes.conftest import Machine
from tests.support.commands import private_environ
from tests.support.cuda_wheel import runtime_wheels, store_cuda_wheel

pytestmark = [pytest.mark.integration, pytest.mark.slow]

HERE = f"{sys.version_info.major}.{sys.version_info.minor}"
OTHER = "3.13" if HERE != "3.13" else "3.12"


def without_network(words: list[str | Path], home: Path) -> subprocess.CompletedProcess[bytes]:
    home.mkdir(exist_ok=True)
    argv = ["unshare", "-rn", *map(str, words)]
    done = subprocess.run(argv, capture_output=True, env=private_environ(home), cwd=home, check=False, timeout=400)
    if done.stderr.startswith(b"unshare"):
        pytest.skip("this machine lets nobody cut the network for a process")
    return done


def test_a_target_without_an_engine_names_the_commands_that_build_it(machine: Machine, tmp_path: Path) -> None:
    lock = tmp_path / "provision.lock"
    machine.json("lock", "demo", "--output", lock)
    words = ["bundle", "create", lock, "--output", tmp_path / "b", "--target", "linux-x86_64-cuda", "--cuda-arch", "89"]
    error = machine.json(*words, code=5)["errors"][0]
    assert error["code"] == "no-engine-for-target"
    assert "provision install --cuda --cuda-arch 89 --no-gpu-check --python target-env/bin/python" in error["hint"]
    # The engine of this machine is compiled for its own CPU and is offered to no other.
    error = machine.json("bundle", "create", lock, "--output", tmp_path / "b", "--target", "linux-aarch64-cpu", code=5)[
        "errors"
    ][0]
    assert error["code"] == "no-engine-for-target"
    assert not list(tmp_path.glob("b*"))
    assert not list(tmp_path.glob(".b*"))


def test_a_portable_engine_is_proven_where_it_is_installed(machine: Machine, tmp_path: Path) -> None:
    lock = tmp_path / "provision.lock"
    machine.json("lock", "demo", "--output", lock)
    words = ["bundle", "create", lock, "--output", tmp_path / "b", "--target", f"linux-{platform.machine()}-cpu"]
    assert machine.json(*words, code=5)["errors"][0]["code"] == "no-engine-for-target"
    plan = BuildPlan(
        backend="cpu",
        engine_version=metadata.version("llama-cpp-python"),
        python="python",
        source="build",
        platform_key=f"linux-{platform.machine()}-glibc2.36",
    )
    store_wheel(machine.wheel, machine.home / "provision" / "wheels", "cpu-portable", plan=plan)
    machine.json(*words)
    done = without_network([sys.executable, tmp_path / "b" / "install.py", "--into", "e", "--json"], tmp_path / "home")
    assert done.returncode == 0, done.stderr.decode()[-2000:] + done.stdout.decode()[-2000:]
    data = json.loads(done.stdout)["data"]
    assert data["verdict"] == "pass"
    assert data["differences"] == []
    assert data["model"] == "demo"


def test_a_cuda_bundle_is_made_and_installed_where_there_is_no_gpu(machine: Machine, tmp_path: Path) -> None:
    lock = tmp_path / "provision.lock"
    machine.json("lock", "demo", "--output", lock)
    runtime = runtime_wheels(tmp_path / "runtime")
    store_cuda_wheel(machine.home / "provision", runtime=runtime, work=tmp_path / "work")
    words = ["bundle", "create", lock, "--target", "linux-x86_64-cuda"]
    environ = {"PIP_FIND_LINKS": f"{machine.environ.get('PIP_FIND_LINKS', '')} {runtime}".strip()}
    planned = machine.json(*words, "--output", tmp_path / "cuda", "--dry-run")["data"]
    assert {"nvidia-cuda-runtime==13.0.*", "nvidia-cublas==13.0.*"} <= {row["what"] for row in planned["plan"]}
    assert not (tmp_path / "cuda").exists()
    made = machine.json(*words, "--output", tmp_path / "cuda", **environ)["data"]
    assert made["target"] == "linux-x86_64-cuda"
    names = {path.name.split("-")[0] for path in (tmp_path / "cuda" / "wheels").iterdir()}
    assert {"nvidia_cuda_runtime", "nvidia_cublas", "llama_cpp_python", "numpy"} <= names

    # On a machine without the GPU: refused, and nothing but the environment is there.
    refused = without_network([sys.executable, tmp_path / "cuda" / "install.py", "--into", "a", "--json"], tmp_path / "home-a")
    assert refused.returncode == 3, refused.stderr.decode()[-2000:]
    error = json.loads(refused.stdout)["errors"][0]
    assert error["code"] == "other-hardware"
    assert "GPU" in error["message"]

    # For an image: everything in place, every library found but the driver's.
    home = tmp_path / "home-b"
    argv = [sys.executable, tmp_path / "cuda" / "install.py", "--into", "b", "--no-gpu-check", "--json"]
    done = without_network(argv, home)
    assert done.returncode == 0, done.stderr.decode()[-2000:] + done.stdout.decode()[-2000:]
    data = json.loads(done.stdout)["data"]
    assert data["differences"] == []
    assert data["tree_sha256"] == made["tree_sha256"]
    assert data["verdict"] is None
    steps = {step["name"]: step["status"] for step in data["steps"]}
    assert steps == {
        "doctor": "done",
        "packages": "done",
        "engine": "done",
        "model": "kept",
        "compare": "done",
        "libraries": "done",
    }
    (library,) = (home / "b").glob("lib/python*/site-packages/llama_cpp/lib/libggml-cuda.so")
    linked = subprocess.run(["ldd", str(library)], capture_output=True, text=True, check=True).stdout
    assert [line.split()[0] for line in linked.splitlines() if "not found" in line] in ([], ["libcuda.so.1"])
    assert re.search(r"libcublas.so.13 => \S+/b/lib/\S+/nvidia/cu13/lib/libcublas.so.13 ", linked)
    assert re.search(r"libcudart.so.13 => \S+/b/lib/\S+/nvidia/cu13/lib/libcudart.so.13 ", linked)


def test_a_bundle_for_two_pythons_is_installed_by_the_one_that_is_here(machine: Machine, tmp_path: Path) -> None:
    lock = tmp_path / "provision.lock"
    machine.json("lock", "demo", "--output", lock)
    words = ["bundle", "create", lock, "--output", tmp_path / "two.tar", "--python-version", OTHER, "--python-version", HERE]
    made = machine.json(*words)["data"]
    assert made["pythons"] == [OTHER, HERE]
    with tarfile.open(tmp_path / "two.tar") as archive:
        numpys = [name for name in archive.getnames() if name.startswith("wheels/numpy-")]
    assert len(numpys) == 2
    done = without_network(
        ["sh", "-c", f"tar -xOf {tmp_path}/two.tar install.py | {sys.executable} - {tmp_path}/two.tar --into e --json"],
        tmp_path / "home-c",
    )
    assert done.returncode == 0, done.stderr.decode()[-2000:] + done.stdout.decode()[-2000:]
    data = json.loads(done.stdout)["data"]
    kits = {kit["python"]: kit for kit in Bundle(tmp_path / "two.tar").manifest["pythons"]}
    assert data["tree_sha256"] == kits[HERE]["tree_sha256"] != kits[OTHER]["tree_sha256"]
    assert data["verdict"] == "pass"
    # Nothing unpacked stays behind.
    assert not list((tmp_path / "home-c" / "provision").glob("bundle-wheels-*"))
