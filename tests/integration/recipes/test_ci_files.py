"""action.yml and the Dockerfile, as far as they can be tried without GitHub and without a container engine."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.integration.recipes.conftest import Machine
from tests.support.commands import private_environ

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[3]


def action() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))
    return found


def script(name: str) -> str:
    return str(next(step["run"] for step in action()["runs"]["steps"] if step["name"] == name))


def run_up(machine: Machine, folder: Path, target: str) -> tuple[int, dict[str, str], str]:
    """The action's own script, with the runner's variables, against the provision of this environment."""
    output = folder / "output"
    output.write_text("", encoding="utf-8")
    programs = Path(sys.executable).parent
    environ = private_environ(
        machine.home, **machine.environ, TARGET=target, RUNNER_TEMP=str(folder), GITHUB_OUTPUT=str(output)
    )
    environ["PATH"] = f"{programs}{os.pathsep}{environ['PATH']}"
    done = subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script("provision up")],
        capture_output=True,
        text=True,
        env=environ,
        cwd=folder,
        check=False,
        timeout=240,
    )
    pairs = dict(line.split("=", 1) for line in output.read_text(encoding="utf-8").splitlines())
    return done.returncode, pairs, done.stderr


def test_the_action_passes_when_up_passes(machine: Machine, tmp_path: Path) -> None:
    code, outputs, _ = run_up(machine, tmp_path, "demo")
    assert code == 0
    assert outputs["verdict"] == "pass"
    assert outputs["line"].startswith("PASS  demo · ")
    assert Path(outputs["result"]).is_file()


def test_the_action_fails_with_the_exit_code_of_up_and_runs_nothing_hidden_in_an_input(
    machine: Machine, tmp_path: Path
) -> None:
    code, outputs, err = run_up(machine, tmp_path, "$(touch hidden); x")
    assert code == 2
    assert outputs["verdict"] == ""
    assert "::error::" in err
    assert not (tmp_path / "hidden").exists()


def test_inputs_of_the_action_reach_scripts_as_variables_only() -> None:
    for step in action()["runs"]["steps"]:
        assert "${{" not in step.get("run", ""), step["name"]


def test_the_dockerfile_copies_what_is_there_and_its_commands_are_shell() -> None:
    text = re.sub(r"\\\n", " ", (ROOT / "examples/Dockerfile").read_text(encoding="utf-8"))
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    words = {line.split()[0] for line in lines}
    assert words <= {"FROM", "RUN", "COPY", "ENV", "ARG", "USER", "EXPOSE", "CMD"}
    for line in lines:
        if line.startswith("COPY") and "--from" not in line:
            for source in line.split()[1:-1]:
                assert (ROOT / source).exists(), source
        if line.startswith("RUN"):
            assert subprocess.run(["sh", "-n", "-c", line[4:]], check=False).returncode == 0, line
    assert any(line.startswith("USER") for line in lines)
