"""What makes a build compile less: parts the package never loads left out, and a compiler cache used. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from provision.engine.flags import UserFlags, is_on
from provision.engine.types import ENGINE_VERSION, Backend, InstallWish, Reason
from provision.host.types import Host

# CMakeLists.txt of llama_cpp_python 0.3.36 forces LLAMA_BUILD_COMMON into CMake's cache. CMP0126 (cmake_minimum_required 3.21)
# lets a normal variable win over it, and CMake includes this file right after project(llama_cpp).
_HOOK = "CMAKE_PROJECT_llama_cpp_INCLUDE"
_WITHOUT_COMMON = "set(LLAMA_BUILD_COMMON OFF)\n"
_NEED_COMMON = tuple(f"LLAMA_BUILD_{part}" for part in ("COMMON", "TOOLS", "SERVER", "EXAMPLES", "TESTS", "APP"))
_SWITCHES_OFF = ("CCACHE_DISABLE", "CMAKE_C_COMPILER_LAUNCHER", "CMAKE_CXX_COMPILER_LAUNCHER")


def leave_out_common(
    wish: InstallWish, user: UserFlags, *, folder: str
) -> tuple[dict[str, str], dict[str, str], tuple[Reason, ...]]:
    """(definition, file to write, reason) that keep libllama-common and cpp-httplib out of the build.

    llama-cpp-python loads libllama, libggml and libmtmd; libmtmd must not link against common (tools/mtmd/CMakeLists.txt). Only
    for the version this was read in, and not where the user asks for what needs common or has a hook of their own.
    """
    theirs = _HOOK in user.defines or any(is_on(user.defines.get(name, "")) for name in _NEED_COMMON)
    if wish.engine_version != ENGINE_VERSION or theirs:
        return {}, {}, ()
    path = f"{folder}/without-common.cmake"
    reason = Reason(
        topic="left out",
        choice="libllama-common and cpp-httplib",
        because="only llama.cpp's own programs load them, and they are half of what a CPU build compiles",
    )
    return {_HOOK: path}, {path: _WITHOUT_COMMON}, (reason,)


def compiler_cache(
    host: Host, user: UserFlags, environ: Mapping[str, str], backend: Backend, *, builds: str
) -> tuple[dict[str, str], tuple[Reason, ...]]:
    """(environment of the build, reason) when ccache or sccache is on PATH and the user decided nothing about it.

    Given as environment and not as flags: a wheel is the same with and without it, so its key must be too.
    """
    tool = next((tool for name in ("ccache", "sccache") if (tool := host.tool(name)) and tool.works is not False), None)
    decided = any(name.endswith("_COMPILER_LAUNCHER") for name in user.defines) or any(map(environ.get, _SWITCHES_OFF))
    if tool is None or decided or not is_on(user.defines.get("GGML_CCACHE", "ON")):
        return {}, ()
    languages = ("C", "CXX", "CUDA") if backend == "cuda" else ("C", "CXX")
    env = {f"CMAKE_{language}_COMPILER_LAUNCHER": tool.path for language in languages}
    if tool.name == "ccache":
        # Each build has its own folder; relative to it, what one compiled serves the next (ccache manual, base_dir).
        ours = {"CCACHE_BASEDIR": builds, "CCACHE_NOHASHDIR": "1"}
        env |= {name: value for name, value in ours.items() if not environ.get(name)}
    return env, (Reason(topic="compiler cache", choice=tool.path, because=f"{tool.name} is on PATH"),)
