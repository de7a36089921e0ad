"""The recipe printed in the how-to, in both languages, is one."""

import re
import tomllib
from pathlib import Path

import pytest

from provision.recipes.load import read_recipe

HOW_TO = Path(__file__).parents[3] / "docs/how-to"


@pytest.mark.parametrize("page", ["recipes.md", "recipes.zh.md"])
def test_the_printed_recipe_is_valid(page: str, tmp_path: Path) -> None:
    text = (HOW_TO / page).read_text(encoding="utf-8")
    block = re.search(r"```toml\n(.*?)```", text, re.DOTALL)
    assert block is not None
    name = tomllib.loads(block.group(1))["name"]
    path = tmp_path / f"{name}.toml"
    path.write_text(block.group(1), encoding="utf-8")
    recipe = read_recipe(path)
    assert recipe.select.quant == "Q4_K_M"
    assert recipe.model.repo == "Qwen/Qwen3-8B-GGUF"
    assert recipe.verify.questions
