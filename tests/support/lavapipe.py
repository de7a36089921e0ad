"""A GPU for tests on a machine without one: Mesa's lavapipe, a 2 GiB Vulkan device in software, unpacked privately.

Nothing is installed and no root is needed: Debian packages are downloaded through the machine's own apt configuration
into a folder and unpacked there. ggml needs newer Vulkan headers than Debian 12 has (1.3.239 fails with "'LayerSettingEXT'
is not a member of 'vk'"), so those come from Debian 13's libvulkan-dev, from the same mirror.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from tests.support.debian import Unavailable, apt, download, mirror, need_apt, run, unpack

PACKAGES = ("mesa-vulkan-drivers", "libvulkan1", "libvulkan-dev", "glslc", "spirv-headers")
HEADERS_SUITE = "trixie"
_DONE = "complete"


@dataclass(frozen=True, slots=True, kw_only=True)
class Lavapipe:
    """Where everything lies: `run_env` makes programs see the device, `build_env` and `cmake_args` build ggml's Vulkan."""

    root: Path

    @property
    def lib(self) -> Path:
        return self.root / "usr/lib/x86_64-linux-gnu"

    @property
    def run_env(self) -> dict[str, str]:
        return {
            "VK_ICD_FILENAMES": str(self.root / "lvp_icd.json"),
            "VK_DRIVER_FILES": str(self.root / "lvp_icd.json"),
            # ggml skips devices of type CPU unless they are named.
            "GGML_VK_VISIBLE_DEVICES": "0",
            "LD_LIBRARY_PATH": str(self.lib),
        }

    @property
    def build_env(self) -> dict[str, str]:
        return {"PATH": f"{self.root / 'usr/bin'}:{os.environ.get('PATH', '')}", "LD_LIBRARY_PATH": str(self.lib)}

    @property
    def cmake_args(self) -> tuple[str, ...]:
        return (
            f"-DVulkan_INCLUDE_DIR={self.root / 'headers/usr/include'}",
            f"-DVulkan_LIBRARY={self.lib / 'libvulkan.so'}",
            f"-DVulkan_GLSLC_EXECUTABLE={self.root / 'usr/bin/glslc'}",
            f"-DSPIRV-Headers_DIR={self.root / 'usr/share/cmake/SPIRV-Headers'}",
        )


def prepare(folder: Path) -> Lavapipe:
    """Download and unpack everything below `folder`, once; raises Unavailable with the reason."""
    root = folder / "lavapipe"
    if (root / _DONE).is_file():
        return Lavapipe(root=root)
    need_apt()
    if os.uname().machine != "x86_64":
        raise Unavailable(f"only tried on x86_64, this is {os.uname().machine}")
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    own = apt(root / "apt", sources=None)
    run([*own, "update"])
    unpack(download(own, PACKAGES, root / "debs"), root)
    newer = apt(root / "apt-newer", sources=f"deb {mirror(own)} {HEADERS_SUITE} main\n")
    run([*newer, "update"])
    headers = root / "debs-newer"
    headers.mkdir()
    run([*newer, "download", "libvulkan-dev"], cwd=headers)
    unpack(sorted(headers.glob("*.deb")), root / "headers")
    # ggml finds SPIRV-Headers by CMake but adds no include folder for them; beside the Vulkan headers they are seen.
    shutil.copytree(root / "usr/include/spirv", root / "headers/usr/include/spirv")
    _write_icd(root)
    (root / _DONE).touch()
    return Lavapipe(root=root)


def _write_icd(root: Path) -> None:
    library = next(root.glob("usr/lib/*/libvulkan_lvp.so"), None)
    if library is None:
        raise Unavailable("the Mesa package holds no libvulkan_lvp.so")
    text = '{"file_format_version": "1.0.0", "ICD": {"library_path": "%s", "api_version": "1.3.230"}}\n'
    (root / "lvp_icd.json").write_text(text % library)
