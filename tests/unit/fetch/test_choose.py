from __future__ import annotations

import pytest

from provision.errors import NotFoundError, ProvisionError
from provision.fetch.choose import choose
from provision.fetch.types import FetchWish
from provision.models.types import RepoFile, RepoRef

FILES = tuple(
    RepoFile(path=path, size_bytes=10, sha256="a" * 64)
    for path in ("README.md", "m-Q4_K_M.gguf", "m-Q8_0.gguf", "mmproj-F16.gguf", "sub/config.json")
)
REF = RepoRef(org="o", name="m")


def paths(wish: FetchWish, ref: RepoRef = REF) -> list[str]:
    return [file.path for file in choose(FILES, ref=ref, wish=wish)]


def test_a_quant_names_the_model_and_nothing_else() -> None:
    assert paths(FetchWish(), RepoRef(org="o", name="m", quant="Q8_0")) == ["m-Q8_0.gguf"]
    assert paths(FetchWish(quant="q4_k_m"), RepoRef(org="o", name="m", quant="Q8_0")) == ["m-Q4_K_M.gguf"]
    assert paths(FetchWish(quant="Q8_0", with_mmproj=True)) == ["m-Q8_0.gguf", "mmproj-F16.gguf"]


def test_names_and_globs_say_it_exactly() -> None:
    assert paths(FetchWish(names=("README.md",))) == ["README.md"]
    assert paths(FetchWish(include=("*.gguf",), exclude=("mmproj*",))) == ["m-Q4_K_M.gguf", "m-Q8_0.gguf"]
    assert paths(FetchWish(include=("sub/",))) == ["sub/config.json"]
    assert paths(FetchWish(exclude=("*.gguf",))) == ["README.md", "sub/config.json"]
    assert paths(FetchWish(quant="Q8_0", names=("README.md",))) == ["README.md", "m-Q8_0.gguf"]


def test_two_models_and_no_wish_is_no_choice() -> None:
    with pytest.raises(ProvisionError):
        paths(FetchWish())


def test_misses_say_what_is_near() -> None:
    with pytest.raises(NotFoundError, match=r"m-Q8_0\.gguf"):
        paths(FetchWish(names=("m-Q8.gguf",)))
    with pytest.raises(NotFoundError):
        paths(FetchWish(include=("*.safetensors",)))
    with pytest.raises(NotFoundError):
        paths(FetchWish(quant="Q2_K"))
