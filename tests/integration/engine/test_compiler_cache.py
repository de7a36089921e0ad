"""Debian's ccache for real: what one build compiled serves the next one, which lies in another folder."""

import os
import re
import shlex
import sys
from pathlib import Path

import pytest

from provision.engine.build import BuildFolder, build_environment, download_source, unpack_source, write_files
from provision.engine.buildenv import ensure_build_environment
from provision.engine.frontend import find_frontend
from provision.engine.plan import PlanFacts, build_plan
from provision.engine.types import InstallWish
from provision.events import silent
from provision.host.probe import probe_host
from provision.processes import run
from tests.support.debian import Unavailable, unpack_packages
from tests.support.engine_environment import private_settings

pytestmark = [pytest.mark.integration, pytest.mark.slow]


@pytest.fixture
def ccache(tmp_path: Path) -> Path:
    """The folder of Debian's ccache, made to find its libraries."""
    root = tmp_path / "debian"
    try:
        unpack_packages(("ccache",), root)
    except Unavailable as error:
        pytest.skip(f"no ccache to unpack here: {error}")
    libraries = ":".join(str(path) for path in (root / "usr/lib").glob("*-linux-gnu"))
    wrapper = tmp_path / "bin" / "ccache"
    wrapper.parent.mkdir()
    # Only ccache itself may see the unpacked libraries, not the compilers it starts.
    found = shlex.quote(str(root / "usr/bin/ccache"))
    wrapper.write_text(f'#!/bin/sh\nLD_LIBRARY_PATH={shlex.quote(libraries)} exec {found} "$@"\n')
    wrapper.chmod(0o755)
    return wrapper


def test_two_builds_share_what_is_the_same(tmp_path: Path, ccache: Path) -> None:
    environ = {"PATH": f"{ccache.parent}:{os.environ['PATH']}", "CCACHE_DIR": str(tmp_path / "ccache")}
    settings = private_settings(tmp_path / "home", **environ)
    home = settings.provision_home
    facts = PlanFacts(provision_home=str(home), python=sys.executable, environ=settings.environ)
    plan = build_plan(probe_host(settings), InstallWish(backend="cpu"), facts)
    assert plan.env["CMAKE_CXX_COMPILER_LAUNCHER"] == str(ccache)
    write_files(plan)
    flags = shlex.split(plan.env["CMAKE_ARGS"])
    frontend = find_frontend(settings.environ, python=sys.executable, python_has_pip=True)
    tools = {"folder": home / "build-envs", "frontend": frontend, "environ": settings.environ, "reporter": silent}
    python = ensure_build_environment(plan.build_requires, **tools)  # type: ignore[arg-type]
    sdist = download_source(plan.engine_version, folder=tmp_path, python=python, environ=settings.environ, reporter=silent)

    def compile_in(name: str) -> str:
        folder = BuildFolder(root=home / "builds" / name)
        unpack_source(sdist, folder.source)
        (folder.root / "tmp").mkdir()
        env = build_environment(plan, folder, settings.environ)
        env["PATH"] = f"{python.parent}:{env['PATH']}"
        for step in (
            ["cmake", "-S", str(folder.source), "-B", str(folder.tree), *flags],
            ["ninja", "-C", str(folder.tree), "ggml-base"],
        ):
            done = run(step, timeout_s=900, env=env)
            assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
        return run([str(ccache), "--print-stats"], timeout_s=60, env=env).stdout

    first = hits(compile_in("one"))
    second = hits(compile_in("two"))
    assert first == 0
    assert second >= 8


def hits(stats: str) -> int:
    """Compiler calls answered from the cache (`ccache --print-stats`)."""
    return sum(int(number) for number in re.findall(r"^(?:direct|preprocessed)_cache_hit\s+(\d+)$", stats, re.MULTILINE))
