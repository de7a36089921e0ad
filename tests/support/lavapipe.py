"""A GPU for tests on a machine without one: Mesa's lavapipe, a 2 GiB Vulkan device in software, unpacked privately.

Nothing is installed and no root is needed: Debian packages are downloaded through the machine's own apt configuration
into a folder and unpacked there. ggml needs newer Vulkan headers than Debian 12 has (1.3.239 fails with "'LayerSettingEXT'
is not a member of 'vk'"), so those come from Debian 13's libvulkan-dev, from the same mirror.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

PACKAGES = ("mesa-vulkan-drivers", "libvulkan1", "libvulkan-dev", "glslc", "spirv-headers")
HEADERS_SUITE = "trixie"
_DONE = "complete"


class Unavailable(Exception):
    """Why lavapipe cannot be had here: not Debian, no apt, no mirror."""


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
    for program in ("apt-get", "dpkg-deb"):
        if shutil.which(program) is None:
            raise Unavailable(f"{program} is not on this machine")
    if os.uname().machine != "x86_64":
        raise Unavailable(f"only tried on x86_64, this is {os.uname().machine}")
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    own = _apt(root / "apt", sources=None)
    _run([*own, "update"])
    _unpack(_download(own, PACKAGES, root / "debs"), root)
    newer = _apt(root / "apt-newer", sources=f"deb {_mirror(own)} {HEADERS_SUITE} main\n")
    _run([*newer, "update"])
    headers = root / "debs-newer"
    headers.mkdir()
    _run([*newer, "download", "libvulkan-dev"], cwd=headers)
    _unpack(sorted(headers.glob("*.deb")), root / "headers")
    # ggml finds SPIRV-Headers by CMake but adds no include folder for them; beside the Vulkan headers they are seen.
    shutil.copytree(root / "usr/include/spirv", root / "headers/usr/include/spirv")
    _write_icd(root)
    (root / _DONE).touch()
    return Lavapipe(root=root)


def _apt(state: Path, *, sources: str | None) -> list[str]:
    """An apt-get with private state, so that neither root nor the machine's package lists are needed."""
    for name in ("lists/partial", "cache/archives/partial"):
        (state / name).mkdir(parents=True)
    options = [f"Dir::State::Lists={state / 'lists'}", f"Dir::Cache={state / 'cache'}", "Debug::NoLocking=1"]
    if os.geteuid() == 0:
        options.append("APT::Sandbox::User=root")
    if sources is not None:
        (state / "sources.list").write_text(sources)
        options += [f"Dir::Etc::sourcelist={state / 'sources.list'}", "Dir::Etc::sourceparts=/dev/null"]
    return ["apt-get", "-q", *(word for option in options for word in ("-o", option))]


def _mirror(apt: list[str]) -> str:
    """The Debian mirror this machine is configured with."""
    listed = _run([*apt, "indextargets", "--format", "$(REPO_URI) $(SUITE) $(COMPONENT)", "Created-By: Packages"])
    for line in listed.splitlines():
        uri, suite, component = line.split()
        if component == "main" and "security" not in uri and "updates" not in suite and uri.rstrip("/").endswith("debian"):
            return uri
    raise Unavailable("no Debian mirror is configured for apt")


def _download(apt: list[str], packages: tuple[str, ...], folder: Path) -> list[Path]:
    """The packages and whatever of their dependencies is not installed here; the named ones always."""
    folder.mkdir()
    printed = _run([*apt, "-y", "--no-install-recommends", "--print-uris", "install", *packages])
    missing = [line.split()[1].split("_")[0] for line in printed.splitlines() if line.startswith("'")]
    _run([*apt, "download", *sorted({*missing, *packages})], cwd=folder)
    return sorted(folder.glob("*.deb"))


def _unpack(debs: list[Path], root: Path) -> None:
    if not debs:
        raise Unavailable("apt downloaded nothing")
    for deb in debs:
        _run(["dpkg-deb", "-x", str(deb), str(root)])


def _write_icd(root: Path) -> None:
    library = next(root.glob("usr/lib/*/libvulkan_lvp.so"), None)
    if library is None:
        raise Unavailable("the Mesa package holds no libvulkan_lvp.so")
    text = '{"file_format_version": "1.0.0", "ICD": {"library_path": "%s", "api_version": "1.3.230"}}\n'
    (root / "lvp_icd.json").write_text(text % library)


def _run(argv: list[str], *, cwd: Path | None = None) -> str:
    done = subprocess.run(argv, cwd=cwd, capture_output=True, text=True, check=False, timeout=600)
    if done.returncode != 0:
        raise Unavailable(f"{' '.join(argv[:1] + argv[-2:])} failed: {done.stderr.strip()[-400:]}")
    return done.stdout
