"""The CPU engine compiled for real: killed in the middle, finished by the next run, reused by the next environment."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from provision.engine.build import BuildFolder, build_environment, download_source, unpack_source, write_files
from provision.engine.buildenv import ensure_build_environment
from provision.engine.frontend import find_frontend
from provision.engine.install import install
from provision.engine.making import Made
from provision.engine.plan import PlanFacts, build_plan
from provision.engine.proof import prove
from provision.engine.types import BuildPlan, InstallWish
from provision.errors import BuildError
from provision.events import silent
from provision.host.compilers import NO_AMX_FLAGS
from provision.host.probe import probe_host
from provision.host.probe_engine import quantized_model
from provision.processes import run
from provision.settings import Settings
from tests.support.engine_environment import ask, engine_works, fingerprint, make_environment, private_settings
from tests.support.engine_wheel import repack_engine
from tests.support.tiny_model import write_tiny_model

pytestmark = [pytest.mark.integration, pytest.mark.slow]


def command(python: Path, *more: str) -> list[str]:
    return [
        sys.executable,
        "-m",
        "provision",
        "install",
        "--cpu",
        "--python",
        str(python),
        "--json",
        "--progress",
        "json",
        *more,
    ]


def settings_with_ccache(tmp_path: Path) -> tuple[Settings, Path]:
    """Settings whose PATH has a ccache that caches nothing and writes down every call."""
    called = tmp_path / "called.txt"
    script = tmp_path / "bin" / "ccache"
    script.parent.mkdir()
    script.write_text(
        "#!/bin/sh\n"
        'if [ "$1" = --version ]; then echo "ccache version 4.8"; exit; fi\n'
        f'echo "$*" >> {shlex.quote(str(called))}\n'
        'exec "$@"\n'
    )
    script.chmod(0o755)
    return private_settings(tmp_path / "home", PATH=f"{script.parent}:{os.environ['PATH']}"), called


def test_a_real_build_killed_resumed_and_reused(tmp_path: Path) -> None:
    settings, compiled = settings_with_ccache(tmp_path)
    python = make_environment(tmp_path / "env")
    before = fingerprint(tmp_path / "env")
    started = subprocess.Popen(
        command(python), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=settings.environ, text=True
    )
    assert started.stderr is not None
    whole = 0
    for line in started.stderr:
        event = json.loads(line)
        if event.get("task") == "build" and event["done"] >= 40:
            whole = event["total"]
            break
    # Only the leader is killed: its compilers live on, as after a real SIGKILL, and the next run must cope with them.
    os.kill(started.pid, signal.SIGKILL)
    started.wait()
    started.stderr.close()
    assert whole > 100
    assert fingerprint(tmp_path / "env") == before

    done = subprocess.run(command(python), capture_output=True, env=settings.environ, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    data = json.loads(done.stdout)["data"]
    assert data["action"] == "built"
    assert data["proof"]["quantized_inference"] is True
    resumed = [json.loads(line) for line in done.stderr.splitlines()]
    left = max(event["total"] for event in resumed if event.get("task") == "build" and event.get("total"))
    assert left <= whole - 35
    # Every compiler call went through the compiler cache.
    calls = compiled.read_text().splitlines()
    assert len(calls) >= whole * 0.8
    # /usr/bin/g++, or x86_64-linux-gnu-g++, or g++-12: whatever this machine's Python was built with.
    assert all(re.fullmatch(r"(.*-)?(c\+\+|cc|g\+\+|gcc|clang(\+\+)?)(-[\d.]+)?", Path(call.split()[0]).name) for call in calls)
    # What llama-cpp-python never loads was not compiled.
    assert any("clip.cpp" in call for call in calls)
    assert not any("httplib" in call for call in calls)
    # One copy of each library, against three in a plain wheel.
    with zipfile.ZipFile(data["wheel"]["path"]) as wheel:
        libraries = [name for name in wheel.namelist() if ".so" in name]
    assert len(libraries) == len({name.rsplit("/", 1)[-1].split(".so")[0] for name in libraries})
    assert all(name.startswith("llama_cpp/lib/") for name in libraries)

    other = make_environment(tmp_path / "env2")
    done = subprocess.run(command(other), capture_output=True, env=settings.environ, text=True, check=True)
    data = json.loads(done.stdout)["data"]
    assert data["action"] == "reused"
    assert data["elapsed_s"] <= 10
    model = write_tiny_model(tmp_path / "tiny.gguf")
    assert engine_works(other, model)
    again = subprocess.run(command(other), capture_output=True, env=settings.environ, text=True, check=True)
    assert json.loads(again.stdout)["data"]["action"] == "kept"


def test_a_stock_build_dies_of_amx_where_ours_answers(tmp_path: Path) -> None:
    """Both ways: what the plan's flags built answers, a stock CPU library in its place dies on a quantized model."""
    settings = private_settings(tmp_path / "home")
    host = probe_host(settings)
    if host.cpu.amx_compiler != "miscompiles":
        pytest.skip(f"the compiler and CPU of this machine do not have the AMX trouble ({host.cpu.amx_compiler})")
    python = make_environment(tmp_path / "env")
    model = write_tiny_model(tmp_path / "tiny.gguf")
    wheel = repack_engine(tmp_path / "wheels")
    install(
        InstallWish(backend="cpu", python=python),
        host=host,
        settings=settings,
        builder=lambda work: Made(wheel=wheel, plan=work.plan, source="the engine of the tests"),
    )
    facts = PlanFacts(provision_home=str(settings.provision_home), python=str(python), environ=settings.environ)
    plan = build_plan(host, InstallWish(backend="cpu"), facts)
    assert plan.env["CXXFLAGS"].split() == list(NO_AMX_FLAGS)
    library = stock_cpu_library(tmp_path, settings, plan)
    site = Path(ask(python, "import sysconfig; print(sysconfig.get_paths()['platlib'])"))
    trusted = quantized_model() or model
    assert prove(str(python), "cpu", model=trusted, environ=settings.environ).quantized_inference
    ours = site / "llama_cpp" / "lib" / "libggml-cpu.so"
    kept = ours.read_bytes()
    ours.write_bytes(library.read_bytes())
    with pytest.raises(BuildError, match="SIGSEGV"):
        prove(str(python), "cpu", model=trusted, environ=settings.environ)
    ours.write_bytes(kept)
    assert engine_works(python, model)


def stock_cpu_library(tmp_path: Path, settings: Settings, plan: BuildPlan) -> Path:
    """libggml-cpu.so as anybody's build makes it, without our flags."""
    home = settings.provision_home
    frontend = find_frontend(os.environ, python=sys.executable, python_has_pip=True)
    python = ensure_build_environment(
        plan.build_requires, folder=home / "build-envs", frontend=frontend, environ=settings.environ, reporter=silent
    )
    folder = BuildFolder(root=tmp_path / "stock")
    sdist = download_source(
        plan.engine_version, folder=home / "sdists", python=python, environ=settings.environ, reporter=silent
    )
    unpack_source(sdist, folder.source)
    env = {
        name: value
        for name, value in build_environment(plan, folder, settings.environ).items()
        if name not in ("CFLAGS", "CXXFLAGS")
    }
    (folder.root / "tmp").mkdir()
    write_files(plan)
    env["PATH"] = f"{python.parent}:{env['PATH']}"
    configure = ["cmake", "-S", str(folder.source), "-B", str(folder.tree), *shlex.split(plan.env["CMAKE_ARGS"])]
    for step in (configure, ["ninja", "-C", str(folder.tree), "ggml-cpu"]):
        done = run(step, timeout_s=1500, env=env)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return next(folder.tree.rglob("libggml-cpu.so"))
