"""Every file name a shipped recipe gives must read as the quant it is given for, and agree with the listings we have seen."""

import json
from pathlib import Path
from typing import Any

import pytest

from provision.models.names import parse_name
from provision.models.types import Role
from provision.recipes.load import load_recipe, recipe_names

LISTINGS = Path(__file__).parents[2] / "data" / "gguf-listings.json"
SEEN: dict[str, dict[str, Any]] = {entry["repo"]: entry for entry in json.loads(LISTINGS.read_text(encoding="utf-8"))["repos"]}


@pytest.mark.parametrize("name", recipe_names())
def test_file_names_carry_the_quant_they_stand_for(name: str) -> None:
    for variant in load_recipe(name).variants:
        for file in variant.files:
            parsed = parse_name(file)
            assert (parsed.role, parsed.quant) == (Role.MODEL, variant.quant), file


@pytest.mark.parametrize("name", recipe_names())
def test_what_is_called_seen_in_a_listing_is_in_one(name: str) -> None:
    recipe = load_recipe(name)
    if recipe.model.repo is None or recipe.model.seen != "listing":
        assert recipe.model.packaged or recipe.model.seen == "mention"
        assert recipe.model.seen_in
        return
    entry = SEEN[recipe.model.repo]
    named = [file for variant in recipe.variants for file in variant.files]
    known = set(entry["files"])
    assert known & set(named), f"{name}: none of its file names is in the listing of {recipe.model.repo}"
    if entry["complete"]:
        assert set(named) <= known
        assert all(variant.files for variant in recipe.variants)


@pytest.mark.parametrize("name", recipe_names())
def test_a_split_variant_names_all_its_shards(name: str) -> None:
    for variant in load_recipe(name).variants:
        shards = [parse_name(file) for file in variant.files]
        if len(shards) > 1:
            assert [shard.index for shard in shards] == list(range(1, (shards[0].count or 0) + 1)), variant.quant


def test_the_popular_families_are_there() -> None:
    names = " ".join(recipe_names())
    for family in (
        "llama-3.1",
        "llama-3.3",
        "llama-4",
        "gemma-3",
        "gemma-3n",
        "gemma-4",
        "phi-4",
        "gpt-oss",
        "qwen3",
        "qwen3-next",
        "qwen3.5",
        "qwen3.6",
        "qwen3.8",
        "mistral-small-4",
        "ministral-3",
        "deepseek-r1",
        "granite-4",
        "nemotron-3.5",
        "olmo-3.1",
        "ernie-4.5",
        "glm-5",
        "kimi-k2",
        "minimax-m2",
        "smollm3",
        "lfm2.5",
    ):
        assert family in names, family
