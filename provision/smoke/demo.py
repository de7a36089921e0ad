"""The demo model that ships with provision."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from provision.errors import NotFoundError

_FILE = "provision-demo-Q8_0.gguf"


def demo_folder() -> Path:
    """Folder of the shipped demo files. Wheels are installed unpacked, so it is a real one."""
    return Path(str(files("provision").joinpath("data/demo")))


def demo_model_path() -> Path:
    """The shipped Q8_0 file; raises NotFoundError in an installation that lost it."""
    path = demo_folder() / _FILE
    if not path.is_file():
        raise NotFoundError(
            f"the demo model is missing from this installation: {path}",
            code="demo-missing",
            hint="install provision again: pip install --force-reinstall --no-deps provision",
        )
    return path


def demo_sha256(name: str) -> str | None:
    """What a file of the demo family must hash to, by its name; None for other names."""
    sums = demo_folder() / "SHA256SUMS"
    if not sums.is_file():
        return None
    for line in sums.read_text(encoding="utf-8").splitlines():
        digest, _, file = line.partition("  ")
        if file == name:
            return digest
    return None
