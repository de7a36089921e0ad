from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.scripted_model import write_scripted_model

ScriptedModel = Callable[..., Path]


@pytest.fixture(scope="session")
def scripted_model(tmp_path_factory: pytest.TempPathFactory) -> ScriptedModel:
    """Makes models that say what a test wants; the engine is the real one."""
    if importlib.util.find_spec("llama_cpp") is None:
        pytest.skip("llama-cpp-python is not installed here; `provision install` installs it")
    folder = tmp_path_factory.mktemp("models")
    made: dict[str, Path] = {}

    def make(script: list[str | list[str]], **options: Any) -> Path:
        key = repr((script, sorted(options.items())))
        if key not in made:
            made[key] = write_scripted_model(folder / f"model{len(made)}.gguf", script, **options)
        return made[key]

    return make
