"""A real engine wheel in a second: the engine of this environment packed up again, whole or damaged."""

from __future__ import annotations

import base64
import hashlib
import zipfile
from importlib import metadata
from pathlib import Path

import pytest


def repack_engine(
    folder: Path,
    *,
    version: str | None = None,
    damage: dict[str, bytes] | None = None,
    extra: dict[str, bytes] | None = None,
) -> Path:
    """`llama_cpp_python-V-py3-none-any.whl` in `folder` from the installed files; skips the test where none is installed.

    `damage` replaces files by name (`llama_cpp/lib/libggml-cpu.so`), `extra` adds some, `version` goes into the metadata.
    """
    try:
        installed = metadata.distribution("llama-cpp-python")
    except metadata.PackageNotFoundError:
        pytest.skip("llama-cpp-python is not installed in this environment: run ./scripts/quickstart")
    said = version or installed.version
    info = f"llama_cpp_python-{said}.dist-info"
    folder.mkdir(parents=True, exist_ok=True)
    wheel = folder / f"llama_cpp_python-{said}-py3-none-any.whl"
    rows = []
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_STORED) as archive:
        for name, content in [*_content(installed, info, said, damage or {}), *(extra or {}).items()]:
            archive.writestr(name, content)
            digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
            rows.append(f"{name},sha256={digest},{len(content)}\n")
        archive.writestr(f"{info}/RECORD", "".join(rows) + f"{info}/RECORD,,\n")
    return wheel


def _content(installed: metadata.Distribution, info: str, version: str, damage: dict[str, bytes]) -> list[tuple[str, bytes]]:
    found = []
    for file in installed.files or ():
        if file.parts[0] == "llama_cpp" and "__pycache__" not in file.parts:
            found.append((str(file), damage.get(str(file), Path(str(file.locate())).read_bytes())))
    text = (installed.read_text("METADATA") or "").replace(f"Version: {installed.version}", f"Version: {version}", 1)
    found.append((f"{info}/METADATA", text.encode()))
    found.append((f"{info}/WHEEL", b"Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: false\nTag: py3-none-any\n"))
    return found
