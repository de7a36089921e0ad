"""Which wheel of the maintainer's index serves a machine, and why the others do not. Pure.

One folder per tag: `cpu`, `cu124`, `metal` ... File names since 0.3.20 are `llama_cpp_python-V-py3-none-PLATFORM.whl`. CUDA
wheels hold machine code for 60 to 90 (CUDA 12) or 75 to 90 (CUDA 13) and bring no CUDA runtime (release workflow of
abetlen/llama-cpp-python at 0.3.36).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from html.parser import HTMLParser
from urllib.parse import unquote, urljoin, urlsplit

from provision.engine.types import Backend, InstallWish, PrebuiltChoice
from provision.host.cuda_tables import (
    known_defects,
    prebuilt_archs,
    prebuilt_cuda_tags,
    tag_version,
    toolkit_facts,
    version_text,
)
from provision.host.match import tags_for_driver
from provision.host.types import Host

_FILE = re.compile(r"llama_cpp_python-(?P<version>[^-]+)-(?P<python>[^-]+)-(?P<abi>[^-]+)-(?P<platform>.+)\.whl")


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexFile:
    """One wheel of an index page."""

    filename: str
    url: str
    sha256: str | None


IndexPages = Mapping[str, tuple[IndexFile, ...]]


def parse_index_page(html: str, *, base_url: str) -> tuple[IndexFile, ...]:
    """The wheels of one PEP 503 page. Links that are no wheels of llama-cpp-python, or not safe, are left out."""
    reader = _Links()
    reader.feed(html)
    found = []
    for href in reader.hrefs:
        url, _, fragment = urljoin(base_url, href).partition("#")
        filename = unquote(url.rsplit("/", 1)[-1])
        if _FILE.fullmatch(filename) is None or not is_safe(url):
            continue
        digest = fragment.removeprefix("sha256=") if re.fullmatch(r"sha256=[0-9a-f]{64}", fragment) else None
        found.append(IndexFile(filename=filename, url=url, sha256=digest))
    return tuple(found)


def is_safe(url: str) -> bool:
    """https, or http that does not leave this machine."""
    parts = urlsplit(url)
    return parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in ("127.0.0.1", "::1", "localhost"))


def wanted_tags(host: Host, backend: Backend) -> tuple[str, ...]:
    """Index folders worth reading for this machine, best first."""
    if backend == "cuda":
        return tags_for_driver(host)
    return {"cpu": ("cpu",), "metal": ("metal",), "vulkan": ("vulkan",), "rocm": ("rocm72",)}[backend]


def choose_prebuilt(
    host: Host,
    wish: InstallWish,
    backend: Backend,
    archs: tuple[str, ...],
    pages: IndexPages | None,
    problem: str,
) -> tuple[PrebuiltChoice | None, str]:
    """(the wheel or None, the reason either way)."""
    if pages is None:
        return None, f"the index of prebuilt wheels was not read{': ' + problem if problem else ''}"
    if host.system.libc == "glibc" and (host.system.libc_version or (2, 17)) < (2, 17):
        return None, "prebuilt wheels need glibc 2.17"
    against: list[str] = []
    for tag in wanted_tags(host, backend):
        reason = _against_tag(tag, archs) if backend == "cuda" else None
        if reason is not None:
            against.append(f"{tag}: {reason}")
            continue
        fitting = [file for file in pages.get(tag, ()) if _fits(file, host, wish.engine_version)]
        if not fitting:
            against.append(f"{tag}: no wheel of {wish.engine_version} for {host.system.os} {host.system.arch}")
            continue
        file = fitting[0]
        runtime = _runtime(tag) if backend == "cuda" and host.system.os == "linux" else ()
        choice = PrebuiltChoice(
            tag=tag,
            filename=file.filename,
            url=file.url,
            sha256=file.sha256,
            runtime_packages=runtime,
            runtime_major=tag_version(tag)[0] if backend == "cuda" else None,
        )
        served = f" and has machine code for {', '.join(archs)}" if archs else ""
        return choice, f"the newest tag this machine serves is {tag}{served}"
    return None, "; ".join(against) or _why_no_tag(host)


def _why_no_tag(host: Host) -> str:
    if not prebuilt_cuda_tags(host.system.os, host.system.arch):
        return f"the index has no CUDA wheels for {host.system.os} {host.system.arch}"
    return "no index tag suits this driver"


def _against_tag(tag: str, archs: tuple[str, ...]) -> str | None:
    version = tag_version(tag)
    if any("gibberish" in defect.effect for defect in known_defects(version)):
        return f"CUDA {version_text(version)} miscompiles IQ2 and IQ3 kernels"
    lacking = [arch for arch in archs if arch not in prebuilt_archs(tag)]
    return f"holds no machine code for {', '.join(lacking)}" if lacking else None


def _fits(file: IndexFile, host: Host, version: str) -> bool:
    match = _FILE.fullmatch(file.filename)
    if match is None or match["version"].partition("+")[0] != version or match["python"] != "py3":
        return False
    arch = {"amd64": "x86_64", "arm64": "aarch64"}.get(host.system.arch.lower(), host.system.arch.lower())
    platform = match["platform"]
    if host.system.os == "linux":
        prefix = "musllinux" if host.system.libc == "musl" else ("manylinux", "linux_")
        if not platform.startswith(prefix) or not platform.endswith(arch):
            return False
        needs = re.match(r"manylinux_(\d+)_(\d+)_", platform)
        have = host.system.libc_version
        return needs is None or have is None or have >= (int(needs[1]), int(needs[2]))
    if host.system.os == "windows":
        return platform == ("win_amd64" if arch == "x86_64" else f"win_{host.system.arch.lower()}")
    return host.system.os == "darwin" and platform.startswith("macosx") and platform.endswith(("arm64", "universal2"))


def _runtime(tag: str) -> tuple[str, ...]:
    facts = toolkit_facts(tag_version(tag))
    packages = facts.pypi_packages if facts is not None else {}
    return tuple(
        f"{name}{spec}" for name, spec in packages.items() if name.startswith(("nvidia-cuda-runtime", "nvidia-cublas"))
    )


class _Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.hrefs: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "a":
            self.hrefs += [value for name, value in attrs if name == "href" and value]
