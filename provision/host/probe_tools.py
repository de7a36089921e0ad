"""Compilers and build programs, with versions, each asked once."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

from provision.host.compilers import compiler_kind, compiler_version
from provision.host.cuda_tables import parse_version, version_text
from provision.host.reader import Reader
from provision.host.side_by_side import for_each
from provision.host.types import Tool, Version

COMPILERS = ("c++", "cc", "g++", "gcc", "clang++", "clang")
PROGRAMS = ("cmake", "ninja", "make", "git", "uv", "ccache", "sccache", "glslc", "patchelf", "hipcc")
_NUMBERED = re.compile(r"(?:g\+\+|gcc|clang\+\+|clang)-\d{1,2}")
_MOST = 60
# The smallest program that needs the C++ standard library's headers, the C library's and a linker.
_PROGRAM = '#include <cstdlib>\n#include <string>\nint main() { return std::string(std::getenv("HOME") ? "" : "").size(); }\n'


def probe_tools(reader: Reader) -> tuple[Tool, ...]:
    """Every compiler on PATH (numbered ones too), CC and CXX, and the programs a build can use."""
    wanted: list[tuple[str, str, str]] = []
    for variable in ("CXX", "CC", "CUDAHOSTCXX"):
        value = reader.environ.get(variable, "").strip()
        path = value if "/" in value else reader.which(value) if value else None
        if path is not None:
            wanted.append((variable, path, variable))
    for name in (*COMPILERS, *_numbered(reader), *PROGRAMS):
        path = reader.which(name)
        if path is not None:
            wanted.append((name, path, "PATH"))
    wanted = wanted[:_MOST]
    # cc, gcc and gcc-12 are one file: it is asked once.
    files = {reader.real(path): (name, path) for name, path, _ in reversed(wanted)}
    answers = dict(zip(files, for_each(lambda item: _ask(reader, *item), list(files.values())), strict=True))
    tools = []
    for name, path, via in wanted:
        version, works, detail = answers[reader.real(path)]
        tools.append(Tool(name=name, path=path, version=version, works=works, found_via=via, detail=detail))
    if reader.os_name == "win32":
        tools.extend(_visual_studio(reader))
    return tuple(tools)


def compiler_trouble(reader: Reader, compiler: Tool, *, timeout_s: float = 20.0) -> str | None:
    """Why this C++ compiler cannot build a program (headers or linker missing), or None when it can."""
    try:
        with tempfile.TemporaryDirectory(prefix="provision-cxx-", ignore_cleanup_errors=True) as folder:
            source = Path(folder) / "probe.cpp"
            source.write_text(_PROGRAM, encoding="utf-8")
            done = reader.ask(compiler.path, str(source), "-o", str(Path(folder) / "probe"), timeout_s=timeout_s)
    except OSError as error:
        return f"no temporary folder to compile in: {error.strerror or error}"
    if done is None:
        return "it cannot be started or hangs"
    if done.returncode == 0:
        return None
    lines = [line.strip() for line in done.stderr.splitlines() if "error" in line.lower() or "cannot" in line.lower()]
    return (lines or done.stderr.strip().splitlines() or [f"it ended with {done.returncode}"])[0][:200]


def _numbered(reader: Reader) -> tuple[str, ...]:
    names = {name for folder in reader.path_folders() for name in reader.names(folder) if _NUMBERED.fullmatch(name)}
    return tuple(sorted(names))


def _ask(reader: Reader, name: str, path: str) -> tuple[Version | None, bool, str]:
    done = reader.ask(path, "--version")
    if done is None or done.returncode != 0:
        return None, False, "does not answer --version" if done is None else f"--version ended with {done.returncode}"
    said = done.stdout or done.stderr
    if name in ("CXX", "CC", "CUDAHOSTCXX") or name in COMPILERS or _NUMBERED.fullmatch(name):
        return compiler_version(said), True, compiler_kind(said)
    lines = said.strip().splitlines()
    return (parse_version(lines[0]) if lines else None), True, ""


def _visual_studio(reader: Reader) -> list[Tool]:
    """MSVC by vswhere. Not tried on a real Windows."""
    base = reader.environ.get("ProgramFiles(x86)", r"C:\Program Files (x86)")
    done = reader.ask(
        rf"{base}\Microsoft Visual Studio\Installer\vswhere.exe",
        *("-latest", "-products", "*", "-requires", "Microsoft.VisualStudio.Component.VC.Tools.x86.x64"),
        *("-property", "installationPath"),
    )
    where = done.stdout.strip() if done and done.returncode == 0 else ""
    if not where:
        return []
    folder = rf"{where}\VC\Tools\MSVC"
    newest = max((version for name in reader.names(folder) if (version := parse_version(name))), default=None)
    path = rf"{folder}\{version_text(newest)}" if newest else where
    return [Tool(name="cl", path=path, version=newest, works=True, found_via="vswhere", detail="msvc")]
