"""provision itself as a wheel, packed from the running package: a bundle must carry it, and pip gives nothing back.

The metadata is that of the installed distribution, so an editable installation packs as well. Same files, same bytes:
entries are sorted, stored with a fixed time, and RECORD follows from them.
"""

from __future__ import annotations

import base64
import hashlib
import io
import zipfile
from importlib import metadata
from pathlib import Path

import provision
from provision.recipes.load import shipped_folder

_EPOCH = (1980, 1, 1, 0, 0, 0)
_SKIPPED = {"__pycache__"}


def pack_provision() -> tuple[str, bytes]:
    """(file name, bytes) of the wheel `provision-VERSION-py3-none-any.whl`."""
    version = provision.__version__
    files = _package_files(Path(provision.__file__).parent)
    info = f"provision-{version}.dist-info"
    distribution = metadata.distribution("provision")
    files[f"{info}/METADATA"] = (distribution.read_text("METADATA") or "").encode()
    files[f"{info}/entry_points.txt"] = (distribution.read_text("entry_points.txt") or "").encode()
    files[f"{info}/WHEEL"] = b"Wheel-Version: 1.0\nGenerator: provision\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    return f"provision-{version}-py3-none-any.whl", _zip(files, record=f"{info}/RECORD")


def _package_files(package: Path) -> dict[str, bytes]:
    files = {
        f"provision/{path.relative_to(package).as_posix()}": path.read_bytes()
        for path in package.rglob("*")
        if path.is_file() and path.suffix != ".pyc" and not _SKIPPED & set(path.parts)
    }
    recipes = shipped_folder()
    files.update({f"provision/recipes/shipped/{path.name}": path.read_bytes() for path in recipes.iterdir() if path.is_file()})
    return files


def _zip(files: dict[str, bytes], *, record: str) -> bytes:
    lines = []
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(files):
            digest = base64.urlsafe_b64encode(hashlib.sha256(files[name]).digest()).rstrip(b"=").decode()
            lines.append(f"{name},sha256={digest},{len(files[name])}")
            archive.writestr(_entry(name), files[name])
        archive.writestr(_entry(record), "\n".join([*lines, f"{record},,", ""]).encode())
    return buffer.getvalue()


def _entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, date_time=_EPOCH)
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.external_attr = 0o644 << 16
    return entry
