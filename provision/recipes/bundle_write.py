"""Writing a bundle: a folder or one tar, each file copied once and hashed on the way, nothing half-written visible."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from provision.errors import IntegrityError, MachineError, UsageError
from provision.events import Progress, ProgressEnded, Reporter
from provision.recipes.children.install import BUNDLE_VERSION, MANIFEST, digest_of, tar_header
from provision.units import MIB, format_bytes

_CHUNK = MIB
_BLOCK = 512
_SPARE = 16 * MIB


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One file of a bundle: a file on this disk, or a few bytes made up here. `sha256` None: hashed before the copy."""

    path: str
    source: Path | bytes
    sha256: str | None = None

    @property
    def size_bytes(self) -> int:
        return len(self.source) if isinstance(self.source, bytes) else self.source.stat().st_size


def manifest_of(items: Sequence[Item], about: Mapping[str, Any]) -> dict[str, Any]:
    """The manifest: `about` (name, target, bootstrap ...), the files, and its own digest."""
    files = [
        {"path": item.path, "size_bytes": item.size_bytes, "sha256": item.sha256 or _sha256_of(item.source)} for item in items
    ]
    manifest = {"schema": BUNDLE_VERSION, **about, "files": files}
    return {**manifest, "digest": digest_of(manifest)}


def write_bundle(destination: Path, items: Sequence[Item], about: Mapping[str, Any], *, reporter: Reporter) -> dict[str, Any]:
    """Write the bundle and return its manifest. A destination ending in `.tar` is one file, anything else a folder.

    UsageError when it exists, MachineError when the disk is too small, IntegrityError when a source changed under us.
    """
    require_new(destination)
    manifest = manifest_of(items, about)
    total = sum(entry["size_bytes"] for entry in manifest["files"])
    _require_space(destination.parent, total + _SPARE)
    part = destination.with_name(f".{destination.name}.{os.getpid()}.part")
    copier = _Copier(reporter=reporter, total=total)
    try:
        if destination.suffix == ".tar":
            _write_tar(part, items, manifest, copier)
        else:
            _write_folder(part, items, manifest, copier)
        os.rename(part, destination)
        _sync_folder(destination.parent)
    except OSError as error:
        # FAT32, as most sticks come, ends at 4 GiB.
        small = error.errno == errno.EFBIG
        hint = "use a medium with exFAT or ext4: findmnt -T " if small else "df -h "
        raise MachineError(
            f"cannot write {destination}: {error.strerror or error}", code="cannot-write", hint=f"{hint}{destination.parent}"
        ) from error
    finally:
        reporter(ProgressEnded(task="bundle"))
        if part.is_dir():
            shutil.rmtree(part, ignore_errors=True)
        else:
            part.unlink(missing_ok=True)
    return manifest


def require_new(destination: Path) -> None:
    """UsageError `file-exists` unless nothing is there yet."""
    if destination.exists() or destination.is_symlink():
        raise UsageError(
            f"{destination} exists already", code="file-exists", hint=f"choose another name, or: rm -r {destination}"
        )


def left_behind(destination: Path) -> tuple[Path, ...]:
    """What killed runs left of this bundle; perhaps a run that is under way on another machine, so nobody clears it unasked."""
    name = destination.name
    return tuple(
        sorted(path for pattern in (f".{name}.*.part", f".{name}-wheels-*") for path in destination.parent.glob(pattern))
    )


@dataclass(slots=True)
class _Copier:
    """Copies one source after the other and tells how far the whole bundle is."""

    reporter: Reporter
    total: int
    done: int = 0

    def copy(self, item: Item, out: BinaryIO, *, expected: str) -> None:
        digest = hashlib.sha256()
        if isinstance(item.source, bytes):
            digest.update(item.source)
            out.write(item.source)
            self._tell(len(item.source), item.path)
        else:
            with item.source.open("rb") as stream:
                while chunk := stream.read(_CHUNK):
                    digest.update(chunk)
                    out.write(chunk)
                    self._tell(len(chunk), item.path)
        if digest.hexdigest() != expected:
            raise IntegrityError(
                f"{item.path} is not what the lock says it is: its sha256 differs",
                code="bundle-source-differs",
                hint="provision cache verify",
            )

    def _tell(self, count: int, path: str) -> None:
        self.done += count
        self.reporter(Progress(task="bundle", label=path, done=self.done, total=self.total, unit="bytes"))


def _write_folder(part: Path, items: Sequence[Item], manifest: Mapping[str, Any], copier: _Copier) -> None:
    part.mkdir(parents=True)
    for item, entry in zip(items, manifest["files"], strict=True):
        target = part / item.path
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("xb") as out:
            copier.copy(item, out, expected=entry["sha256"])
            out.flush()
            os.fsync(out.fileno())
    with (part / MANIFEST).open("xb") as out:
        out.write(_manifest_bytes(manifest))
        out.flush()
        os.fsync(out.fileno())


def _write_tar(part: Path, items: Sequence[Item], manifest: Mapping[str, Any], copier: _Copier) -> None:
    part.parent.mkdir(parents=True, exist_ok=True)
    with part.open("xb") as out:
        raw = _manifest_bytes(manifest)
        out.write(tar_header(MANIFEST, len(raw)) + raw + _padding(len(raw)))
        for item, entry in zip(items, manifest["files"], strict=True):
            out.write(tar_header(item.path, entry["size_bytes"]))
            copier.copy(item, out, expected=entry["sha256"])
            out.write(_padding(entry["size_bytes"]))
        out.write(b"\0" * (2 * _BLOCK))
        out.flush()
        os.fsync(out.fileno())


def _manifest_bytes(manifest: Mapping[str, Any]) -> bytes:
    return (json.dumps(manifest, ensure_ascii=False, indent=1) + "\n").encode()


def _padding(size: int) -> bytes:
    return b"\0" * (-size % _BLOCK)


def _sha256_of(source: Path | bytes) -> str:
    if isinstance(source, bytes):
        return hashlib.sha256(source).hexdigest()
    with source.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _require_space(folder: Path, needed: int) -> None:
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise MachineError(
            f"the bundle needs {format_bytes(needed)} in {folder}, {format_bytes(free)} are free",
            code="disk-full",
            hint=f"df -h {folder}",
        )


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
