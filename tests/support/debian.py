"""Debian packages unpacked into a folder of a test's own: nothing is installed and no root is needed."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path


class Unavailable(Exception):
    """Why the packages cannot be had here: not Debian, no apt, no mirror."""


def unpack_packages(packages: tuple[str, ...], root: Path) -> None:
    """Download `packages` and what they need that is not installed here, and unpack everything below `root`."""
    need_apt()
    root.mkdir(parents=True)
    own = apt(root / "apt", sources=None)
    run([*own, "update"])
    unpack(download(own, packages, root / "debs"), root)


def need_apt() -> None:
    """Raise Unavailable where there is no apt."""
    for program in ("apt-get", "dpkg-deb"):
        if shutil.which(program) is None:
            raise Unavailable(f"{program} is not on this machine")


def apt(state: Path, *, sources: str | None) -> list[str]:
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


def mirror(apt: list[str]) -> str:
    """The Debian mirror this machine is configured with."""
    listed = run([*apt, "indextargets", "--format", "$(REPO_URI) $(SUITE) $(COMPONENT)", "Created-By: Packages"])
    for line in listed.splitlines():
        uri, suite, component = line.split()
        if component == "main" and "security" not in uri and "updates" not in suite and uri.rstrip("/").endswith("debian"):
            return uri
    raise Unavailable("no Debian mirror is configured for apt")


def download(apt: list[str], packages: tuple[str, ...], folder: Path) -> list[Path]:
    """The packages and whatever of their dependencies is not installed here; the named ones always."""
    folder.mkdir()
    printed = run([*apt, "-y", "--no-install-recommends", "--print-uris", "install", *packages])
    missing = [line.split()[1].split("_")[0] for line in printed.splitlines() if line.startswith("'")]
    run([*apt, "download", *sorted({*missing, *packages})], cwd=folder)
    return sorted(folder.glob("*.deb"))


def unpack(debs: list[Path], root: Path) -> None:
    if not debs:
        raise Unavailable("apt downloaded nothing")
    for deb in debs:
        run(["dpkg-deb", "-x", str(deb), str(root)])


def run(argv: list[str], *, cwd: Path | None = None) -> str:
    done = subprocess.run(argv, cwd=cwd, capture_output=True, text=True, check=False, timeout=600)
    if done.returncode != 0:
        raise Unavailable(f"{' '.join(argv[:1] + argv[-2:])} failed: {done.stderr.strip()[-400:]}")
    return done.stdout
