"""A libggml-cuda.so without CUDA: an ELF library that says what a real one would say to the loader and to whoever reads it."""

from __future__ import annotations

import struct
import subprocess
from collections.abc import Sequence
from pathlib import Path


def fake_cuda_library(
    folder: Path, *, archs: Sequence[str] = ("89",), needed: Sequence[str] = ("libcuda.so.1",), calls: Sequence[str] = ()
) -> bytes:
    """Machine code for `archs` in the place where nvcc puts it (no instruction in it), the NEEDED entries `needed`.

    `calls` are functions of those libraries that are called when it is loaded, so that the loader must really find them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    stubs = []
    for name in needed:
        stub = folder / name
        # The stub has every function that is called, with a version as in NVIDIA's libraries only where that does not matter.
        body = "".join(f"int {call}(void *out) {{ return 999; }}\n" for call in calls)
        _compile(body, stub, f"-Wl,-soname,{name}")
        stubs.append(str(stub))
    image = ", ".join(map(str, _fatbin(archs)))
    called = "".join(f"int {call}(void *);\n" for call in calls)
    body = "".join(f"  {call}(&value);\n" for call in calls)
    source = (
        f"{called}"
        f'__attribute__((section(".nv_fatbin"), aligned(8), used)) static const unsigned char image[] = {{{image}}};\n'
        f"__attribute__((constructor)) static void loaded(void) {{\n  int value = 0;\n  (void)value;\n{body}}}\n"
    )
    library = folder / "libggml-cuda.so"
    _compile(source, library, "-Wl,-soname,libggml-cuda.so", "-Wl,--no-as-needed", *stubs)
    return library.read_bytes()


def _fatbin(archs: Sequence[str]) -> bytes:
    """One container with an empty ELF entry for each architecture, laid out as engine/elf.py reads it."""
    entries = b""
    for arch in archs:
        header = struct.pack("<HHIQ", 2, 0, 64, 8) + b"\0" * 12 + struct.pack("<I", int(arch))
        entries += header.ljust(64, b"\0") + b"\0" * 8
    return struct.pack("<IHHQ", 0xBA55ED50, 1, 16, len(entries)) + entries


def _compile(source: str, library: Path, *flags: str) -> None:
    command = ["gcc", "-shared", "-fPIC", "-x", "c", "-", "-o", str(library), "-x", "none", *flags]
    done = subprocess.run(command, input=source, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
