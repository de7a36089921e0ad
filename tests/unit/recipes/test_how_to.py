"""The recipe printed in the how-to, in both languages, is one."""

import json
import re
import tomllib
from pathlib import Path

import pytest

from provision.recipes.load import read_recipe
from provision.recipes.schema import json_schema

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


def test_the_published_schema_is_that_of_the_code() -> None:
    published = HOW_TO.parent / "reference" / "recipe.schema.json"
    assert json.loads(published.read_text(encoding="utf-8")) == json_schema(), (
        "provision recipe schema > docs/reference/recipe.schema.json"
    )
