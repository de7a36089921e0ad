"""The command-line page is what the program says."""

import importlib.util
import sys
from importlib.machinery import SourceFileLoader
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[3] / "scripts/generate_cli_reference"


def test_the_command_line_page_is_current(monkeypatch: pytest.MonkeyPatch) -> None:
    loader = SourceFileLoader("generate_cli_reference", str(SCRIPT))
    spec = importlib.util.spec_from_loader(loader.name, loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    for name in ("COLUMNS", "NO_COLOR", "TERM"):
        monkeypatch.setenv(name, "")
    assert module.PAGE.read_text(encoding="utf-8") == module.page(), "run: scripts/generate_cli_reference"
