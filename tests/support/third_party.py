"""Other people's programs for slow tests, in private folders: an environment from PyPI, nginx from the system or Debian."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path


class Unavailable(Exception):
    """Why it cannot be had on this machine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    path: Path
    env: dict[str, str]


def environment(folder: Path, *requirements: str) -> Path:
    """The bin folder of a virtual environment that holds `requirements`. Raises Unavailable."""
    try:
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True, capture_output=True, timeout=120)
        pip = [str(folder / "bin/python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *requirements]
        subprocess.run(pip, check=True, capture_output=True, timeout=240)
    except (OSError, subprocess.SubprocessError) as error:
        raise Unavailable(f"{' '.join(requirements)} cannot be installed here: {type(error).__name__}") from error
    return folder / "bin"


def nginx(folder: Path) -> Program:
    """nginx from PATH, else unpacked from the machine's Debian mirror without root. Raises Unavailable."""
    found = shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin")
    if found is not None:
        return Program(path=Path(found), env={})
    folder.mkdir(parents=True)
    try:
        # No pipes: apt's helpers would hold them open past the time limit. And a mirror that hangs is given up soon.
        impatient = ["-o", "Acquire::Retries=0", "-o", "Acquire::http::Timeout=20"]
        subprocess.run(
            ["apt-get", "download", *impatient, "nginx", "nginx-common", "libpcre2-8-0"],
            cwd=folder,
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=60,
        )
        for package in folder.glob("*.deb"):
            subprocess.run(["dpkg-deb", "-x", str(package), str(folder)], check=True, capture_output=True)
    except (OSError, subprocess.SubprocessError) as error:
        raise Unavailable(f"nginx is not installed and cannot be downloaded: {type(error).__name__}") from error
    program = folder / "usr/sbin/nginx"
    library = str(folder / "usr/lib/x86_64-linux-gnu")
    return Program(path=program, env={"LD_LIBRARY_PATH": library})
