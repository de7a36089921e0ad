from __future__ import annotations

from pathlib import Path

import pytest

from provision.errors import NotFoundError, ProvisionError, UsageError
from provision.fetch.choose import choose
from provision.fetch.types import FetchWish
from provision.models.types import RepoFile, RepoRef

FILES = tuple(
    RepoFile(path=path, size_bytes=10, sha256="a" * 64)
    for path in ("README.md", "m-Q4_K_M.gguf", "m-Q8_0.gguf", "mmproj-F16.gguf", "sub/config.json")
)
REF = RepoRef(org="o", name="m")


def listed(*names: str) -> tuple[RepoFile, ...]:
    return tuple(RepoFile(path=name, size_bytes=10, sha256="a" * 64) for name in names)


def paths(wish: FetchWish, ref: RepoRef = REF, files: tuple[RepoFile, ...] = FILES) -> list[str]:
    return [file.path for file in choose(files, ref=ref, wish=wish)]


def test_a_quant_names_the_model_and_nothing_else() -> None:
    assert paths(FetchWish(), RepoRef(org="o", name="m", quant="Q8_0")) == ["m-Q8_0.gguf"]
    assert paths(FetchWish(quant="q8_0"), RepoRef(org="o", name="m", quant="Q8_0")) == ["m-Q8_0.gguf"]
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


def test_an_exclusion_never_takes_a_part_of_the_model_asked_for() -> None:
    split = listed("m-Q2_K-00001-of-00002.gguf", "m-Q2_K-00002-of-00002.gguf", "m-Q8_0.gguf")
    for wish in (FetchWish(quant="Q2_K", exclude=("*00002-of*",)), FetchWish(quant="Q2_K", exclude=("*",))):
        with pytest.raises(NotFoundError, match="--exclude leaves out m-Q2_K-0000") as caught:
            paths(wish, files=split)
        assert caught.value.code == "no-match"
    assert paths(FetchWish(quant="Q2_K", exclude=("*Q8_0*",)), files=split) == [file.path for file in split[:2]]


def test_an_exclusion_beside_a_pattern_does_not_ask_for_all_the_rest() -> None:
    ref = RepoRef(org="o", name="m", file="*Q8_0*")
    assert paths(FetchWish(exclude=("*.json",)), ref) == ["m-Q8_0.gguf"]


def test_the_projector_comes_with_a_model_however_it_was_named() -> None:
    both = ["m-Q8_0.gguf", "mmproj-F16.gguf"]
    assert paths(FetchWish(names=("m-Q8_0.gguf",), with_mmproj=True)) == both
    assert paths(FetchWish(include=("*Q8_0*",), with_mmproj=True)) == both
    with pytest.raises(UsageError):
        paths(FetchWish(names=("README.md",), with_mmproj=True))
    with pytest.raises(NotFoundError) as caught:
        paths(FetchWish(quant="Q8_0", exclude=("mmproj*",), with_mmproj=True))
    assert caught.value.code == "no-mmproj"


def test_a_name_listed_twice_is_fetched_once() -> None:
    assert paths(FetchWish(quant="Q8_0"), files=listed("m-Q8_0.gguf", "m-Q8_0.gguf")) == ["m-Q8_0.gguf"]


@pytest.mark.parametrize("named", [{"quant": "Q8_0"}, {"file": "m-Q8_0.gguf"}], ids=str)
def test_two_quants_in_one_command_are_a_contradiction(named: dict[str, str]) -> None:
    with pytest.raises(UsageError) as caught:
        paths(FetchWish(quant="Q4_K_M"), RepoRef(org="o", name="m", **named))
    assert caught.value.hint == "provision fetch o/m:Q4_K_M"


def test_a_hint_keeps_from_where_and_where_to() -> None:
    wish = FetchWish(
        quant="Q6_K", revision="v 1", endpoints=("http://a", "http://b"), sources=("hf",), local_dir=Path("/my models")
    )
    with pytest.raises(NotFoundError) as caught:
        paths(wish)
    kept = "--revision 'v 1' --endpoint http://a --endpoint http://b --source hf --local-dir '/my models'"
    assert caught.value.hint == f"provision fetch o/m:Q4_K_M {kept}"
