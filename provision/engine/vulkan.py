"""What a Vulkan build needs, and what of it is missing, by name. Pure; `vulkan_probe` reads the machine."""

from __future__ import annotations

from dataclasses import dataclass

from provision.host.packages import VULKAN_SDK_URL, vulkan_command
from provision.host.types import Host, Version

# ggml-vulkan of ggml 0.25.3 uses vk::LayerSettingEXT, which the headers got after 1.3.239 (Debian 12 has exactly that one:
# the build fails). Which release brought it was not determined; 1.4.309 (Debian 13) was seen to work.
_TOO_OLD = (1, 3, 239)


@dataclass(frozen=True, slots=True, kw_only=True)
class VulkanSdk:
    """The parts found: on the system, or below `VULKAN_SDK`. None means not found."""

    header_version: Version | None = None
    include_dir: str | None = None
    library: str | None = None
    glslc: str | None = None
    spirv_headers_dir: str | None = None
    """Folder of SPIRV-HeadersConfig.cmake."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lacks:
    """What is missing, and the command that brings it."""

    message: str
    hint: str


def why_not_vulkan(host: Host, sdk: VulkanSdk | None) -> Lacks | None:
    """None when Vulkan can be built."""
    if sdk is None:
        return Lacks(message="what the machine has for Vulkan was not looked at", hint="provision install --vulkan")
    missing = []
    if sdk.header_version is None:
        missing.append("the Vulkan headers")
    elif sdk.header_version <= _TOO_OLD:
        found = ".".join(map(str, sdk.header_version))
        missing.append(f"newer Vulkan headers (found {found} in {sdk.include_dir}; 1.3.239 and older do not compile)")
    if sdk.library is None:
        missing.append("the loader library libvulkan.so")
    if sdk.glslc is None:
        missing.append("the shader compiler glslc")
    if sdk.spirv_headers_dir is None:
        missing.append("the SPIRV-Headers package")
    return Lacks(message="missing: " + ", ".join(missing), hint=_hint(host, sdk)) if missing else None


def _hint(host: Host, sdk: VulkanSdk) -> str:
    only_headers_old = sdk.header_version is not None and sdk.header_version <= _TOO_OLD
    # Where only the headers are too old, the distribution would install the same again.
    command = None if only_headers_old else vulkan_command(host)
    return command or f"unpack a newer Vulkan SDK ({VULKAN_SDK_URL}) anywhere and: export VULKAN_SDK=/path/to/it/x86_64"
