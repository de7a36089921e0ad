"""Checks of what a build needs and of the variables that lead it astray."""

from __future__ import annotations

import re
from shlex import quote

from provision.host.checks_machine import builds_needed
from provision.host.compilers import cxx_of
from provision.host.cuda_tables import version_text
from provision.host.findings import Check, Finding, Remedy, error, info, ok, skipped, warning
from provision.host.packages import VULKAN_SDK_URL, compiler_command, vulkan_command
from provision.host.types import Host, Tool

# Options of CMake and the environment that do nothing (any more) or harm, as read in ggml 0.25.3 and llama-cpp-python 0.3.36.
_DEAD_OPTIONS: tuple[tuple[str, bool, str], ...] = (
    (r"-DLLAMA_CUBLAS\b", True, "LLAMA_CUBLAS was removed and stops the build; the option is GGML_CUDA"),
    (r"-DLLAMA_(CUDA|METAL|NATIVE|RPC)\b", False, "LLAMA_* options are called GGML_* now"),
    (r"-DCUDA_PATH\b", False, "-DCUDA_PATH has no effect; the option is CUDAToolkit_ROOT"),
    (r"-DCUDA_TOOLKIT_ROOT_DIR\b", False, "-DCUDA_TOOLKIT_ROOT_DIR has no effect; the option is CUDAToolkit_ROOT"),
    (r"-DGGML_CUDA_FA_ALL_QUANTS\b", False, "GGML_CUDA_FA_ALL_QUANTS is deprecated; the option is GGML_CUDA_FA_QUANTS=all"),
    (r"-DGGML_RPC=(ON|1|TRUE)", False, "with GGML_RPC the library claims GPU offload even without a GPU"),
    (r"CMAKE_CUDA_ARCHITECTURES=all", False, "building for all architectures takes hours; name your GPU's"),
)


def judge_compiler(host: Host) -> list[Finding]:
    compiler = cxx_of(host.tools)
    remedy = _compiler_remedy(host)
    needed = builds_needed(host)
    if compiler is None:
        if needed:
            return [error("no C++ compiler: the engine cannot be built", remedy=remedy)]
        return [info("no C++ compiler; the installed engine does not need one", remedy=remedy)]
    words = _words(compiler)
    if compiler.works is False:
        summary = f"{words} does not compile a small program"
        return [(error if needed else warning)(summary, detail=compiler.detail, remedy=remedy)]
    others = sorted(
        {_words(tool) for tool in host.tools if "++" in tool.name and tool.name != "c++" and tool.version != compiler.version}
    )
    return [ok(words, detail="also: " + ", ".join(others) if others else "")]


def _compiler_remedy(host: Host) -> Remedy:
    commands = [compiler_command(host)]
    if host.system.os == "linux" and host.system.arch in ("x86_64", "aarch64"):
        # The maintainer's index has CPU wheels for these; each is proven here before it is kept.
        commands.append("provision install --cpu --prebuilt")
    text = "Install a C and C++ compiler" + (", or take a prebuilt engine without one." if commands[1:] else ".")
    return Remedy(text=text, commands=tuple(commands))


def judge_build_tools(host: Host) -> list[Finding]:
    """CMake and ninja come as PyPI packages with every build that needs them, so none of this stops anything."""
    found, missing = [], []
    for name, least in (("cmake", (3, 21)), ("ninja", (1, 10))):
        tool = host.tool(name)
        if tool is None or tool.works is False:
            missing.append(f"no {name}")
        elif tool.version is not None and tool.version < least:
            missing.append(f"{name} {version_text(tool.version)} is older than {version_text(least)}")
        else:
            found.append(f"{name} {version_text(tool.version)}" if tool.version else name)
    if missing:
        remedy = Remedy(
            text="The build fetches its own from PyPI; without a network, install them first.",
            commands=("python -m pip install cmake ninja",),
        )
        return [info(f"{', '.join(missing)}: the build brings its own", remedy=remedy)]
    return [ok(", ".join(found))]


def judge_git(host: Host) -> list[Finding]:
    tool = host.tool("git")
    return (
        [ok(f"git {version_text(tool.version)}" if tool.version else "git")]
        if tool
        else [info("no git; only contributors need it")]
    )


def judge_variables(host: Host) -> list[Finding]:
    found = []
    arguments = host.environment.get("CMAKE_ARGS", "")
    for pattern, fatal, why in _DEAD_OPTIONS:
        if re.search(pattern, arguments):
            remedy = Remedy(text="Take it out of CMAKE_ARGS.", commands=("unset CMAKE_ARGS",))
            summary = f"CMAKE_ARGS: {why}"
            found.append(error(summary, remedy=remedy) if fatal and builds_needed(host) else warning(summary, remedy=remedy))
    for name in ("FORCE_CMAKE", "GGML_CUDA"):
        if name in host.environment:
            found.append(
                info(f"{name} is set and read by nothing", remedy=Remedy(text="Unset it.", commands=(f"unset {name}",)))
            )
    if re.search(r"/stubs(/|:|$)", host.environment.get("LD_LIBRARY_PATH", "")):
        kept = [
            folder for folder in host.environment["LD_LIBRARY_PATH"].split(":") if not folder.rstrip("/").endswith("/stubs")
        ]
        value = quote(":".join(folder for folder in kept if folder))
        remedy = Remedy(text="Take the stubs folder out of LD_LIBRARY_PATH.", commands=(f"export LD_LIBRARY_PATH={value}",))
        found.append(
            warning("LD_LIBRARY_PATH names a stubs folder: programs load an empty libcuda and see no GPU", remedy=remedy)
        )
    return found or [ok("no variable leads a build astray")]


def judge_vulkan_tools(host: Host) -> list[Finding]:
    if not any(gpu.vendor in ("amd", "intel", "other") for gpu in host.gpus):
        return [skipped("no GPU that would need Vulkan")]
    if host.tool("glslc") is None:
        command = vulkan_command(host)
        where = "" if command else " from the Vulkan SDK; those of this distribution are too old or not known to us"
        remedy = Remedy(
            text=f"Install the shader compiler and Vulkan's headers (newer than 1.3.239){where}.",
            commands=(command,) if command else (),
            url=None if command else VULKAN_SDK_URL,
        )
        return [info("no glslc: the Vulkan backend cannot be built", remedy=remedy)]
    return [ok("glslc is there for the Vulkan backend")]


def _words(tool: Tool) -> str:
    name = {"gcc": "g++", "clang": "clang++", "msvc": "MSVC"}.get(tool.detail, tool.path.rsplit("/", 1)[-1])
    return f"{name} {version_text(tool.version)}" if tool.version else name


CHECKS = (
    Check(
        id="compiler",
        title="C++ compiler",
        about="The compiler a build takes by itself (CXX, else c++) compiles and links a small program. Without one the "
        "engine cannot be built, which is an error unless a working engine is installed.",
        judge=judge_compiler,
    ),
    Check(
        id="build-tools",
        title="CMake and ninja",
        about="Old or missing ones are replaced by packages from PyPI during the build.",
        judge=judge_build_tools,
    ),
    Check(id="git", title="git", about="Nothing here needs it; contributors do.", judge=judge_git),
    Check(
        id="variables",
        title="Environment variables",
        about="Options copied from old answers (LLAMA_CUBLAS, FORCE_CMAKE, CUDA_TOOLKIT_ROOT_DIR) do nothing or stop the "
        "build; stubs in LD_LIBRARY_PATH hide the GPU.",
        judge=judge_variables,
    ),
    Check(
        id="vulkan-tools",
        title="Vulkan build tools",
        about="For GPUs of AMD and Intel the Vulkan backend needs glslc and recent headers to build.",
        judge=judge_vulkan_tools,
    ),
)
