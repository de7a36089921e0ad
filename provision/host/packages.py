"""What installs a thing on this distribution: one command that can be pasted, or None where we know none. Pure."""

from __future__ import annotations

from typing import Literal

from provision.host.types import Host, System, Version

Family = Literal["debian", "fedora", "rhel", "arch", "suse", "alpine", "nixos"]
_FAMILIES: dict[str, Family] = {
    **dict.fromkeys(("debian", "ubuntu", "linuxmint", "pop", "elementary", "zorin", "neon", "kali", "raspbian"), "debian"),
    **dict.fromkeys(("fedora", "nobara"), "fedora"),
    **dict.fromkeys(("rhel", "centos", "rocky", "almalinux", "ol", "amzn"), "rhel"),
    **dict.fromkeys(("arch", "manjaro", "endeavouros", "cachyos", "artix"), "arch"),
    **dict.fromkeys(("suse", "opensuse", "opensuse-leap", "opensuse-tumbleweed", "sles"), "suse"),
    "alpine": "alpine",
    "nixos": "nixos",
}
_COMPILER: dict[Family, str] = {
    "debian": "sudo apt install build-essential",
    "fedora": "sudo dnf install gcc-c++",
    "rhel": "sudo dnf install gcc-c++",
    "arch": "sudo pacman -S --needed base-devel",
    "suse": "sudo zypper install gcc-c++",
    "alpine": "sudo apk add build-base linux-headers",
    "nixos": "nix-shell -p gcc",
}
_VULKAN: dict[Family, str] = {
    "debian": "sudo apt install libvulkan-dev glslc spirv-headers",
    "fedora": "sudo dnf install vulkan-loader-devel glslc spirv-headers-devel",
    "rhel": "sudo dnf install vulkan-loader-devel glslc spirv-headers-devel",
    "arch": "sudo pacman -S --needed vulkan-headers vulkan-icd-loader shaderc spirv-headers",
}
# Their headers are 1.3.239 or older, which ggml-vulkan of ggml 0.25.3 does not compile with. Debian 12 was tried.
_OLD_VULKAN = ("debian 11", "debian 12", "ubuntu 20.04", "ubuntu 22.04")
VULKAN_SDK_URL = "https://vulkan.lunarg.com/sdk/home"
# NVIDIA's package repository by distribution, and the oldest and newest CUDA packed there, as its CUDA Installation Guides for
# Linux list supported distributions. Its index was not asked.
_CUDA_REPOSITORIES: dict[str, tuple[str, Version, Version]] = {
    "ubuntu 20.04": ("ubuntu2004", (11, 0), (12, 9)),
    "ubuntu 22.04": ("ubuntu2204", (11, 7), (99,)),
    "ubuntu 24.04": ("ubuntu2404", (12, 5), (99,)),
    "debian 11": ("debian11", (11, 5), (12, 9)),
    "debian 12": ("debian12", (12, 4), (99,)),
}
_CUDA_ARCHS = {"x86_64": "x86_64", "aarch64": "sbsa"}


def family_of(system: System) -> Family | None:
    """By the distribution's own name, else by what it says it is like."""
    names = ((system.distribution or "").split(" ")[0], *system.distribution_like)
    return next((_FAMILIES[name] for name in names if name in _FAMILIES), None)


def compiler_command(host: Host) -> str:
    """What installs a C and C++ compiler here."""
    if host.system.os == "darwin":
        return "xcode-select --install"
    if host.system.os == "windows":
        return (
            'winget install Microsoft.VisualStudio.2022.BuildTools --override "--add Microsoft.VisualStudio.Workload.VCTools"'
        )
    family = family_of(host.system)
    # Without root, and on every distribution that has glibc.
    return _COMPILER[family] if family else "conda install -c conda-forge cxx-compiler"


def vulkan_command(host: Host) -> str | None:
    """What installs headers, loader and shader compiler for Vulkan; None where the distribution's are too old or unknown."""
    if host.system.os == "darwin":
        return "brew install vulkan-headers vulkan-loader shaderc spirv-headers molten-vk"
    family = family_of(host.system)
    if family is None or (host.system.distribution or "") in _OLD_VULKAN:
        return None
    return _VULKAN.get(family)


def driver_command(host: Host) -> str | None:
    """What installs NVIDIA's driver; None where its own page is the better guide."""
    name = (host.system.distribution or "").split(" ")[0]
    family = family_of(host.system)
    if name in ("ubuntu", "linuxmint", "zorin", "neon"):
        return "sudo ubuntu-drivers install"
    if name == "pop":
        return "sudo apt install system76-driver-nvidia"
    if family == "debian":
        return "sudo apt install nvidia-driver   # with contrib and non-free in /etc/apt/sources.list"
    if family == "fedora":
        return "sudo dnf install akmod-nvidia   # from RPM Fusion: https://rpmfusion.org/Configuration"
    old = any(gpu.compute_capability is not None and gpu.compute_capability < (7, 5) for gpu in host.gpus)
    # The open kernel module begins with Turing; older GPUs need a driver Arch no longer packs itself.
    return "sudo pacman -S nvidia-open" if family == "arch" and not old else None


def cuda_package_commands(host: Host, package: str, cuda: Version) -> tuple[str, ...]:
    """What installs a package of NVIDIA's repository, the repository first; empty where it has none for this CUDA."""
    slug, oldest, newest = _CUDA_REPOSITORIES.get(host.system.distribution or "", ("", (99,), (0,)))
    arch = _CUDA_ARCHS.get(host.system.arch)
    if arch is None or not oldest <= cuda[:2] <= newest:
        return ()
    base = f"https://developer.download.nvidia.com/compute/cuda/repos/{slug}/{arch}"
    return (
        f"wget {base}/cuda-keyring_1.1-1_all.deb",
        "sudo dpkg -i cuda-keyring_1.1-1_all.deb && sudo apt update",
        f"sudo apt install {package}",
    )


def venv_command(host: Host) -> str:
    """A fresh environment; Debian packs the module for it apart."""
    if family_of(host.system) == "debian":
        return "sudo apt install python3-venv && python3 -m venv .venv"
    return "python3 -m venv .venv"
