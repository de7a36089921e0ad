"""See scripts/bench_install."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path

VERSION = "0.3.36"


def timed(argv: list[str], env: dict[str, str]) -> tuple[float, str]:
    started = time.monotonic()
    done = subprocess.run(argv, env=env, stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        sys.exit(f"failed ({done.returncode}): {' '.join(argv)}\n{done.stdout[-2000:]}")
    return time.monotonic() - started, done.stdout


def environment(folder: Path) -> Path:
    venv.create(folder, with_pip=True)
    return folder / "bin" / "python"


def plain_pip(work: Path, env: dict[str, str]) -> tuple[float, float, int]:
    """(cold, warm, wheel bytes): pip's own cache lies in `work`, so the first run really builds."""
    env = {**env, "PIP_CACHE_DIR": str(work / "pip-cache")}
    package = f"llama-cpp-python=={VERSION}"
    first, second = environment(work / "pip1"), environment(work / "pip2")
    cold, _ = timed([str(first), "-m", "pip", "install", "-q", package], env)
    warm, _ = timed([str(second), "-m", "pip", "install", "-q", package], env)
    wheels = list((work / "pip-cache").rglob("llama_cpp_python-*.whl"))
    return cold, warm, wheels[0].stat().st_size if wheels else 0


def ours(work: Path, env: dict[str, str]) -> tuple[float, float, int]:
    env = {**env, "PROVISION_HOME": str(work / "home"), "PIP_CACHE_DIR": str(work / "our-pip-cache")}
    times = []
    size = 0
    for name in ("ours1", "ours2"):
        python = environment(work / name)
        command = [sys.executable, "-m", "provision", "install", "--cpu", "--python", str(python), "--json"]
        elapsed, out = timed(command, env)
        times.append(elapsed)
        size = json.loads(out)["data"]["wheel"]["size_bytes"]
    return times[0], times[1], size


def main() -> None:
    env = {name: value for name, value in os.environ.items() if name not in ("CMAKE_ARGS", "CFLAGS", "CXXFLAGS")}
    env["CMAKE_BUILD_PARALLEL_LEVEL"] = str(len(os.sched_getaffinity(0)))
    with tempfile.TemporaryDirectory() as folder:
        # Ours first: whatever the page cache keeps of the source then helps pip, not us.
        our_cold, our_warm, our_size = ours(Path(folder), env)
        pip_cold, pip_warm, pip_size = plain_pip(Path(folder), env)
    print(f"llama-cpp-python {VERSION}, CPU, {len(os.sched_getaffinity(0))} cores, load {os.getloadavg()[0]:.1f}")
    print(f"{'':12}{'cold':>10}{'warm':>10}{'wheel':>12}")
    print(f"{'provision':12}{our_cold:9.1f}s{our_warm:9.1f}s{our_size / 1e6:10.1f}MB")
    print(f"{'pip':12}{pip_cold:9.1f}s{pip_warm:9.1f}s{pip_size / 1e6:10.1f}MB")
    wheel = f"wheel {our_size / max(pip_size, 1):.2f}"
    print(f"against pip: cold {our_cold / pip_cold:.2f}, {wheel}; warm {our_warm / our_cold:.1%} of cold")


if __name__ == "__main__":
    main()
