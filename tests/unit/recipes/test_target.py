from pathlib import Path

import pytest

from provision.errors import NotFoundError, ProvisionError, UsageError
from provision.recipes.target import understand


def test_a_recipe_name_and_a_recipe_file(tmp_path: Path) -> None:
    assert understand("qwen3-8b").repo_id == "Qwen/Qwen3-8B-GGUF"
    path = tmp_path / "mine.toml"
    path.write_text('name = "mine"\ntitle = "M"\n[model]\nrepo = "a/b"\n', encoding="utf-8")
    wanted = understand(str(path))
    assert wanted.named_recipe
    assert wanted.repo_id == "a/b"


def test_a_repository_with_quant_and_revision() -> None:
    wanted = understand("Org/Name.v2-GGUF:Q4_K_M@v1.0")
    assert not wanted.named_recipe
    assert wanted.repo_id == "Org/Name.v2-GGUF"
    assert wanted.recipe.select.quant == "Q4_K_M"
    assert wanted.recipe.model.revision == "v1.0"
    assert wanted.recipe.name == "name.v2"


def test_a_local_gguf(tmp_path: Path) -> None:
    (tmp_path / "My Model.GGUF").write_bytes(b"GGUF")
    wanted = understand("My Model.GGUF", cwd=tmp_path)
    assert wanted.local_path == tmp_path / "My Model.GGUF"
    assert wanted.repo_id is None


def test_a_gguf_that_is_not_there_is_not_mistaken_for_a_repository() -> None:
    with pytest.raises(NotFoundError) as caught:
        understand("models/x.gguf")
    assert caught.value.code == "no-such-file"


def test_anything_else_gets_a_suggestion() -> None:
    with pytest.raises(UsageError, match="perhaps you meant 'demo'") as caught:
        understand("demoo")
    assert caught.value.code == "unknown-target"


@pytest.mark.parametrize("text", ["a/b/c", "../x", "/etc", "a/b:", "", "a/b c", "org/-name"])
def test_bad_targets_are_one_named_error(text: str) -> None:
    with pytest.raises(ProvisionError):
        understand(text)
