"""action.yml and the Dockerfile, as far as they can be tried without GitHub and without a container engine."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.integration.recipes.conftest import PIP, Machine
from tests.support.commands import private_environ

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[3]


def action() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))
    return found


def script(name: str) -> str:
    return str(next(step["run"] for step in action()["runs"]["steps"] if step["name"] == name))


def run_step(name: str, machine: Machine, folder: Path, *, path: str = "", **variables: str) -> tuple[int, str]:
    """A step's own script as a runner starts it: exit code and stderr."""
    environ = private_environ(machine.home, **machine.environ, RUNNER_TEMP=str(folder), **variables)
    environ["PATH"] = f"{path}{os.pathsep}{environ['PATH']}" if path else environ["PATH"]
    done = subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script(name)],
        capture_output=True,
        text=True,
        env=environ,
        cwd=folder,
        check=False,
        timeout=400,
    )
    return done.returncode, done.stderr


def run_up(machine: Machine, folder: Path, target: str, *, path: str | None = None) -> tuple[int, dict[str, str], str]:
    """The action's own script, with the runner's variables, against the provision of this environment."""
    output = folder / "output"
    output.write_text("", encoding="utf-8")
    if path is None:
        (folder / "provision-venv").symlink_to(Path(sys.prefix))
    code, err = run_step(
        "provision up",
        machine,
        folder,
        path=path or str(Path(sys.executable).parent),
        TARGET=target,
        GITHUB_OUTPUT=str(output),
    )
    pairs = dict(line.split("=", 1) for line in output.read_text(encoding="utf-8").splitlines())
    return code, pairs, err


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


@pytest.mark.slow
def test_the_steps_of_the_action_in_a_row(machine: Machine, tmp_path: Path) -> None:
    added = tmp_path / "path"
    code, err = run_step(
        "Install provision", machine, tmp_path, ACTION_PATH=str(ROOT), PYTHON=sys.executable, GITHUB_PATH=str(added)
    )
    if code != 0 and "No matching distribution" in err:
        pytest.skip("the build backend is not to be had: no package index here")
    assert code == 0, err
    code, outputs, err = run_up(machine, tmp_path, "demo", path=added.read_text(encoding="utf-8").strip())
    assert (code, outputs["verdict"]) == (0, "pass"), err


def test_a_provision_that_dies_without_a_word_fails_the_job(machine: Machine, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "provision").write_text("#!/bin/sh\nexit 70\n", encoding="utf-8")
    (tmp_path / "bin" / "provision").chmod(0o755)
    (tmp_path / "provision-venv").symlink_to(Path(sys.prefix))
    code, outputs, err = run_up(machine, tmp_path, "demo", path=str(tmp_path / "bin"))
    assert (code, outputs["verdict"]) == (70, "")
    assert "::error::" in err


def test_the_action_has_only_keys_github_knows_and_names_only_what_there_is() -> None:
    """Keys by docs.github.com, Metadata syntax for GitHub Actions, composite actions."""
    found = action()
    assert set(found) <= {"name", "author", "description", "inputs", "outputs", "runs", "branding"}
    assert set(found["runs"]) == {"using", "steps"}
    assert found["runs"]["using"] == "composite"
    assert all(set(one) <= {"description", "required", "default", "deprecationMessage"} for one in found["inputs"].values())
    assert all(set(one) == {"description", "value"} for one in found["outputs"].values())
    known = {"name", "id", "if", "run", "shell", "working-directory", "uses", "with", "env", "continue-on-error"}
    for step in found["runs"]["steps"]:
        assert set(step) <= known, step["name"]
        assert ("run" in step) != ("uses" in step)
        assert "shell" in step or "uses" in step
        assert "@" in step.get("uses", "@")
    ids = {step["id"] for step in found["runs"]["steps"] if "id" in step}
    for context, name in re.findall(r"\$\{\{\s*(inputs|steps)\.([\w-]+)", (ROOT / "action.yml").read_text(encoding="utf-8")):
        assert name in (found["inputs"] if context == "inputs" else ids), name


def test_inputs_of_the_action_reach_scripts_as_variables_only() -> None:
    for step in action()["runs"]["steps"]:
        assert "${{" not in step.get("run", ""), step["name"]


def dockerfile() -> list[tuple[str, str]]:
    """(instruction, rest) of examples/Dockerfile, continued lines joined."""
    text = re.sub(r"\\\n", " ", (ROOT / "examples/Dockerfile").read_text(encoding="utf-8"))
    lines = [line.split(maxsplit=1) for line in text.splitlines() if line and not line.startswith("#")]
    return [(word, rest) for word, rest in lines]


@pytest.mark.slow
def test_the_commands_of_the_dockerfile_run_in_a_clean_environment(machine: Machine, tmp_path: Path) -> None:
    """Every RUN but those of apt and useradd, in order, each by a shell of its own, with /opt and /src below a folder here."""
    place = tmp_path / "image"
    environ = {"PATH": os.environ["PATH"], "HOME": str(tmp_path / "nobody"), "TARGET": "demo", **PIP}

    def moved(text: str) -> str:
        return re.sub(r"(?<![\w.])/(opt|src)\b", rf"{place}/\1", text)

    for word, rest in dockerfile():
        if word == "FROM" and "AS build" not in rest:
            break  # what follows only copies what was made here
        if word == "COPY":
            *sources, target = rest.split()
            for source in sources:
                into = Path(moved(target)) / (source if target.endswith("/") else "")
                into.parent.mkdir(parents=True, exist_ok=True)
                copy = shutil.copytree if (ROOT / source).is_dir() else shutil.copy
                copy(ROOT / source, into)
        if word == "ENV":
            environ |= dict(pair.split("=", 1) for pair in moved(rest).split())
            shutil.copytree(machine.wheel.parents[1], Path(environ["PROVISION_HOME"]) / "wheels")
        if word == "RUN" and "apt-get" not in rest:
            command = moved(rest).replace("python -m venv", f"{sys.executable} -m venv")
            done = subprocess.run(["sh", "-c", command], env=environ, capture_output=True, text=True, check=False, timeout=400)
            if "No matching distribution" in done.stderr:
                pytest.skip("no package index here")
            assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
    seen = subprocess.run([place / "opt/chat/bin/provision", "serve", "--help"], env=environ, capture_output=True, check=True)
    assert b"--api-key-file" in seen.stdout


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
