"""Installs a provision bundle on a machine without internet. Needs one of the Pythons it was made for and nothing else.

    python3 install.py                          from the bundle's own folder
    python3 install.py FILE.tar                 from a bundle that is one file
    python3 install.py --into DIR               where the new environment goes (default: ./provision-NAME)
    python3 install.py --no-gpu-check           for an image: the GPU comes later, and so does the smoke test

A bundle is a folder or an uncompressed tar with the same content: `bundle.json` lists every file with its size and
sha256. Every byte is checked before anything is installed. The script makes a virtual environment, installs the wheels
into it with the bundled pip, and lets the provision inside place the model and run the smoke test. It never touches the
network.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import platform
import re
import stat
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

MANIFEST = "bundle.json"
BUNDLE_VERSION = 2
_CHUNK = 1024 * 1024
_BLOCK = 512
_MAX_MANIFEST = 16 * 1024 * 1024
_MAX_FILE = 1 << 50
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_PYTHON = re.compile(r"3\.[0-9]{1,2}")
_FLAT = ("wheels", "bootstrap")

Progress = Callable[[str, int, int], None]
"""(path of the file, bytes done over all files, bytes of all files)."""


class BundleDamaged(Exception):
    """What is wrong, with the name of the file it is wrong in."""


def digest_of(manifest: dict[str, Any]) -> str:
    """sha256 over the canonical JSON of the manifest without its own digest."""
    rest = {key: value for key, value in manifest.items() if key != "digest"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()).hexdigest()


def parse_manifest(raw: bytes) -> dict[str, Any]:
    """The manifest, with every field the readers rely on checked. Raises BundleDamaged."""
    try:
        manifest = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise BundleDamaged(f"{MANIFEST} is damaged: {error}") from None
    if not isinstance(manifest, dict) or manifest.get("schema") != BUNDLE_VERSION:
        raise BundleDamaged(f"{MANIFEST} is damaged, or of a newer provision: its schema is not {BUNDLE_VERSION}")
    if manifest.get("digest") != digest_of(manifest):
        raise BundleDamaged(f"{MANIFEST} was changed after it was written: its digest differs")
    files = manifest.get("files")
    if not isinstance(files, list) or not all(_is_entry(entry) for entry in files):
        raise BundleDamaged(f"{MANIFEST} lists its files in a way this installer does not understand")
    paths = [entry["path"] for entry in files]
    if len(set(paths)) != len(paths) or MANIFEST in paths:
        raise BundleDamaged(f"{MANIFEST} lists a file twice")
    if not _is_about(manifest, set(paths)):
        raise BundleDamaged(f"{MANIFEST} does not say what the bundle is for in a way this installer understands")
    return manifest


def _is_entry(entry: Any) -> bool:
    if not isinstance(entry, dict):
        return False
    path, size, sha256 = entry.get("path"), entry.get("size_bytes"), entry.get("sha256")
    if not (isinstance(path, str) and path.isprintable() and "\\" not in path and len(path) <= 1000):
        return False
    parts = path.split("/")
    inside = all(part not in ("", ".", "..") for part in parts) and (parts[0] not in _FLAT or len(parts) == 2)
    sized = type(size) is int and 0 <= size <= _MAX_FILE
    return inside and sized and isinstance(sha256, str) and re.fullmatch("[0-9a-f]{64}", sha256) is not None


def _is_about(manifest: dict[str, Any], paths: set[str]) -> bool:
    needs, pythons = manifest.get("needs"), manifest.get("pythons")
    named = isinstance(manifest.get("name"), str) and _NAME.fullmatch(manifest["name"]) is not None
    if not (named and isinstance(manifest.get("target"), str) and isinstance(needs, dict) and isinstance(pythons, list)):
        return False
    glibc = needs.get("glibc")
    if not (isinstance(needs.get("os"), str) and isinstance(needs.get("arch"), str)):
        return False
    if glibc is not None and not (isinstance(glibc, str) and re.fullmatch(r"[0-9]{1,3}(\.[0-9]{1,3}){1,2}", glibc)):
        return False
    return bool(pythons) and all(_is_kit(kit, paths) for kit in pythons)


def _is_kit(kit: Any, paths: set[str]) -> bool:
    """One Python of the bundle: its lock and its bootstrap wheels (pip among them) are files of the bundle."""
    if not (isinstance(kit, dict) and isinstance(kit.get("python"), str) and _PYTHON.fullmatch(kit["python"])):
        return False
    bootstrap, lock, tree = kit.get("bootstrap"), kit.get("lock"), kit.get("tree_sha256")
    if not (isinstance(lock, str) and lock in paths and isinstance(tree, str) and isinstance(bootstrap, list)):
        return False
    known = all(isinstance(name, str) and name in paths and name.startswith("bootstrap/") for name in bootstrap)
    return known and any(name.startswith("bootstrap/pip-") for name in bootstrap)


def why_unsuited(manifest: dict[str, Any]) -> tuple[str, str] | None:
    """(message, hint) when this machine is not of the kind the bundle was made for; None when it is."""
    needs = manifest["needs"]
    here = {"linux": "linux", "darwin": "darwin", "win32": "windows"}.get(sys.platform, sys.platform), platform.machine()
    again = f"make one for this machine: provision bundle create provision.lock --output FOLDER --target {'-'.join(here)}-cpu"
    if (needs["os"], needs["arch"]) != here:
        return f"the bundle is for {needs['os']} on {needs['arch']}, this machine is {here[0]} on {here[1]}", again
    if needs["glibc"] is None:
        return None
    libc = _glibc_here()
    if libc is None:
        return f"the bundle needs glibc {needs['glibc']}, and this system has another C library", again
    if _version(libc) < _version(needs["glibc"]):
        message = f"the bundle needs glibc {needs['glibc']}, and this system has {libc}"
        return message, "build the engine on the oldest system it shall run on, or use a newer one here: ldd --version"
    return None


def kit_for(manifest: dict[str, Any], python: str) -> dict[str, Any] | None:
    """The entry of `pythons` for the minor version `python`, `3.12`; None when the bundle has no wheels for it."""
    return next((kit for kit in manifest["pythons"] if kit["python"] == python), None)


def other_python(manifest: dict[str, Any], python: str) -> tuple[str, str]:
    """(message, hint) for a Python the bundle has no wheels for."""
    served = [kit["python"] for kit in manifest["pythons"]]
    return f"the wheels of this bundle are for Python {' and '.join(served)}, this is {python}", f"python{served[0]} install.py"


def _glibc_here() -> str | None:
    try:
        name, _, version = (os.confstr("CS_GNU_LIBC_VERSION") or "").partition(" ")
    except (AttributeError, ValueError, OSError):
        return None
    return version if name == "glibc" and version else None


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split("."))


class Bundle:
    """An open bundle. `open(path)` gives the bytes of one file; nothing is unpacked."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.is_tar = path.is_file()
        self._offsets: dict[str, tuple[int, int]] = {}
        try:
            self.manifest_bytes, self._manifest_end = self._read_manifest()
        except OSError as error:
            raise BundleDamaged(f"{path}: {error.strerror or error}") from None
        self.manifest = parse_manifest(self.manifest_bytes)
        self.files: list[dict[str, Any]] = self.manifest["files"]
        if self.is_tar:
            self._locate_members()

    @contextlib.contextmanager
    def open(self, name: str) -> Iterator[BinaryIO]:
        """A binary stream of exactly that file's bytes, positioned at its start."""
        if not any(entry["path"] == name for entry in self.files):
            raise BundleDamaged(f"{name} is not in the bundle")
        if not self.is_tar:
            with open(self.path / name, "rb", opener=_open_plain) as file:
                yield file
            return
        offset, size = self._offsets[name]
        with open(self.path, "rb") as archive:
            yield _Slice(archive, offset, size)  # type: ignore[misc]

    def verify(self, progress: Progress | None = None) -> None:
        """Check every byte. Raises BundleDamaged naming the first file that differs."""
        total = sum(entry["size_bytes"] for entry in self.files)
        done = 0
        for entry in self.files:
            digest = hashlib.sha256()
            size = 0
            try:
                self._require_size(entry)
                with self.open(entry["path"]) as stream:
                    while chunk := stream.read(_CHUNK):
                        digest.update(chunk)
                        size += len(chunk)
                        done += len(chunk)
                        if progress is not None:
                            progress(entry["path"], done, total)
            except OSError as error:
                raise BundleDamaged(f"{entry['path']}: {error.strerror or error}") from None
            if size != entry["size_bytes"]:
                raise BundleDamaged(f"{entry['path']} has {size} bytes, the manifest says {entry['size_bytes']}")
            if digest.hexdigest() != entry["sha256"]:
                raise BundleDamaged(f"{entry['path']} is damaged: its sha256 differs from the manifest")
        self._refuse_strangers()

    def _require_size(self, entry: dict[str, Any]) -> None:
        # Before anything is read: a file that grew to terabytes must not be hashed first.
        if self.is_tar:
            return
        size = os.lstat(self.path / entry["path"]).st_size
        if size != entry["size_bytes"]:
            raise BundleDamaged(f"{entry['path']} has {size} bytes, the manifest says {entry['size_bytes']}")

    def extract(self, name: str, folder: Path) -> Path:
        """Copy one file into `folder` under its last name, checking its hash on the way."""
        entry = next(entry for entry in self.files if entry["path"] == name)
        target = folder / name.rsplit("/", 1)[-1]
        digest = hashlib.sha256()
        with self.open(name) as stream, open(target, "xb") as out:
            while chunk := stream.read(_CHUNK):
                digest.update(chunk)
                out.write(chunk)
        if digest.hexdigest() != entry["sha256"]:
            target.unlink()
            raise BundleDamaged(f"{name} is damaged: its sha256 differs from the manifest")
        return target

    def _read_manifest(self) -> tuple[bytes, int]:
        if not self.is_tar:
            with open(self.path / MANIFEST, "rb", opener=_open_plain) as file:
                return file.read(_MAX_MANIFEST), 0
        with open(self.path, "rb") as archive:
            header = archive.read(_BLOCK)
            try:
                size = tarfile.TarInfo.frombuf(header, tarfile.ENCODING, "surrogateescape").size
            except tarfile.TarError as error:
                raise BundleDamaged(f"the file is no bundle, or its first block is damaged: {error}") from None
            if not 0 < size <= _MAX_MANIFEST or header != tar_header(MANIFEST, size):
                raise BundleDamaged(f"the file is no bundle, or its first block is damaged: it does not start with {MANIFEST}")
            return archive.read(size), _padded(_BLOCK + size)

    def _locate_members(self) -> None:
        # A bundle's tar is canonical: every header and padding byte follows from the manifest, so nothing can hide in them.
        with open(self.path, "rb") as archive:
            archive.seek(_BLOCK + len(self.manifest_bytes))
            self._expect(archive, b"\0" * (self._manifest_end - archive.tell()), MANIFEST)
            for entry in self.files:
                name, size = entry["path"], entry["size_bytes"]
                self._expect(archive, tar_header(name, size), name)
                self._offsets[name] = (archive.tell(), size)
                archive.seek(size, os.SEEK_CUR)
                self._expect(archive, b"\0" * (_padded(size) - size), name)
            self._expect(archive, b"\0" * (2 * _BLOCK), "the end of the archive")
            if archive.read(1):
                raise BundleDamaged("there is something after the end of the archive")

    @staticmethod
    def _expect(archive: BinaryIO, wanted: bytes, name: str) -> None:
        if archive.read(len(wanted)) != wanted:
            raise BundleDamaged(f"{name}: the archive is damaged or cut short here")

    def _refuse_strangers(self) -> None:
        if self.is_tar:
            return
        known = {entry["path"] for entry in self.files} | {MANIFEST}
        for found in sorted(self.path.rglob("*")):
            name = found.relative_to(self.path).as_posix()
            if (found.is_symlink() or not found.is_dir()) and name not in known:
                raise BundleDamaged(f"{name} does not belong to this bundle")


def _open_plain(path: str, flags: int) -> int:
    """Opens a plain file and nothing else: a pipe would wait for ever, a link could lead anywhere and change."""
    if os.path.islink(path):
        raise OSError("it is a link, not a file")
    handle = os.open(path, flags | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError("it is no plain file")
    return handle


class _Slice:
    """A read-only window of an open file."""

    def __init__(self, file: BinaryIO, offset: int, size: int) -> None:
        self._file = file
        self._left = size
        file.seek(offset)

    def read(self, count: int = -1) -> bytes:
        count = self._left if count < 0 else min(count, self._left)
        chunk = self._file.read(count)
        self._left -= len(chunk)
        return chunk


def tar_header(name: str, size: int) -> bytes:
    """The header block(s) of a member: a plain file, mode 0644, no owner, no time: same bundle, same bytes."""
    info = tarfile.TarInfo(name)
    info.size = size
    info.mode = 0o644
    return info.tobuf(format=tarfile.GNU_FORMAT)


def _padded(size: int) -> int:
    return -(-size // _BLOCK) * _BLOCK


def _main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(description="Install a provision bundle without internet.")
    here = Path(__file__).resolve().parent if "__file__" in globals() else Path.cwd()
    parser.add_argument("bundle", type=Path, nargs="?", default=here, help="the bundle: its folder, or one .tar file")
    parser.add_argument("--into", type=Path, help="folder of the new environment")
    parser.add_argument("--no-gpu-check", action="store_true", help="install for a GPU that is not here; nothing is run on it")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    options = parser.parse_args(argv)
    if sys.version_info < (3, 11):  # noqa: UP036 - this script is run by whatever Python the machine has
        return _stop(3, "this Python is older than 3.11", "run the installer with a newer one: python3.12 install.py")
    try:
        bundle = Bundle(options.bundle)
        # What can be told at once comes before the minutes that hashing takes.
        if unsuited := why_unsuited(bundle.manifest):
            return _stop(3, *unsuited)
        ours = f"{sys.version_info.major}.{sys.version_info.minor}"
        kit = kit_for(bundle.manifest, ours)
        if kit is None:
            return _stop(3, *other_python(bundle.manifest, ours))
        _say(f"checking {len(bundle.files)} files of {bundle.manifest['name']} ...")
        bundle.verify()
    except BundleDamaged as error:
        return _stop(8, str(error), "copy the bundle again from where it was made")
    into = (options.into or Path(f"provision-{bundle.manifest['name']}")).absolute()
    with tempfile.TemporaryDirectory(prefix="provision-bundle-") as temporary:
        python = _environment(bundle, kit, into, Path(temporary))
    if python is None:
        return 4
    command = [str(python), "-m", "provision", "bundle", "install", str(options.bundle.absolute())]
    command += ["--no-gpu-check"] if options.no_gpu_check else []
    return subprocess.run([*command, "--json"] if options.json else command, check=False).returncode


def _environment(bundle: Bundle, kit: dict[str, Any], into: Path, temporary: Path) -> Path | None:
    """A virtual environment with provision in it; None (and a word on stderr) when that failed."""
    python = into / "bin" / "python"
    _say(f"making the environment {into} ...")
    made = subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(into)], check=False, stdout=sys.stderr)
    if made.returncode != 0:
        _stop(4, "cannot make a virtual environment", "use a Python that has the module venv, or another folder: --into DIR")
        return None
    wheels = [bundle.extract(name, temporary) for name in kit["bootstrap"]]
    pip = next(wheel for wheel in wheels if wheel.name.startswith("pip-"))
    _say("installing provision from the bundle ...")
    environ = {key: value for key, value in os.environ.items() if not key.startswith(("PIP_", "PYTHON"))}
    installed = subprocess.run(
        [
            str(python),
            f"{pip}/pip",
            "--isolated",
            "--disable-pip-version-check",
            "install",
            "--quiet",
            "--no-index",
            "--no-deps",
        ]
        + [str(wheel) for wheel in wheels],
        check=False,
        env={**environ, "PIP_CONFIG_FILE": os.devnull},
        stdout=sys.stderr,
    )
    if installed.returncode != 0:
        _stop(4, "pip could not install the bundled wheels", f"see above; the bundle is for {bundle.manifest['target']}")
        return None
    return python


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")


def _stop(code: int, message: str, hint: str) -> int:
    sys.stderr.write(f"error: {message}\n  → {hint}\n")
    return code


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1:]))
