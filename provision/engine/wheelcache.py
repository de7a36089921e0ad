"""Built wheels kept under a key of everything that matters. pip's own cache ignores CMAKE_ARGS and hands out CPU wheels."""

from __future__ import annotations

import hashlib
import json

from provision.engine.types import BuildPlan

_SCHEMA = 1
# Since 0.3.20 wheels are `py3-none`: the Python ABI no longer matters, older ones depend on nothing else either.
_PYTHON_ABI = "py3-none"


def cache_key(plan: BuildPlan) -> str:
    """`cuda-0.3.36-9f86d081884c7d65`: readable in front, a digest of everything that changes the wheel behind."""
    said = {
        "schema": _SCHEMA,
        "engine_version": plan.engine_version,
        "backend": plan.backend,
        "source": plan.prebuilt.url if plan.prebuilt else "build",
        "toolkit": [plan.toolkit.kind, list(plan.toolkit.version), plan.toolkit.root] if plan.toolkit else None,
        "cuda_archs": list(plan.cuda_archs),
        # What a file says matters, not where our own folder is.
        "cmake_args": sorted(argument for argument in plan.cmake_args if argument.partition("=")[2] not in plan.files),
        "files": sorted(plan.files.values()),
        "cflags": [plan.env.get("CFLAGS", ""), plan.env.get("CXXFLAGS", "")],
        "compiler": plan.compiler,
        "platform": plan.platform_key,
        "cpu": plan.cpu_key,
        "python_abi": _PYTHON_ABI,
    }
    digest = hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:16]
    return f"{plan.backend}-{plan.engine_version}-{digest}"
