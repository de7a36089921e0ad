"""`provision.lock`: what exactly was installed and proven, as TOML whose bytes depend on nothing but its content.

No times, no speeds, no paths of this machine: locking twice gives the same bytes. `digest` covers everything else in the file,
so that a changed character is noticed even in a field nothing else could check.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import tomli_w
from pydantic import AfterValidator, Field, ValidationError

from provision.errors import IntegrityError, UsageError
from provision.recipes.load import read_toml
from provision.recipes.problems import RecipeError, explain
from provision.recipes.schema import Line, Part, Sha256
from provision.smoke.golden import check_shape

LOCK_VERSION = 2
DEFAULT_NAME = "provision.lock"
_SHOWN = 5


def _stays_inside(path: str) -> str:
    if any(part in ("", ".", "..") for part in path.split("/")):
        raise ValueError("a path in a lock stays inside its folder")
    return path


def _golden(data: dict[str, Any]) -> dict[str, Any]:
    try:
        check_shape(data, where="it")
    except UsageError as error:
        raise ValueError(error.message) from error
    return data


Commit = Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")]
RelativePath = Annotated[str, Field(pattern=r"^[^\\\x00-\x1f\x7f]+$", max_length=500), AfterValidator(_stays_inside)]
FileName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+!-]{0,199}$")]
ProjectName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]


# Flags of a build: one line, as long as people's CFLAGS get.
Flags = Annotated[str, Field(min_length=1, max_length=10_000, pattern=r"^[^\x00-\x1f\x7f]+$")]


class LockedFile(Part):
    """A file by its content."""

    path: RelativePath
    size_bytes: Annotated[int, Field(ge=0)]
    sha256: Sha256


class LockedWheel(Part):
    """The engine as a wheel."""

    filename: FileName
    size_bytes: Annotated[int, Field(gt=0)]
    sha256: Sha256


class LockedSource(Part):
    """The source package a wheel was built from."""

    filename: FileName
    sha256: Sha256


class LockedEngine(Part):
    """llama-cpp-python: the wheel that was installed, and what it takes to build it again."""

    version: FileName
    backend: Literal["cpu", "cuda", "vulkan", "metal", "rocm"]
    toolkit: Line | None = None
    """The CUDA toolkit of the build, `system 12.4` or `pypi 12.8`."""
    cmake_args: Annotated[tuple[Flags, ...], Field(strict=False)] = ()
    cflags: Flags | None = None
    compiler: Line | None = None
    sdist: LockedSource | None = None
    """None when the wheel was not built here, or its maker left no note."""
    files_sha256: Sha256
    """Over the files as they lie in the environment."""
    wheel: LockedWheel | None = None


class LockedPackage(Part):
    """A Python package the engine needs. `files_sha256` is over its installed files, `wheel_sha256` over its archive."""

    name: ProjectName
    version: FileName
    files_sha256: Sha256
    wheel: FileName | None = None
    wheel_sha256: Sha256 | None = None


class LockedModel(Part):
    """The model's bytes, where they come from, and why this quant."""

    source: Literal["hf", "modelscope", "package", "file"]
    repo: Line | None = None
    commit: Commit | None = None
    quant: Line | None = None
    why: Annotated[tuple[str, ...], Field(strict=False)] = ()
    files: Annotated[tuple[LockedFile, ...], Field(strict=False, min_length=1)]
    template_sha256: Sha256 | None = None
    """Of the chat template the model is used with; None when it has none."""


class LockedHardware(Part):
    """The class of machine this was proven on: `linux-x86_64-cpu`, `linux-x86_64-cuda-sm90`."""

    name: Line
    libc: Line | None = None
    python: Annotated[str, Field(pattern=r"^\d+\.\d+$", examples=["3.12"])] | None = None
    """Minor version of Python: packages with native code are for one only."""


class LockedSmoke(Part):
    """The verdict, and how each check ended. Speeds are left out: they are not the same twice."""

    verdict: Literal["pass", "warn", "unproven"]
    """`unproven`: made on another kind of machine; installing it proves it, with the layers and context that fit there."""
    profile: Literal["quick", "full", "deep"]
    checks: dict[str, Line]
    answer_sha256: Sha256 | None = None
    """The greedy answer to the smoke test's own question, byte for byte."""
    golden: Annotated[dict[str, Any], AfterValidator(_golden)] | None = None
    """Golden fingerprint: likelihoods and best logits of fixed passages, with the tolerances they are compared with."""


class LockedRecipe(Part):
    """The recipe as it was, whole."""

    name: Line
    toml: str


class Lock(Part):
    """A whole lock. `tree_sha256` is over every file of engine, packages and model: equal means the same bytes run."""

    schema_version: Literal[2] = Field(alias="schema")
    provision: Line
    recipe: LockedRecipe
    hardware: LockedHardware
    engine: LockedEngine
    packages: Annotated[tuple[LockedPackage, ...], Field(strict=False)]
    model: LockedModel
    load: dict[str, bool | int | float | str | list[float]]
    smoke: LockedSmoke
    tree_sha256: Sha256

    def to_data(self) -> dict[str, Any]:
        """Plain values under the names of the file, unset ones left out, without the digest."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


def digest_of(data: Mapping[str, Any]) -> str:
    """sha256 over the canonical JSON of `data`, so that layout and comments of the TOML do not count."""
    # default: TOML knows dates, which no lock holds; a file that does is refused for another reason.
    canonical = json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str)
    return hashlib.sha256(canonical.encode()).hexdigest()


def write_lock(lock: Lock) -> str:
    """The lock as TOML text: same lock, same bytes."""
    data = lock.to_data()
    head = "# Written by `provision lock`; check with `provision lock --check`, repeat elsewhere with `provision sync`.\n"
    return head + tomli_w.dumps({"digest": digest_of(data), **data}, multiline_strings=True)


def read_lock(path: Path) -> Lock:
    """The lock in `path`: UsageError when it is none or of another version, IntegrityError when it was changed."""
    if not path.is_file():
        raise UsageError(f"there is no lock {path}", code="no-lock", hint="provision lock RECIPE")
    return parse_lock(read_toml(path), source=str(path))


def parse_lock(data: Mapping[str, Any], *, source: str) -> Lock:
    """The checked lock of TOML `data`; `source` names it in errors. Older versions are read as this one."""
    version = data.get("schema")
    if type(version) is not int or not 1 <= version <= LOCK_VERSION:
        newer = type(version) is int and version > LOCK_VERSION
        raise UsageError(
            f"{source} is a lock of version {version!r}; this provision reads versions 1 to {LOCK_VERSION}",
            code="lock-version",
            hint="python -m pip install --upgrade provision" if newer else "lock again: provision lock RECIPE",
        )
    told = {key: value for key, value in data.items() if key != "digest"}
    intact = data.get("digest") == digest_of(told)
    try:
        lock = Lock.model_validate(_from_version_1(told) if version == 1 else told)
    except ValidationError as error:
        hint = "lock again: provision lock RECIPE"
        raise RecipeError(source, explain(error, Lock), hint=hint, code="bad-lock") from error
    if not intact:
        raise IntegrityError(
            f"{source} was changed after it was written: digest differs",
            code="lock-digest",
            hint="take the lock from where it was made, or lock again: provision lock RECIPE",
        )
    return lock


def _from_version_1(data: dict[str, Any]) -> dict[str, Any]:
    """Version 2 added engine.sdist, cflags and compiler, hardware.python and smoke.golden.

    Its engine.toolkit is the one that was used, where version 1 repeated the recipe's wish.
    """
    engine = data.get("engine")
    if isinstance(engine, Mapping):
        data = {**data, "engine": {key: value for key, value in engine.items() if key != "toolkit"}}
    return {**data, "schema": LOCK_VERSION}


def differences(locked: Mapping[str, Any], here: Mapping[str, Any], *, at: str = "") -> tuple[str, ...]:
    """Every field that differs, as `model.files[0].sha256: locked 'a', here 'b'`, in the order of the lock."""
    found: list[str] = []
    for key in [*locked, *(key for key in here if key not in locked)]:
        place = f"{at}.{key}" if at else str(key)
        found += _difference(locked.get(key), here.get(key), place)
    return tuple(found)


def _difference(locked: Any, here: Any, place: str) -> list[str]:
    if isinstance(locked, Mapping) and isinstance(here, Mapping):
        return list(differences(locked, here, at=place))
    if isinstance(locked, list) and isinstance(here, list) and any(isinstance(item, Mapping) for item in locked):
        found: list[str] = []
        for index in range(max(len(locked), len(here))):
            left = locked[index] if index < len(locked) else None
            right = here[index] if index < len(here) else None
            found += _difference(left, right, f"{place}[{index}]")
        return found
    return [] if locked == here else [f"{place}: locked {_short(locked)}, here {_short(here)}"]


def _short(value: Any) -> str:
    if isinstance(value, Mapping):
        value = value.get("name") or value.get("path") or value
    text = "nothing" if value is None else repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def refuse_differences(found: tuple[str, ...], *, what: str, hint: str) -> None:
    """IntegrityError `lock-differs` naming the first fields that differ; nothing when there are none."""
    if not found:
        return
    more = f" (and {len(found) - _SHOWN} more)" if len(found) > _SHOWN else ""
    raise IntegrityError(f"{what} differs from the lock: {'; '.join(found[:_SHOWN])}{more}", code="lock-differs", hint=hint)
