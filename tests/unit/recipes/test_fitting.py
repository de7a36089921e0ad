from typing import Any

from provision.fit.types import FitWish
from provision.recipes.fitting import model_of, with_recipe
from provision.recipes.load import load_recipe, parse_recipe
from provision.recipes.schema import Recipe


def recipe(**more: Any) -> Recipe:
    return parse_recipe({"name": "mine", "title": "Mine", "model": {"repo": "org/name", "revision": "v2"}, **more}, source="x")


def test_a_recipe_fills_what_the_command_line_leaves_open() -> None:
    load = {"n_ctx": 4096, "kv_type": "q8_0", "n_gpu_layers": 7}
    wish = with_recipe(FitWish(ram=5), recipe(load=load, select={"quant": "Q8_0", "policy": "speed"}), policy_given=False)
    assert wish == FitWish(ram=5, quant="Q8_0", n_ctx=4096, kv_type="q8_0", policy="speed", n_gpu_layers=7, revision="v2")


def test_options_win_over_the_recipe() -> None:
    asked = FitWish(quant="Q4_0", n_ctx=512, kv_type="f16", policy="balanced")
    wish = with_recipe(asked, recipe(load={"n_ctx": 4096, "kv_type": "q8_0"}, select={"policy": "speed"}), policy_given=True)
    assert (wish.quant, wish.n_ctx, wish.kv_type, wish.policy, wish.n_gpu_layers) == ("Q4_0", 512, "f16", "balanced", None)


def test_the_model_of_a_recipe() -> None:
    assert model_of(recipe()) == "org/name"
    assert model_of(recipe(select={"file": "*Q4_K_M*.gguf"})) == "org/name:*Q4_K_M*.gguf"
    assert model_of(load_recipe("demo")).endswith("provision-demo-Q8_0.gguf")
