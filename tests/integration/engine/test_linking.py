"""A compiler that links libstdc++ statically, and a program that has loaded the shared one before the engine."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from provision.engine.flags import parse_cmake_args
from provision.engine.linking import keep_libstdcxx_private
from tests.support.plans import machines

pytestmark = pytest.mark.integration

_LIBRARY = """
#include <sstream>
extern "C" int digits(long n) { std::ostringstream out; out << n; return out.good() ? (int) out.str().size() : -1; }
"""
_PROJECT = "cmake_minimum_required(VERSION 3.21)\nproject(probe CXX)\nadd_library(probe SHARED probe.cpp)\n"
_PROGRAM = "import ctypes, sys; ctypes.CDLL('libstdc++.so.6'); print(ctypes.CDLL(sys.argv[1]).digits(ctypes.c_long(12345)))"


def _build(folder: Path, *definitions: str) -> Path:
    folder.mkdir()
    (folder / "probe.cpp").write_text(_LIBRARY)
    (folder / "CMakeLists.txt").write_text(_PROJECT)
    env = {**os.environ, "LDFLAGS": "-static-libstdc++"}
    for command in (
        ["cmake", "-S", str(folder), "-B", str(folder / "b"), *definitions],
        ["cmake", "--build", str(folder / "b")],
    ):
        done = subprocess.run(command, capture_output=True, text=True, env=env)
        assert done.returncode == 0, done.stdout + done.stderr
    return folder / "b" / "libprobe.so"


def _exported(library: Path) -> list[str]:
    """Facet ids of the C++ library that other libraries could be bound to."""
    listed = subprocess.run(["nm", "-D", "--defined-only", str(library)], capture_output=True, text=True, check=True).stdout
    return [line.split()[-1] for line in listed.splitlines() if "numpunct" in line and line.endswith("2idE")]


@pytest.mark.skipif(
    not sys.platform.startswith("linux") or not all(map(shutil.which, ("cmake", "c++", "nm"))), reason="needs CMake, C++ and nm"
)
def test_a_static_libstdcxx_is_not_exported_and_does_not_clash(tmp_path: Path) -> None:
    plain = _build(tmp_path / "plain")
    if not _exported(plain):
        pytest.skip("this compiler has no static libstdc++")
    flags, _ = keep_libstdcxx_private(machines()["laptop-without-gpu"], parse_cmake_args(""))
    ours = _build(tmp_path / "ours", *(f"-D{name}={value}" for name, value in flags.items()))
    assert _exported(ours) == []
    done = subprocess.run([sys.executable, "-c", _PROGRAM, str(ours)], capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, "5")
