"""The AMX probe with the compiler and the CPU of this machine."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from provision.host.amx import probe_amx

pytestmark = pytest.mark.integration


def _cpu_flags() -> tuple[str, ...]:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return ()
    return tuple(next((line.split(":", 1)[1].split() for line in text.splitlines() if line.startswith("flags")), []))


@pytest.fixture
def compiler() -> Path:
    found = shutil.which("c++") or shutil.which("g++")
    if found is None:
        pytest.skip("no C++ compiler on this machine")
    if "amx_tile" not in _cpu_flags():
        pytest.skip("the CPU of this machine has no AMX")
    return Path(found)


def test_a_compiler_that_is_told_to_keep_the_configuration_is_trusted(compiler: Path, tmp_path: Path) -> None:
    # The barrier is what a fixed compiler does by itself; the rest of the program must then give the right product.
    probe = probe_amx(
        flags=_cpu_flags(),
        cpu_model=None,
        compiler=compiler,
        environ=os.environ,
        extra_flags=("-DWITH_BARRIER",),
        cache=tmp_path / "c",
    )
    if probe.verdict == "not-needed":
        pytest.skip(probe.reason)
    assert probe.verdict == "trusted", probe.reason


def test_the_verdict_is_the_one_the_compiled_code_shows(compiler: Path, tmp_path: Path) -> None:
    cache = tmp_path / "amx.json"
    probe = probe_amx(flags=_cpu_flags(), cpu_model="this one", compiler=compiler, environ=os.environ, cache=cache)
    if probe.verdict == "not-needed":
        pytest.skip(probe.reason)
    version = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=True).stdout
    if "12.2.0" in version:
        assert probe.verdict == "miscompiles", probe.reason
    else:
        assert probe.verdict in ("trusted", "miscompiles"), probe.reason
    assert probe.verdict in cache.read_text()


def test_a_compiler_that_fails_leaves_it_untested(compiler: Path, tmp_path: Path) -> None:
    broken = tmp_path / "c++"
    broken.write_text("#!/bin/sh\necho 'fatal error: out of luck' >&2\nexit 1\n")
    broken.chmod(0o755)
    probe = probe_amx(flags=("amx_tile",), cpu_model=None, compiler=broken, environ=os.environ, cache=tmp_path / "amx.json")
    assert probe.verdict == "untested"
    assert "out of luck" in probe.reason
    assert not (tmp_path / "amx.json").exists()
