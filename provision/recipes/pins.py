"""The Python packages around the engine: which are installed, what their files hash to, and which archives pip would take."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from provision import processes
from provision.engine.environment import inspect_environment
from provision.engine.provenance import read_installed
from provision.errors import MachineError, NotFoundError, TransferError

ENGINE_PACKAGE = "llama-cpp-python"
# Runtime libraries of CUDA as PyPI names them; nvidia-ml-py is ours, not the engine's.
_RUNTIME_PREFIXES = ("nvidia-cuda-", "nvidia-cublas", "nvidia-nvjitlink")
_CHILD = Path(__file__).parent / "children" / "packages.py"
_LIST_TIMEOUT_S = 300.0
_PIP_TIMEOUT_S = 900.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Installed:
    """A distribution as it lies in an environment. `files_sha256` leaves out byte code and what pip writes about itself."""

    name: str
    version: str
    files_sha256: str
    missing: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Archive:
    """The wheel (or sdist) pip takes for a pinned version on this platform."""

    filename: str
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """What the engine's provenance file and its Python say. None where nobody noted it."""

    python: str
    """Minor version, `3.12`."""
    sdist: Archive | None = None
    toolkit: str | None = None
    compiler: str | None = None
    cmake_args: tuple[str, ...] = ()
    cflags: str | None = None


def engine_origin(python: Path, *, env: Mapping[str, str], home: Path) -> Origin:
    """Where the engine of `python`'s environment came from. UsageError `bad-python` when that Python does not run.

    `home` is our own folder, which a lock calls by its variable: it lies elsewhere on another machine.
    """
    environment = inspect_environment(python, environ=env)
    minor = ".".join(str(part) for part in environment.version[:2])
    present = read_installed(environment)
    if present is None:
        return Origin(python=minor)
    sdist = Archive(filename=present.sdist[0], sha256=present.sdist[1]) if present.sdist else None
    plan = present.plan
    return Origin(
        python=minor,
        sdist=sdist,
        toolkit=plan.get("toolkit") or None,
        compiler=plan.get("compiler") or None,
        cmake_args=tuple(arg.replace(str(home), "$PROVISION_HOME") for arg in plan.get("cmake_args", ())),
        cflags=" ".join(plan.get("env", {}).get("CFLAGS", "").split()) or None,
    )


def installed_packages(python: Path, *, env: Mapping[str, str]) -> tuple[Installed, ...]:
    """The engine, everything it requires, and CUDA's runtime packages, sorted by name. MachineError when none can be listed."""
    return list_packages(python, [ENGINE_PACKAGE], env=env, prefixes=_RUNTIME_PREFIXES)


def list_packages(
    python: Path, roots: Sequence[str], *, env: Mapping[str, str], prefixes: Sequence[str] = ()
) -> tuple[Installed, ...]:
    """`roots` with everything they require, and all whose name starts with one of `prefixes`, as `python` has them."""
    request = {"roots": list(roots), "prefixes": list(prefixes)}
    outcome = processes.run_child(python, _CHILD, request, timeout_s=_LIST_TIMEOUT_S, env=env)
    if outcome.kind != "ok":
        last = outcome.stderr_tail.strip().splitlines()[-1:] or [outcome.kind]
        raise MachineError(
            f"cannot list the packages of {python}: {last[0]}", code="cannot-list-packages", hint="provision doctor"
        )
    if outcome.answer["absent"]:
        absent = outcome.answer["absent"][0]
        raise NotFoundError(f"{absent} is not installed in {python}", code="package-missing", hint="provision install")
    return tuple(
        Installed(name=one["name"], version=one["version"], files_sha256=one["files_sha256"], missing=tuple(one["missing"]))
        for one in outcome.answer["packages"]
    )


def archives(python: Path, pins: Sequence[tuple[str, str]], *, env: Mapping[str, str]) -> dict[str, Archive]:
    """Archive of each (name, version) as this machine's pip would choose it, asked without installing anything."""
    if not pins:
        return {}
    argv = [str(python), "-m", "pip", "install", "--dry-run", "--ignore-installed", "--no-deps", "--quiet", "--report", "-"]
    argv += ["--disable-pip-version-check", "--no-input", *(f"{name}=={version}" for name, version in pins)]
    try:
        done = processes.run(argv, timeout_s=_PIP_TIMEOUT_S, env=env)
    except OSError as error:
        raise MachineError(f"cannot run {python}: {error.strerror}", code="cannot-list-packages") from error
    if done.returncode != 0:
        reason = next((line for line in reversed(done.stderr.splitlines()) if line.startswith("ERROR")), "pip said nothing")
        raise TransferError(
            f"the package index could not be asked for the hashes of {len(pins)} packages: {reason}",
            code="index-unreachable",
            hint="check the network and pip's index: python -m pip config list",
        )
    return parse_report(done.stdout)


def parse_report(text: str) -> dict[str, Archive]:
    """Canonical name to archive, from pip's installation report (version 1). Entries without a sha256 are left out."""
    found: dict[str, Archive] = {}
    for entry in json.loads(text)["install"]:
        info = entry["download_info"]
        sha256 = info.get("archive_info", {}).get("hashes", {}).get("sha256")
        filename = unquote(urlsplit(info["url"]).path.rsplit("/", 1)[-1])
        if sha256:
            name = entry["metadata"]["name"].lower().replace("_", "-").replace(".", "-")
            found[name] = Archive(filename=filename, sha256=sha256)
    return found


def tree_sha256(*, engine: str, packages: Sequence[tuple[str, str]], model: Sequence[tuple[str, str]]) -> str:
    """One hash over everything that runs: the engine's files, each (package, hash) and each (model file, hash)."""
    lines = [f"engine\0{engine}"]
    lines += sorted(f"package\0{name}\0{digest}" for name, digest in packages)
    lines += sorted(f"model\0{path}\0{digest}" for path, digest in model)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
