"""What people write where a model is wanted: a recipe's name or file, a local GGUF, or `org/repo[:QUANT|:FILE][@revision]`."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from provision.errors import NotFoundError, UsageError
from provision.events import Reporter
from provision.models.refs import is_ref, parse_ref
from provision.recipes.foreign.imported import recipe_name
from provision.recipes.load import load_recipe, looks_like_path, parse_recipe, recipe_names
from provision.recipes.problems import suggestion
from provision.recipes.schema import Load, Model, Recipe, Select
from provision.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A target understood: always a recipe, even when a path or a repository was given and the recipe was made for it."""

    text: str
    recipe: Recipe
    named_recipe: bool
    """False when the recipe was made up for a path or a repository."""

    @property
    def local_path(self) -> Path | None:
        """The GGUF that is already on this machine: a path, or the model that ships in the package."""
        if self.recipe.model.path is not None:
            return Path(self.recipe.model.path)
        if self.recipe.model.packaged is not None:
            from provision.smoke.demo import demo_model_path

            return demo_model_path()
        return None

    @property
    def repo_id(self) -> str | None:
        return self.recipe.model.repo


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelTarget:
    """A model ready to load: its file (the first shard of a split) and the arguments of `llama_cpp.Llama`, path aside."""

    path: Path
    llama_kwargs: Mapping[str, Any]
    recipe: Recipe | None
    """None when a path or a repository was named."""
    plan: Mapping[str, Any] | None = None
    """`chosen` of `fit` these arguments come from: what a smoke test compares the machine with."""


def understand(text: str, *, cwd: Path | None = None) -> Wanted:
    """Which of the forms `text` is. UsageError `unknown-target` when it is none, NotFoundError for a missing GGUF."""
    if text in recipe_names() or looks_like_path(text):
        return Wanted(text=text, recipe=load_recipe(text), named_recipe=True)
    path = Path(text).expanduser()
    path = path if path.is_absolute() else (cwd or Path.cwd()) / path
    if path.is_file() or (text.lower().endswith(".gguf") and not is_ref(text)):
        if not path.is_file():
            raise NotFoundError(f"there is no file {text}", code="no-such-file", hint=_where_else(text, path))
        data = {"name": recipe_name(path.stem.lower()), "title": path.name, "model": {"path": str(path)}}
        return Wanted(text=text, recipe=parse_recipe(data, source=text), named_recipe=False)
    if "/" in text and not text.startswith(("/", ".", "~")):
        return _of_repository(text)
    near = suggestion(text, recipe_names())
    raise UsageError(
        f"{text!r} is neither a recipe, a GGUF file, nor org/repo[:QUANT]{near}",
        code="unknown-target",
        hint="provision recipe list",
    )


def _where_else(text: str, path: Path) -> str:
    """The folder to look into; a file of a repository that was written like a path is written right instead."""
    org, _, rest = text.partition("/")
    name, _, file = rest.partition("/")
    if file and is_ref(f"{org}/{name}:{file}") and not path.parent.is_dir():
        return f"if it is in a repository: {shlex.quote(f'{org}/{name}:{file}')}"
    return f"ls -l {shlex.quote(str(path.parent))}"


def _of_repository(text: str) -> Wanted:
    ref = parse_ref(text)
    data: dict[str, Any] = {"name": recipe_name(ref.repo_id), "title": ref.repo_id, "model": {"repo": ref.repo_id}}
    if ref.revision:
        data["model"]["revision"] = ref.revision
    if ref.quant:
        data["select"] = {"quant": ref.quant}
    if ref.file:
        data["select"] = {"file": ref.file}
    return Wanted(text=text, recipe=parse_recipe(data, source=text), named_recipe=False)


def with_load(llama_kwargs: Mapping[str, Any], recipe: Recipe) -> dict[str, Any]:
    """What `fit` chose, with everything the recipe fixes on top. `n_ctx` and `kv_type` were wishes to `fit` already."""
    load: Load = recipe.load
    kwargs = dict(llama_kwargs)
    for key in ("n_batch", "n_ubatch", "n_threads", "flash_attn", "use_mmap", "use_mlock"):
        value = getattr(load, key)
        if value is not None:
            kwargs[key] = value
    if load.n_gpu_layers != "auto":
        kwargs["n_gpu_layers"] = load.n_gpu_layers
    return kwargs


def resolve_model(
    text: str, *, settings: Settings, reporter: Reporter, python: Path | None = None, n_ctx: int | None = None
) -> ModelTarget:
    """The model behind `text` on this machine: fitted, and fetched when it is not here. `n_ctx` overrides the recipe's.

    Raises what `fit` and `fetch` raise, UsageError for a text that names nothing.
    """
    wanted = understand(text)
    if n_ctx is not None:
        wanted = replace(wanted, recipe=_with_context(wanted.recipe, n_ctx))
    return _fitted(wanted, settings=settings, reporter=reporter, python=python or Path(sys.executable))


def refit(target: ModelTarget, *, n_ctx: int, settings: Settings, reporter: Reporter, python: Path) -> ModelTarget:
    """The same file with another context: its arguments anew, or DoesNotFitError. Nothing is fetched."""
    path = str(target.path.absolute())
    recipe = target.recipe or Recipe(name="model", title="the model", model=Model(path="model.gguf"))
    select = Select(policy=recipe.select.policy)
    here = recipe.model_copy(update={"model": Model.model_construct(path=path), "variants": (), "select": select})
    wanted = Wanted(text=path, recipe=_with_context(here, n_ctx), named_recipe=False)
    found = _fitted(wanted, settings=settings, reporter=reporter, python=python)
    return replace(target, llama_kwargs=found.llama_kwargs, plan=found.plan)


def _with_context(recipe: Recipe, n_ctx: int) -> Recipe:
    return recipe.model_copy(update={"load": recipe.load.model_copy(update={"n_ctx": n_ctx})})


def _fitted(wanted: Wanted, *, settings: Settings, reporter: Reporter, python: Path) -> ModelTarget:
    from provision.fit.remembered import recall
    from provision.recipes.entry import fit_wish, real_rooms
    from provision.recipes.up import choose, model_path

    recipe, local = wanted.recipe, wanted.local_path
    wish = fit_wish(recipe, quant=recipe.select.quant)
    chosen = recall(local, wish, python=python, settings=settings) if local is not None else None
    rooms = real_rooms(settings, python=python, reporter=reporter)
    if chosen is None or chosen["n_ctx"] < (recipe.select.min_ctx or 0):
        from provision.host.probe import probe_memories

        chosen = choose(wanted, rooms=rooms, host=probe_memories(settings, python=python, reporter=reporter))
    return ModelTarget(
        path=local or model_path(rooms.fetch(recipe, chosen.get("quant"), False)),
        llama_kwargs=with_load(chosen["llama_kwargs"], recipe),
        recipe=recipe if wanted.named_recipe else None,
        plan=chosen,
    )
