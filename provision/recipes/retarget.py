"""From a lock proven here to one for another kind of machine: same model and recipe, another engine, nothing proven. Pure.

What was proven here does not hold there: the smoke verdict becomes `unproven`, and layers and context are left to `fit` on the
machine itself. Its installation proves it or fails.
"""

from __future__ import annotations

from collections.abc import Sequence

from provision.engine.wheelstore import Stored
from provision.errors import NotFoundError
from provision.host.types import Version
from provision.recipes.lockfile import Lock, LockedEngine, LockedHardware, LockedPackage, LockedSmoke, LockedWheel
from provision.recipes.pins import tree_sha256
from provision.recipes.targets import Target


def for_target(lock: Lock, target: Target, engine: Stored, *, files_sha256: str, glibc: Version | None) -> Lock:
    """`lock` for machines of `target` that get the wheel `engine`. `files_sha256` is over its files as installed."""
    archs = "".join(f"-sm{arch}" for arch in engine.cuda_archs)
    return lock.model_copy(
        update={
            "hardware": LockedHardware(
                name=f"{target}{archs}", libc=f"glibc {'.'.join(map(str, glibc))}" if glibc is not None else None
            ),
            "engine": LockedEngine(
                version=engine.engine_version,
                backend=target.backend,  # type: ignore[arg-type]
                files_sha256=files_sha256,
                wheel=LockedWheel(
                    filename=engine.wheel.path.name, size_bytes=engine.wheel.size_bytes, sha256=engine.wheel.sha256
                ),
            ),
            "load": {},
            "smoke": LockedSmoke(verdict="unproven", profile=lock.smoke.profile, checks={}),
        }
    )


def with_packages(lock: Lock, packages: Sequence[LockedPackage], *, python: str) -> Lock:
    """`lock` with these packages around the engine, for Python `python` (`3.12`), and the tree that follows."""
    tree = tree_sha256(
        engine=lock.engine.files_sha256,
        packages=[(package.name, package.files_sha256) for package in packages],
        model=[(file.path, file.sha256) for file in lock.model.files],
    )
    return lock.model_copy(
        update={
            "hardware": lock.hardware.model_copy(update={"python": python}),
            "packages": tuple(packages),
            "tree_sha256": tree,
        }
    )


def choose_engine(wheels: Sequence[Stored], target: Target, *, version: str, cuda_archs: Sequence[str]) -> Stored:
    """The wheel of the cache that serves `target`; the one with code for the most GPUs when several do.

    NotFoundError `no-engine-for-target` when none does, with the commands that build one.
    """
    fitting = [
        stored
        for stored in wheels
        if stored.backend == target.backend
        and stored.engine_version == version
        and stored.platform.startswith(f"{target.os}-{target.arch}-")
        and not stored.native
        and set(cuda_archs) <= set(stored.cuda_archs)
    ]
    if not fitting:
        wanted = f" with machine code for {', '.join(cuda_archs)}" if cuda_archs else ""
        raise NotFoundError(
            f"the wheel cache holds no llama-cpp-python {version} for {target}{wanted}",
            code="no-engine-for-target",
            hint=how_to_build(target, cuda_archs),
        )
    return max(fitting, key=lambda stored: (len(stored.cuda_archs), stored.wheel.path.name, stored.wheel.sha256))


def how_to_build(target: Target, cuda_archs: Sequence[str]) -> str:
    """The commands that put the wheel for `target` into the cache, in an environment of its own. On a machine of that arch."""
    python = "target-env/bin/python"
    prepare = "python3 -m venv target-env && "
    if target.backend == "cuda":
        archs = " ".join(f"--cuda-arch {arch}" for arch in cuda_archs or ("89",))
        return f"{prepare}provision install --cuda {archs} --no-gpu-check --python {python}"
    plain = f"provision install --{target.backend} --from-source --python {python}"
    return f"{prepare}CMAKE_ARGS=-DGGML_NATIVE=OFF {plain}"
