"""What a wheel says without installing it: name, version, requirements, and the hash its files will have once installed."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from email.parser import HeaderParser
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from provision.errors import IntegrityError
from provision.recipes.children.packages import VOLATILE

_CHUNK = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Wheel:
    """A wheel on disk by its metadata. `name` is canonical."""

    path: Path
    name: str
    version: str
    requires: tuple[Requirement, ...]

    def wanted(self, extras: frozenset[str], markers: Mapping[str, str]) -> Iterator[Requirement]:
        """Requirements that hold for `extras` of it on the machine of `markers`."""
        for requirement in self.requires:
            asked = extras or frozenset({""})
            if requirement.marker is None or any(requirement.marker.evaluate({**markers, "extra": one}) for one in asked):
                yield requirement


def read_wheel(path: Path) -> Wheel:
    """IntegrityError `bad-wheel` when `path` is no wheel or its metadata cannot be understood."""
    try:
        with zipfile.ZipFile(path) as archive:
            name = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA") and name.count("/") == 1)
            message = HeaderParser().parsestr(archive.read(name).decode("utf-8", "replace"))
        requires = tuple(Requirement(text) for text in message.get_all("Requires-Dist") or ())
        return Wheel(path=path, name=canonicalize_name(message["Name"]), version=message["Version"], requires=requires)
    except (OSError, zipfile.BadZipFile, StopIteration, InvalidRequirement, TypeError, KeyError) as error:
        raise IntegrityError(f"{path.name} is no wheel: {error}", code="bad-wheel", hint="provision cache verify") from error


def installed_sha256(path: Path) -> str:
    """The hash `children/packages.py` will find over the files of this wheel once pip has installed it.

    Scripts and headers go elsewhere and do not count there; neither does what pip writes about itself.
    """
    lines = []
    with zipfile.ZipFile(path) as archive:
        for entry in archive.infolist():
            place = _place(entry.filename)
            if place is None or entry.is_dir():
                continue
            digest = hashlib.sha256()
            with archive.open(entry) as stream:
                while chunk := stream.read(_CHUNK):
                    digest.update(chunk)
            lines.append(f"{place}\0{digest.hexdigest()}")
    return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()


def _place(name: str) -> str | None:
    """Where a file of a wheel lands below site-packages; None when it does not land there or is not counted."""
    top, _, rest = name.partition("/")
    if top.endswith(".data"):
        scheme, _, place = rest.partition("/")
        return place if scheme in ("purelib", "platlib") else None
    if name.endswith(".pyc") or (top.endswith(".dist-info") and rest in VOLATILE):
        return None
    return name
