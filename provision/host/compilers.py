"""What compilers say about themselves, and which one a build takes. Pure."""

from __future__ import annotations

import re

from provision.host.cuda_tables import parse_version
from provision.host.types import Tool, Version

NO_AMX_FLAGS = ("-mno-amx-tile", "-mno-amx-int8", "-mno-amx-bf16")
"""What a build adds to CFLAGS and CXXFLAGS when the compiler is not trusted with AMX; AVX512-VNNI stays in use."""


def cxx_of(tools: tuple[Tool, ...]) -> Tool | None:
    """The C++ compiler a build takes by itself: CXX, else what CMake tries first."""
    by_name = {tool.name: tool for tool in reversed(tools)}
    return next((by_name[name] for name in ("CXX", "c++", "g++", "clang++", "cl") if name in by_name), None)


def compiler_kind(said: str) -> str:
    """`clang`, `gcc` or nothing, from the first lines of --version; macOS calls clang `gcc`."""
    if "clang" in said:
        return "clang"
    return "gcc" if "Free Software Foundation" in said or "gcc" in said or "g++" in said else ""


def compiler_version(said: str) -> Version | None:
    """`g++ (Ubuntu 13.3.0-6ubuntu2~24.04) 13.3.0` is 13.3.0: the number after the package note, not inside it."""
    lines = said.strip().splitlines()
    if not lines:
        return None
    # Neither the number in the package note nor the one in the program's own name (`g++-11`) counts.
    bare = re.sub(r"\([^)]*\)", " ", lines[0])
    dotted = re.search(r"\d+(?:\.\d+)+", bare)
    return parse_version(dotted.group() if dotted else lines[0])
