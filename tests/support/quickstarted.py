"""What `./scripts/quickstart` left: the engine's provenance in this environment, and its wheel in the wheel cache."""

from __future__ import annotations

import json
import shutil
import sysconfig
from pathlib import Path
from typing import Any

import pytest


def engine_provenance() -> dict[str, Any]:
    """What provision wrote about the engine it put into this environment."""
    site = Path(sysconfig.get_paths()["platlib"])
    for path in site.glob("llama_cpp_python-*.dist-info/provision.json"):
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return found
    pytest.skip("the engine of this environment was not installed by provision: run ./scripts/quickstart first")


def give_wheel(provision_home: Path, provenance: dict[str, Any]) -> Path:
    """Puts the engine's wheel into another wheel cache, as if it had been built there; returns its path."""
    wheel = Path(provenance["wheel"]["path"])
    if not wheel.is_file():
        pytest.skip(f"the wheel of this engine is gone from the wheel cache ({wheel}): run ./scripts/quickstart")
    store = provision_home / "wheels" / provenance["key"]
    store.mkdir(parents=True)
    for name in (wheel.name, "wheel.json"):
        shutil.copy(wheel.parent / name, store / name)
    return store / wheel.name
