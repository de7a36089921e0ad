"""The wheel users get, in an environment of its own: recipes, data and demo model are in it, and `up` passes from there."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.integration.recipes.conftest import PIP, Machine
from tests.support.commands import private_environ

pytestmark = [pytest.mark.integration, pytest.mark.slow]

ROOT = Path(__file__).parents[3]


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(tmp_path / "dist"), str(ROOT)]
    built = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    if built.returncode != 0 and "No matching distribution" in built.stderr:
        pytest.skip("the build backend is not to be had: no package index here")
    assert built.returncode == 0, built.stderr
    return next((tmp_path / "dist").glob("provision-*.whl"))


def test_the_wheel_holds_what_a_bundle_packs(wheel: Path) -> None:
    from provision.recipes.selfwheel import pack_provision

    with zipfile.ZipFile(wheel) as archive:
        built = {name: archive.read(name) for name in archive.namelist() if ".dist-info/" not in name}
    packed_path = wheel.with_name("packed.whl")
    packed_path.write_bytes(pack_provision()[1])
    with zipfile.ZipFile(packed_path) as archive:
        packed = {name: archive.read(name) for name in archive.namelist() if ".dist-info/" not in name}
    assert packed == built
    assert "provision/recipes/shipped/demo.toml" in built
    assert "provision/py.typed" in built
    assert any(name.endswith("demo-Q8_0.gguf") for name in built)
    assert sum(map(len, built.values())) < 8 * 1024 * 1024


def test_up_from_the_built_wheel(wheel: Path, machine: Machine, fresh_python: Path, tmp_path: Path) -> None:
    subprocess.run([str(fresh_python), "-m", "pip", "install", "--quiet", str(wheel)], check=True, timeout=600)
    program = fresh_python.with_name("provision")
    environ = private_environ(machine.home, **PIP)

    def run(*words: str) -> dict[str, object]:
        done = subprocess.run(
            [program, *words, "--json"], capture_output=True, env=environ, cwd=tmp_path, check=False, timeout=300
        )
        assert done.returncode == 0, done.stderr.decode()[-3000:] + done.stdout.decode()[-2000:]
        envelope: dict[str, dict[str, object]] = json.loads(done.stdout)
        return envelope["data"]

    recipes = run("recipe", "list")["recipes"]
    assert isinstance(recipes, list)
    assert {"demo", "qwen3-8b"} <= {recipe["name"] for recipe in recipes}
    assert run("up", "demo")["verdict"] == "pass"
