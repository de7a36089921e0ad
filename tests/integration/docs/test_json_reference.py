"""docs/reference/json.md against the program: every command it names is run, and the keys of `data` are compared.

Commands run in the order of the page, against the demo model on the test hub, so later ones find what earlier ones made.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from provision.cli.main import make_app
from tests.support.commands import private_environ
from tests.support.hub import start_hub
from tests.support.quickstarted import engine_provenance, give_wheel

pytestmark = [pytest.mark.integration, pytest.mark.slow]

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs/reference/json.md"
SHAPE = re.compile(r"^`provision ([^`]+) --json`.*?^```json\n(.*?)^```", flags=re.MULTILINE | re.DOTALL)


def shapes() -> Iterator[tuple[list[str], Any]]:
    """(words of the command line, the shape of its `data`) in the order of the page."""
    for found in SHAPE.finditer(PAGE.read_text(encoding="utf-8")):
        yield shlex.split(found[1]), json.loads(found[2])


def unlike(shape: Any, actual: Any, where: str) -> list[str]:
    """Keys that only one of the two has. `"..."` allows any, a trailing `?` makes one optional, null ends the comparison."""
    if shape is None or actual is None:
        return []
    if isinstance(shape, dict):
        if not isinstance(actual, dict):
            return [f"{where}: the page shows an object"]
        if "..." in shape:
            return []
        promised = {key.rstrip("?"): (value, key.endswith("?")) for key, value in shape.items()}
        found = [f"{where}.{key}: not on the page" for key in actual if key not in promised]
        for key, (value, optional) in promised.items():
            if key in actual:
                found += unlike(value, actual[key], f"{where}.{key}")
            elif not optional:
                found.append(f"{where}.{key}: only on the page")
        return found
    if isinstance(shape, list):
        if not isinstance(actual, list):
            return [f"{where}: the page shows a list"]
        return [line for entry in actual[:50] for line in unlike(shape[0], entry, f"{where}[]")] if shape else []
    kinds = (bool, (int, float), str)
    same = next(kind for kind in kinds if isinstance(shape, kind))
    return [] if isinstance(actual, same) else [f"{where}: the page shows {shape!r}, the program says {actual!r}"]


def test_the_comparison_notices_what_differs() -> None:
    shape = {"a": 1, "b?": 1, "c": [{"d": ""}], "e": {"...": 1}, "f": None}
    assert unlike(shape, {"a": 2.5, "c": [{"d": "x"}], "e": {"x": 1}, "f": {"y": 1}}, "data") == []
    assert unlike(shape, {"a": None, "b": 1, "c": [], "e": {}, "f": 1}, "data") == []
    wrong = unlike(shape, {"a": "1", "c": [{"D": "x"}], "e": [], "f": 1, "g": 1}, "data")
    assert {line.partition(":")[0] for line in wrong} == {"data.a", "data.c[].D", "data.c[].d", "data.e", "data.g"}


def test_every_command_has_its_shape_on_the_page() -> None:
    app = make_app()
    commands = {command.name or (command.callback and command.callback.__name__) for command in app.registered_commands}
    groups = {group.name or (group.typer_instance and group.typer_instance.info.name) for group in app.registered_groups}
    assert {words[0] for words, _ in shapes()} == commands | groups


def test_the_page_shows_what_the_commands_say(tmp_path: Path) -> None:
    from provision.smoke.demo import demo_model_path

    give_wheel(tmp_path / "provision", engine_provenance())
    (tmp_path / "hub/org/repo").mkdir(parents=True)
    shutil.copyfile(demo_model_path(), tmp_path / "hub/org/repo/demo-Q8_0.gguf")
    shutil.copyfile(ROOT / "recipes/demo.toml", tmp_path / "demo.toml")
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "ENV")], check=True)
    wrong: list[str] = []
    with start_hub(tmp_path / "hub") as hub:
        environ = private_environ(tmp_path, HF_ENDPOINT=hub.url, HF_HOME=str(tmp_path / "hf"))
        for words, shape in shapes():
            words = ["demo.toml" if word == "FILE" else word for word in words]
            if words[:2] == ["bundle", "install"]:
                words += ["--python", "ENV/bin/python"]
            argv = [sys.executable, "-m", "provision", *words, "--json"]
            done = subprocess.run(argv, capture_output=True, env=environ, cwd=tmp_path, check=False, timeout=300)
            said = json.loads(done.stdout)
            line = shlex.join(words)
            assert done.returncode == said["exit_code"] == 0, f"{line}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
            assert set(said) == {"provision", "command", "status", "exit_code", "data", "errors"}
            wrong += unlike(shape, said["data"], f"{line}: data")
    assert not wrong, "\n".join(wrong)
