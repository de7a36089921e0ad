import sys
from pathlib import Path

import pytest
import typer.main

from provision.cli.called import _NAMES, as_called, program
from provision.cli.main import make_app


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program of an environment that is not on PATH, below the working directory."""
    own = tmp_path / ".venv" / "bin" / "provision"
    own.parent.mkdir(parents=True)
    own.write_text("#!/bin/sh\n")
    own.chmod(0o755)
    monkeypatch.setattr(sys, "argv", [str(own), "up"])
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.chdir(tmp_path)
    return own


def test_a_program_that_path_does_not_find_is_named_by_its_path(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert program() == ".venv/bin/provision"
    monkeypatch.chdir("/")
    assert program() in (str(own), str(own).lstrip("/"))
    monkeypatch.chdir(own.parent / "..")
    assert program() == "bin/provision"


def test_on_path_or_not_started_by_its_own_name_it_is_plain(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(own.parent))
    assert program() == "provision"
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(sys, "argv", ["/x/provision/__main__.py"])
    assert program() == "provision"


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("provision install --auto", ".venv/bin/provision install --auto"),
        ("see: provision doctor --list", "see: .venv/bin/provision doctor --list"),
        ("HF_HUB_OFFLINE=1 provision chat demo", "HF_HUB_OFFLINE=1 .venv/bin/provision chat demo"),
        ("the same version of provision here", "the same version of provision here"),
        ("/opt/provision install", "/opt/provision install"),
        ("pip install provision", "pip install provision"),
    ],
)
def test_commands_are_written_as_they_can_be_pasted(said: str, shown: str, own: Path) -> None:
    assert as_called(said) == shown


def test_every_command_is_known() -> None:
    assert set(_NAMES.split("|")) == set(typer.main.get_command(make_app()).commands)  # type: ignore[attr-defined]
