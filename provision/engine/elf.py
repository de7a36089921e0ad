"""Reading ELF libraries: what they need, where they look, and for which GPUs they hold machine code. Pure.

The fat binary layout is not documented by NVIDIA; offsets as in RWTH-ACS/cricket (cpu/cpu-elf2.c) and checked against what
nvcc 13.0 was told to compile.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from mmap import mmap

from provision.errors import IntegrityError

Bytes = bytes | mmap
"""A library in memory, or mapped from its file."""

_MAGIC = b"\x7fELF"
_DT_NEEDED, _DT_STRTAB, _DT_SONAME, _DT_RPATH, _DT_RUNPATH = 1, 5, 14, 15, 29
_SHT_DYNAMIC = 6
_SHT_GNU_VERNEED = 0x6FFFFFFE
_FATBIN_MAGIC = 0xBA55ED50
_KIND_PTX, _KIND_ELF = 1, 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Library:
    """What the dynamic loader would read in a 64-bit little-endian ELF file, and the GPU code in it."""

    soname: str | None
    needed: tuple[str, ...]
    runpath: tuple[str, ...]
    gpu_code: tuple[str, ...]
    """Architectures with machine code, `89`; sorted, each once."""
    gpu_ptx: tuple[str, ...]
    """Architectures with PTX."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Section:
    name: str
    kind: int
    offset: int
    size: int
    link: int
    entry_size: int


def read_library(data: Bytes) -> Library:
    """Parse a shared library. IntegrityError (`bad-elf`) for anything malformed or of another kind."""
    try:
        sections = _sections(data)
        soname, needed, runpath = _dynamic(data, sections)
        code, ptx = _fatbins(data, sections)
    except (struct.error, IndexError, UnicodeDecodeError) as error:
        raise IntegrityError(
            f"not a readable ELF library: {error}", code="bad-elf", hint="provision install --no-cache"
        ) from error
    return Library(soname=soname, needed=needed, runpath=runpath, gpu_code=code, gpu_ptx=ptx)


def glibc_needed(data: Bytes) -> tuple[int, ...] | None:
    """The newest glibc whose symbols a library asks for, (2, 34); None when it asks for none. IntegrityError as above."""
    found: list[tuple[int, ...]] = []
    try:
        sections = _sections(data)
        for section in sections:
            if section.kind == _SHT_GNU_VERNEED:
                found += _glibc_versions(data, section, sections[section.link].offset)
    except (struct.error, IndexError, ValueError) as error:
        raise IntegrityError(
            f"not a readable ELF library: {error}", code="bad-elf", hint="provision install --no-cache"
        ) from error
    return max(found, default=None)


def _glibc_versions(data: Bytes, section: _Section, strings: int) -> list[tuple[int, ...]]:
    """Versions `GLIBC_2.34` of a section of Elf64_Verneed, each followed by its Elf64_Vernaux (System V gABI, LSB 3.1)."""
    versions: list[tuple[int, ...]] = []
    at, end = section.offset, section.offset + section.size
    while at < end:
        _, count, _, first, following = struct.unpack_from("<HHIII", data, at)
        name_at = at + first
        for _ in range(count):
            _, _, _, name, next_name = struct.unpack_from("<IHHII", data, name_at)
            text = _text(data, strings + name)
            if text.startswith("GLIBC_2."):
                versions.append(tuple(int(part) for part in text.removeprefix("GLIBC_").split(".")))
            name_at += next_name
        if following == 0:
            break
        at += following
    return versions


def _sections(data: Bytes) -> list[_Section]:
    if data[:4] != _MAGIC or data[4:6] != b"\x02\x01":
        raise IntegrityError("not a 64-bit little-endian ELF file", code="bad-elf", hint="provision install --no-cache")
    (table,) = struct.unpack_from("<Q", data, 0x28)
    entry, count, names_index = struct.unpack_from("<HHH", data, 0x3A)
    rows = [struct.unpack_from("<IIQQQQIIQQ", data, table + index * entry) for index in range(count)]
    names = rows[names_index]
    return [
        _Section(name=_text(data, names[4] + row[0]), kind=row[1], offset=row[4], size=row[5], link=row[6], entry_size=row[9])
        for row in rows
    ]


def _dynamic(data: Bytes, sections: list[_Section]) -> tuple[str | None, tuple[str, ...], tuple[str, ...]]:
    soname: str | None = None
    needed: list[str] = []
    runpath: tuple[str, ...] = ()
    for section in sections:
        if section.kind != _SHT_DYNAMIC:
            continue
        strings = sections[section.link].offset
        for at in range(section.offset, section.offset + section.size, 16):
            tag, value = struct.unpack_from("<qQ", data, at)
            if tag == 0:
                break
            if tag == _DT_NEEDED:
                needed.append(_text(data, strings + value))
            elif tag == _DT_SONAME:
                soname = _text(data, strings + value)
            elif tag in (_DT_RPATH, _DT_RUNPATH):
                runpath = tuple(part for part in _text(data, strings + value).split(":") if part)
    return soname, tuple(needed), runpath


def _fatbins(data: Bytes, sections: list[_Section]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    code: set[int] = set()
    ptx: set[int] = set()
    for section in sections:
        if section.name != ".nv_fatbin":
            continue
        at, end = section.offset, section.offset + section.size
        while at + 16 <= end:
            magic, _, header, size = struct.unpack_from("<IHHQ", data, at)
            if magic != _FATBIN_MAGIC:
                # Containers are padded to eight bytes.
                at += 8
                continue
            _entries(data, at + header, at + header + size, code, ptx)
            at += header + size
    return _sorted(code), _sorted(ptx)


def _entries(data: Bytes, at: int, end: int, code: set[int], ptx: set[int]) -> None:
    while at + 64 <= end:
        kind, _, header, size = struct.unpack_from("<HHIQ", data, at)
        (arch,) = struct.unpack_from("<I", data, at + 28)
        if header == 0:
            return
        if kind == _KIND_ELF:
            code.add(arch)
        elif kind == _KIND_PTX:
            ptx.add(arch)
        at += header + size


def _sorted(archs: set[int]) -> tuple[str, ...]:
    return tuple(str(arch) for arch in sorted(archs))


def _text(data: Bytes, at: int) -> str:
    end = data.find(b"\0", at)
    if end < 0:
        raise IndexError("a name without an end")
    return data[at:end].decode("utf-8")
