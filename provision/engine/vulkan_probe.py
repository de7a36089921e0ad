"""What this machine has for building with Vulkan: headers and their version, loader, shader compiler, SPIRV-Headers."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from provision.engine.vulkan import VulkanSdk
from provision.host.types import Version

_INCLUDES = ("/usr/include", "/usr/local/include", "/opt/homebrew/include")
_LIBRARIES = (
    "/usr/lib/x86_64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
    "/usr/lib64",
    "/usr/lib",
    "/usr/local/lib",
    "/opt/homebrew/lib",
)
_CMAKE_PREFIXES = ("/usr", "/usr/local", "/opt/homebrew")


def probe_vulkan(environ: Mapping[str, str], defines: Mapping[str, str]) -> VulkanSdk:
    """Look where CMake's FindVulkan looks: the user's -D definitions, `VULKAN_SDK`, then the system."""
    sdk = Path(environ["VULKAN_SDK"]) if environ.get("VULKAN_SDK") else None
    includes = [defines.get("Vulkan_INCLUDE_DIR"), sdk and sdk / "include", *_INCLUDES]
    include, version = next(
        ((path, found) for path in _paths(includes) if (found := header_version(path)) is not None), (None, None)
    )
    named = defines.get("Vulkan_LIBRARY")
    libraries = [sdk and sdk / "lib", *_LIBRARIES]
    library = Path(named) if named else next(_with(_paths(libraries), ("libvulkan.so", "libvulkan.dylib")), None)
    named = defines.get("Vulkan_GLSLC_EXECUTABLE")
    own = str(sdk / "bin") if sdk else None
    glslc = named or (shutil.which("glslc", path=own) if own else None) or shutil.which("glslc", path=environ.get("PATH"))
    named = defines.get("SPIRV-Headers_DIR")
    prefixes = _paths([sdk, *_CMAKE_PREFIXES])
    folders = [prefix / middle / "cmake/SPIRV-Headers" for prefix in prefixes for middle in ("share", "lib", "lib64")]
    spirv = next(_with(_paths([named] if named else folders), ("SPIRV-HeadersConfig.cmake",)), None)
    return VulkanSdk(
        header_version=version,
        include_dir=str(include) if include else None,
        library=str(library) if library and library.exists() else None,
        glslc=glslc if glslc and Path(glslc).exists() else None,
        spirv_headers_dir=str(spirv.parent) if spirv else None,
    )


def header_version(include: Path) -> Version | None:
    """(1, 4, 309) of `vulkan/vulkan_core.h`, when the C++ header ggml includes is there too."""
    if not (include / "vulkan" / "vulkan.hpp").is_file():
        return None
    try:
        text = (include / "vulkan" / "vulkan_core.h").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    patch = re.search(r"#define VK_HEADER_VERSION (\d+)", text)
    whole = re.search(r"#define VK_HEADER_VERSION_COMPLETE VK_MAKE_API_VERSION\(\d+, (\d+), (\d+), VK_HEADER_VERSION\)", text)
    return (int(whole[1]), int(whole[2]), int(patch[1])) if patch and whole else None


def _paths(candidates: Sequence[Path | str | None]) -> list[Path]:
    return [Path(candidate) for candidate in candidates if candidate]


def _with(folders: list[Path], names: tuple[str, ...]) -> Iterator[Path]:
    return (folder / name for folder in folders for name in names if (folder / name).exists())
