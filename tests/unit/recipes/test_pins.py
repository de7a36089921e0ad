from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from provision.recipes import pins
from provision.recipes.pins import Archive, Origin, engine_origin

SHA = "ab" * 32


@pytest.fixture
def _noted(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    monkeypatch.setattr(pins, "inspect_environment", lambda python, environ: SimpleNamespace(version=(3, 12, 4)))
    monkeypatch.setattr(pins, "read_installed", lambda environment: request.param)


def built(**plan: Any) -> SimpleNamespace:
    return SimpleNamespace(sdist=("llama_cpp_python-0.3.36.tar.gz", SHA), plan=plan)


PLAN = {
    "cmake_args": ["-DGGML_CUDA=ON", "-DX=/home/ann/p/cmake/x.cmake"],
    "env": {"CFLAGS": "-O2\n\t-mno-amx-tile"},
    "compiler": "c++ 12.2.0",
    "toolkit": "pypi 12.8",
}


@pytest.mark.usefixtures("_noted")
@pytest.mark.parametrize("_noted", [built(**PLAN)], indirect=True)
def test_the_origin_of_a_build_names_no_folder_of_this_machine() -> None:
    assert engine_origin(Path("python"), env={}, home=Path("/home/ann/p")) == Origin(
        python="3.12",
        sdist=Archive(filename="llama_cpp_python-0.3.36.tar.gz", sha256=SHA),
        toolkit="pypi 12.8",
        compiler="c++ 12.2.0",
        cmake_args=("-DGGML_CUDA=ON", "-DX=$PROVISION_HOME/cmake/x.cmake"),
        cflags="-O2 -mno-amx-tile",
    )


@pytest.mark.usefixtures("_noted")
@pytest.mark.parametrize("_noted", [None], indirect=True)
def test_an_engine_of_somebody_else_has_no_known_origin() -> None:
    assert engine_origin(Path("python"), env={}, home=Path("/p")) == Origin(python="3.12")
