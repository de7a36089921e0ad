"""docker compose and Podman's quadlet from Debian 13, unpacked privately: they read unit files without starting anything.

The quadlet of that release needs a newer C library than Debian 12 has, so it runs under its own.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.support.debian import Unavailable, apt, mirror, need_apt, run, unpack

SUITE = "trixie"
PACKAGES = ("docker-compose", "podman", "libc6")
_LIBRARIES = "usr/lib/x86_64-linux-gnu"


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerTools:
    root: Path

    def compose(self, file: Path) -> str:
        """What compose makes of a file: checked, normalized YAML."""
        return _checked([str(self.root / "usr/bin/docker-compose"), "-f", str(file), "config"])

    def quadlet(self, folder: Path) -> str:
        """The services quadlet generates from the units in `folder`."""
        libraries = self.root / _LIBRARIES
        argv = [str(libraries / "ld-linux-x86-64.so.2"), "--library-path", str(libraries)]
        argv += [str(self.root / "usr/libexec/podman/quadlet"), "-dryrun", "-user"]
        return _checked(argv, QUADLET_UNIT_DIRS=str(folder))


def prepare(folder: Path) -> ContainerTools:
    """Download and unpack below `folder`; raises Unavailable with the reason."""
    need_apt()
    root = folder / "container-tools"
    root.mkdir()
    own = apt(folder / "apt", sources=None)
    run([*own, "update"])
    newer = apt(folder / "apt-newer", sources=f"deb {mirror(own)} {SUITE} main\n")
    run([*newer, "update"])
    debs = folder / "debs"
    debs.mkdir()
    run([*newer, "download", *PACKAGES], cwd=debs)
    unpack(sorted(debs.glob("*.deb")), root)
    if not (root / _LIBRARIES / "ld-linux-x86-64.so.2").exists():
        raise Unavailable("only tried on x86_64")
    return ContainerTools(root=root)


def _checked(argv: Sequence[str], **environ: str) -> str:
    env = {"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", **environ}
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60, env=env)
    assert done.returncode == 0, done.stderr
    return done.stdout
