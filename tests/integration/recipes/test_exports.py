"""The exported shell script, run by a real shell. No llama-server is at hand here: a stand-in writes down what it was told."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path

import pytest

from provision.recipes.foreign.units import server_arguments
from provision.recipes.load import load_recipe
from provision.smoke.demo import demo_model_path
from tests.support.commands import private_environ, provision

pytestmark = pytest.mark.integration

HOSTILE = """
name = "hostile"
title = "$(touch hidden); `touch hidden` \\" ' \\\\"
[model]
repo = "org/name-GGUF"
[load]
n_gpu_layers = -1
use_mmap = false
[chat]
template = "{{ messages }}\\n$(touch hidden) `touch hidden` \\"'\\\\"
template_kwargs = {a = "$HOME ; # %n 'q'"}
[serve]
alias = "it's $(touch hidden) %h"
"""


def run_exported(recipe: str, folder: Path, *options: str) -> list[str]:
    """What llama-server is told by the script that `recipe export` wrote."""
    home = folder / "home"
    ran = provision("recipe", "export", recipe, "--to", "shell", "-o", folder / "run.sh", *options, home=home)
    assert ran.exit_code == 0, ran.stderr
    words = shlex.quote(str(folder / "words"))
    stand_in = folder / "llama-server"
    stand_in.write_text(f'#!/bin/sh\nfor word; do printf "%s\\0" "$word"; done > {words}\n', encoding="utf-8")
    stand_in.chmod(0o755)
    environ = private_environ(home)
    environ["PATH"] = f"{folder}{os.pathsep}{environ['PATH']}"
    subprocess.run(["sh", str(folder / "run.sh")], env=environ, cwd=folder, check=True, timeout=30)
    return (folder / "words").read_bytes().decode().split("\0")[:-1]


def test_the_script_of_the_demo_starts_its_model(tmp_path: Path) -> None:
    model = str(demo_model_path())
    words = run_exported("demo", tmp_path, "--model", model)
    assert words[:2] == ["-m", model]
    assert words == server_arguments(load_recipe("demo"), model=model, host="127.0.0.1", port=8000)


def test_hostile_values_reach_the_server_as_they_are_and_run_nothing(tmp_path: Path) -> None:
    recipe = tmp_path / "hostile.toml"
    recipe.write_text(HOSTILE, encoding="utf-8")
    words = run_exported(str(recipe), tmp_path)
    assert words == server_arguments(load_recipe(str(recipe)), model="org/name-GGUF", host="127.0.0.1", port=8000)
    assert not (tmp_path / "hidden").exists()
