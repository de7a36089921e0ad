"""`provision fit RECIPE`: what a recipe says about its model, as a wish to `fit`. Options given on the command line win."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from provision.events import Reporter
from provision.fit.service import fit
from provision.fit.types import FitResult, FitWish
from provision.host.types import Host
from provision.recipes.choice import allowed_quants, best_allowed
from provision.recipes.load import load_recipe, looks_like_path, recipe_names
from provision.recipes.schema import Recipe
from provision.recipes.target import Wanted
from provision.settings import Settings


def fit_target(
    target: str,
    wish: FitWish,
    *,
    policy_given: bool,
    host: Host | None,
    settings: Settings,
    reporter: Reporter,
    python: Path | None,
) -> FitResult:
    """Fit what `fit` takes, or the model of a recipe by its name or file. Raises what both rooms raise."""

    def run(model: str, wished: FitWish) -> FitResult:
        return fit(model, wished, host=host, settings=settings, reporter=reporter, python=python)

    if target not in recipe_names() and not looks_like_path(target):
        return run(target, wish)
    recipe = load_recipe(target)
    wished = with_recipe(wish, recipe, policy_given=policy_given)
    model = model_of(recipe)
    found = run(model, wished)
    if wished.quant is None and recipe.variants and recipe.select.file is None:
        # Without a host the memory was given, and what a variant needs of a machine can't be asked.
        allowed = allowed_quants(recipe.variants, host) if host else tuple(one.quant for one in recipe.variants)
        if found.chosen is None or found.chosen.quant not in allowed:
            candidates = [candidate.to_data() for candidate in found.candidates]
            found = run(model, replace(wished, quant=best_allowed(candidates, allowed, recipe=recipe.name)))
    return replace(found, target=target)


def with_recipe(wish: FitWish, recipe: Recipe, *, policy_given: bool) -> FitWish:
    """`wish` with everything it leaves open as the recipe says it."""
    layers = recipe.load.n_gpu_layers
    return replace(
        wish,
        quant=wish.quant or recipe.select.quant,
        n_ctx=wish.n_ctx or recipe.load.n_ctx,
        kv_type=wish.kv_type or recipe.load.kv_type,
        policy=wish.policy if policy_given else recipe.select.policy,
        n_gpu_layers=layers if isinstance(layers, int) and layers >= 0 else None,
        revision=recipe.model.revision if recipe.model.repo else None,
    )


def model_of(recipe: Recipe) -> str:
    """The model in the words of `fit`: a path, `org/repo` or `org/repo:FILE`."""
    local = Wanted(text=recipe.name, recipe=recipe, named_recipe=True).local_path
    if local is not None:
        return str(local)
    return f"{recipe.model.repo}:{recipe.select.file}" if recipe.select.file else str(recipe.model.repo)
