"""See scripts/bench_install."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
import venv
from dataclasses import dataclass
from pathlib import Path

from provision.engine.proof import prove
from provision.engine.types import ENGINE_VERSION
from provision.errors import BuildError
from provision.host.probe_engine import quantized_model


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Of one command and everything it started."""

    wall_s: float
    cpu_s: float
    """User and system time: what other work on the machine hardly changes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """One way to install: into a first environment with nothing kept, then into a second."""

    cold: Cost
    warm: Cost
    wheel_bytes: int
    works: str


def measured(argv: list[str], env: dict[str, str]) -> tuple[Cost, str]:
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    done = subprocess.run(argv, env=env, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"failed ({done.returncode}): {' '.join(argv)}\n{done.stdout[-2000:]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Cost(wall_s=time.monotonic() - started, cpu_s=cpu), done.stdout


def environment(folder: Path) -> Path:
    venv.create(folder, with_pip=True)
    return folder / "bin" / "python"


def works(python: Path, env: dict[str, str]) -> str:
    """Whether what was installed runs a quantized model here."""
    try:
        prove(str(python), "cpu", model=quantized_model(), environ=env)
    except BuildError as error:
        return f"no: {error.message}"
    return "yes"


def plain_pip(work: Path, env: dict[str, str]) -> Figures:
    """pip's own cache lies in `work`, so the first run really builds and the second one finds the wheel."""
    env = {**env, "PIP_CACHE_DIR": str(work / "pip-cache")}
    package = f"llama-cpp-python=={ENGINE_VERSION}"
    first, second = environment(work / "pip1"), environment(work / "pip2")
    cold, _ = measured([str(first), "-m", "pip", "install", "-q", package], env)
    warm, _ = measured([str(second), "-m", "pip", "install", "-q", package], env)
    wheels = list((work / "pip-cache").rglob("llama_cpp_python-*.whl"))
    return Figures(cold=cold, warm=warm, wheel_bytes=wheels[0].stat().st_size if wheels else 0, works=works(second, env))


def ours(work: Path, env: dict[str, str]) -> Figures:
    env = {**env, "PROVISION_HOME": str(work / "home"), "PIP_CACHE_DIR": str(work / "our-pip-cache")}
    costs, size = [], 0
    for name in ("ours1", "ours2"):
        python = environment(work / name)
        command = [sys.executable, "-m", "provision", "install", "--cpu", "--python", str(python), "--json"]
        cost, out = measured(command, env)
        costs.append(cost)
        size = json.loads(out)["data"]["wheel"]["size_bytes"]
    return Figures(cold=costs[0], warm=costs[1], wheel_bytes=size, works=works(python, env))


def main() -> None:
    env = {name: value for name, value in os.environ.items() if name not in ("CMAKE_ARGS", "CFLAGS", "CXXFLAGS")}
    cores = len(os.sched_getaffinity(0))
    env["CMAKE_BUILD_PARALLEL_LEVEL"] = str(cores)
    load = [os.getloadavg()[0]]
    with tempfile.TemporaryDirectory() as folder:
        # Ours first: whatever the page cache keeps of the source then helps pip, not us.
        provision = ours(Path(folder), env)
        load.append(os.getloadavg()[0])
        pip = plain_pip(Path(folder), env)
        load.append(os.getloadavg()[0])
    said = " then ".join(f"{value:.1f}" for value in load)
    print(f"llama-cpp-python {ENGINE_VERSION}, CPU, {cores} cores, load {said} (before, after ours, after pip)")
    print(f"{'':10}{'cold wall':>11}{'cold CPU':>11}{'warm wall':>11}{'warm CPU':>11}{'wheel':>10}  runs a quantized model")
    for name, row in (("provision", provision), ("pip", pip)):
        costs = "".join(f"{value:10.1f}s" for cost in (row.cold, row.warm) for value in (cost.wall_s, cost.cpu_s))
        print(f"{name:10}{costs}{row.wheel_bytes / 1e6:8.1f}MB  {row.works}")
    cold = f"cold wall {provision.cold.wall_s / pip.cold.wall_s:.2f}, cold CPU {provision.cold.cpu_s / pip.cold.cpu_s:.2f}"
    print(f"against pip: {cold}, wheel {provision.wheel_bytes / max(pip.wheel_bytes, 1):.2f}")
    wall, cpu = provision.warm.wall_s / provision.cold.wall_s, provision.warm.cpu_s / provision.cold.cpu_s
    print(f"warm against cold: {wall:.1%} of the wall time, {cpu:.1%} of the CPU time")


if __name__ == "__main__":
    main()
