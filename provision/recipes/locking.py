"""From a deployment that was just proven to its lock. Pure: everything it needs comes in."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import provision
from provision.errors import IntegrityError
from provision.host.types import Host
from provision.recipes.exchange import to_toml
from provision.recipes.likeness import answer_sha256
from provision.recipes.lockfile import (
    Lock,
    LockedEngine,
    LockedFile,
    LockedHardware,
    LockedModel,
    LockedPackage,
    LockedRecipe,
    LockedSmoke,
    LockedSource,
    LockedWheel,
)
from provision.recipes.pins import ENGINE_PACKAGE, Archive, Installed, Origin, tree_sha256
from provision.recipes.schema import Recipe
from provision.recipes.up import UpReport

_TIMED = ("B4-", "F")
"""Checks of the smoke test that judge a speed (docs/reference/smoke-checks.md)."""


def hardware_of(host: Host, backend: str, *, python: str | None = None) -> LockedHardware:
    """`linux-x86_64-cpu`, or `linux-x86_64-cuda-sm90` with the compute capabilities of the GPUs a CUDA engine sees."""
    name = f"{host.system.os}-{host.system.arch}-{backend}"
    archs = sorted({gpu.cuda_arch for gpu in host.gpus if gpu.visible and gpu.cuda_arch})
    if backend == "cuda" and archs:
        name += "-" + "-".join(f"sm{arch}" for arch in archs)
    libc = host.system.libc
    version = ".".join(str(part) for part in host.system.libc_version or ())
    return LockedHardware(name=name, libc=f"{libc} {version}".strip() if libc else None, python=python)


def make_lock(
    recipe: Recipe,
    report: UpReport,
    *,
    model: LockedModel,
    packages: Sequence[Installed],
    archives: Mapping[str, Archive],
    origin: Origin,
) -> Lock:
    """The lock of a passed `up`. `model` was hashed on disk; `packages` holds the engine and what it requires."""
    assert report.host is not None
    assert report.install is not None
    assert report.smoke is not None
    assert report.model is not None
    engine = next(package for package in packages if package.name == ENGINE_PACKAGE)
    others = [package for package in packages if package.name != ENGINE_PACKAGE]
    _refuse_missing(packages)
    backend = report.install["backend"]
    pairs = [(package.name, package.files_sha256) for package in others]
    return Lock(
        schema=2,
        provision=provision.__version__,
        recipe=LockedRecipe(name=recipe.name, toml=recipe_text(recipe)),
        hardware=hardware_of(report.host, backend, python=origin.python),
        engine=LockedEngine(
            version=engine.version,
            backend=backend,
            toolkit=origin.toolkit,
            cmake_args=origin.cmake_args,
            cflags=origin.cflags,
            compiler=origin.compiler,
            sdist=LockedSource(filename=origin.sdist.filename, sha256=origin.sdist.sha256) if origin.sdist else None,
            files_sha256=engine.files_sha256,
            wheel=_wheel(report.install.get("wheel")),
        ),
        packages=tuple(_package(package, archives.get(package.name)) for package in others),
        model=model,
        load=dict(report.model["llama_kwargs"]),
        smoke=smoke_of(report.smoke, recipe),
        tree_sha256=tree_sha256(
            engine=engine.files_sha256, packages=pairs, model=[(file.path, file.sha256) for file in model.files]
        ),
    )


def smoke_of(smoke: Mapping[str, Any], recipe: Recipe) -> LockedSmoke:
    """The part of a smoke test that is the same twice: what a busy machine does to its speed is left out."""
    checks = {check["id"]: check["status"] for check in smoke["checks"] if not check["id"].startswith(_TIMED)}
    return LockedSmoke(
        verdict="warn" if "warn" in checks.values() else "pass",
        profile=recipe.verify.profile,
        checks=checks,
        answer_sha256=answer_sha256(smoke),
        golden=smoke.get("fingerprint"),
    )


def model_of(recipe: Recipe, report: UpReport, *, files: tuple[LockedFile, ...], template: str | None) -> LockedModel:
    """The model's part of the lock; `files` as they lie on disk, `template` the text it is used with."""
    fetched = report.fetched
    text = recipe.chat.template or template
    return LockedModel(
        source=_source(recipe),
        repo=recipe.model.repo,
        commit=fetched["commit"] if fetched else None,
        quant=report.model["quant"] if report.model else None,
        why=tuple(str(reason) for reason in (report.chosen or {}).get("reasons", ())),
        files=files,
        template_sha256=hashlib.sha256(text.encode()).hexdigest() if text is not None else None,
    )


def recipe_text(recipe: Recipe) -> str:
    """The recipe as TOML, without the folders of this machine: a local model is named by its file name alone."""
    if recipe.model.path is not None:
        model = recipe.model.model_copy(update={"path": recipe.model.path.rsplit("/", 1)[-1]})
        recipe = recipe.model_copy(update={"model": model})
    return to_toml(recipe)


def _source(recipe: Recipe) -> Any:
    if recipe.model.repo is not None:
        return recipe.model.sources[0]
    return "package" if recipe.model.packaged else "file"


def _package(package: Installed, archive: Archive | None) -> LockedPackage:
    return LockedPackage(
        name=package.name,
        version=package.version,
        files_sha256=package.files_sha256,
        wheel=archive.filename if archive else None,
        wheel_sha256=archive.sha256 if archive else None,
    )


def _wheel(wheel: Mapping[str, Any] | None) -> LockedWheel | None:
    if not wheel:
        return None
    filename = str(wheel["path"]).replace("\\", "/").rsplit("/", 1)[-1]
    return LockedWheel(filename=filename, size_bytes=wheel["size_bytes"], sha256=wheel["sha256"])


def _refuse_missing(packages: Sequence[Installed]) -> None:
    for package in packages:
        if package.missing:
            raise IntegrityError(
                f"{package.name} {package.version} lacks files it was installed with, {package.missing[0]} first",
                code="package-damaged",
                hint="provision install --no-cache",
            )
