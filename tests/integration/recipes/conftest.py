"""`up`, `lock`, `sync` and `bundle` are tried with the engine that `./scripts/quickstart` put into this environment."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.commands import Ran, provision
from tests.support.quickstarted import engine_provenance, give_wheel

PIP = {key: value for key, value in os.environ.items() if key.startswith("PIP_")}
REPO = "team/demo-GGUF"


@dataclass(frozen=True, kw_only=True)
class Machine:
    """A fresh user with a home of their own and, in `wheels`, the engine's wheel as quickstart left it."""

    home: Path
    wheel: Path
    environ: dict[str, str]

    def run(self, *words: str | Path, timeout_s: float = 240, **more: str) -> Ran:
        return provision(*words, home=self.home, timeout_s=timeout_s, **{**self.environ, **more})

    def json(self, *words: str | Path, code: int = 0, **more: str) -> dict[str, Any]:
        """The envelope of a command that must end in `code`."""
        ran = self.run(*words, "--json", **more)
        assert ran.exit_code == code, f"exit {ran.exit_code}\n{ran.stdout[-3000:]}\n{ran.stderr[-3000:]}"
        assert ran.envelope["exit_code"] == code
        return ran.envelope


@pytest.fixture(scope="session")
def provenance() -> dict[str, Any]:
    return engine_provenance()


@pytest.fixture
def machine(tmp_path: Path, provenance: dict[str, Any]) -> Machine:
    home = tmp_path / "home"
    wheel = give_wheel(home / "provision", provenance)
    return Machine(home=home, wheel=wheel, environ={**PIP, "HF_HOME": str(home / "hf")})


@pytest.fixture
def hub_root(tmp_path: Path) -> Path:
    """A folder for the test hub, with the demo model as a repository of its own."""
    from provision.smoke.demo import demo_model_path

    root = tmp_path / "hub"
    (root / REPO).mkdir(parents=True)
    shutil.copy(demo_model_path(), root / REPO / "demo-Q8_0.gguf")
    (root / REPO / "README.md").write_text("demo\n", encoding="utf-8")
    return root


@pytest.fixture
def fresh_python(tmp_path: Path) -> Path:
    """A second environment: its own virtual environment, with pip and nothing else."""
    import subprocess

    folder = tmp_path / "second"
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    return folder / "bin" / "python"
