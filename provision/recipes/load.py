"""Finding a recipe by name or path, merging what it extends, and checking it."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

import provision
from provision.errors import UsageError
from provision.recipes.problems import RecipeError, explain, suggestion
from provision.recipes.schema import Recipe

DEFAULT_RECIPE = "demo"
_MAX_BYTES = 1024 * 1024
_NOT_INHERITED = ("name", "extends")
_ORIGINS = ("repo", "path", "packaged")


def shipped_folder() -> Path:
    """The folder of the recipes that come with us: inside the wheel, or at the top of a source tree."""
    package = Path(provision.__file__).parent
    inside = package / "recipes" / "shipped"
    return inside if inside.is_dir() else package.parent / "recipes"


def recipe_names() -> tuple[str, ...]:
    """Names of the shipped recipes, sorted."""
    return tuple(sorted(path.stem for path in shipped_folder().glob("*.toml")))


def looks_like_path(text: str) -> bool:
    """`./my.toml`, `/etc/x.toml` and `my.toml` are files; `qwen3-8b` is a shipped name."""
    return text.endswith(".toml")


def find_recipe(name_or_path: str) -> Path:
    """The file behind a name or path. UsageError `unknown-recipe` names the nearest one."""
    if looks_like_path(name_or_path):
        path = Path(name_or_path).expanduser()
        if not path.is_file():
            raise UsageError(f"there is no recipe file {path}", code="unknown-recipe", hint="provision recipe list")
        return path
    if name_or_path in recipe_names():
        return shipped_folder() / f"{name_or_path}.toml"
    near = suggestion(name_or_path, recipe_names())
    raise UsageError(f"there is no recipe named {name_or_path!r}{near}", code="unknown-recipe", hint="provision recipe list")


def load_recipe(name_or_path: str) -> Recipe:
    """The checked recipe of that name or file. RecipeError lists every problem at once."""
    return read_recipe(find_recipe(name_or_path))


def read_recipe(path: Path) -> Recipe:
    """The checked recipe in `path`, with everything it extends merged in."""
    data = _anchored(_merged(path, seen=()), folder=path.parent)
    recipe = parse_recipe(data, source=str(path))
    if path.stem != recipe.name:
        raise RecipeError(
            str(path), [f"name is '{recipe.name}' but the file is called {path.name}"], hint=f"name it {recipe.name}.toml"
        )
    return recipe


def parse_recipe(data: Mapping[str, Any], *, source: str) -> Recipe:
    """`data` as TOML gives it, checked; `source` names it in errors."""
    try:
        return Recipe.model_validate(dict(data))
    except ValidationError as error:
        raise RecipeError(source, explain(error, Recipe), hint="provision recipe schema") from error


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`over` on top of `base`: tables merge key by key, everything else (arrays too) is replaced."""
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        merged[key] = merge(below, value) if isinstance(below, Mapping) and isinstance(value, Mapping) else value
    return merged


def read_toml(path: Path) -> dict[str, Any]:
    """The TOML in `path`. UsageError `bad-toml` with line and column, or `unreadable`."""
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise UsageError(f"{path} is larger than 1 MiB; that is no recipe or lock", code="bad-toml")
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}", code="unreadable") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not UTF-8 text (byte {error.start})", code="bad-toml") from error
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{path} is not TOML: {error}", code="bad-toml", hint="https://toml.io explains the syntax") from error
    except RecursionError as error:
        raise UsageError(f"{path} is nested too deep to be a recipe or lock", code="bad-toml") from error


def _merged(path: Path, *, seen: tuple[str, ...]) -> dict[str, Any]:
    data = read_toml(path)
    parent = data.get("extends")
    if not isinstance(parent, str):
        return data
    if parent == path.stem or parent in seen:
        chain = " → ".join((*seen, path.stem, parent))
        raise RecipeError(str(path), [f"extends goes round in a circle: {chain}"])
    beside = path.parent / f"{parent}.toml"
    if "/" in parent or "\\" in parent:
        raise RecipeError(str(path), [f"extends: {parent!r} is not the name of a recipe"])
    base_path = beside if beside.is_file() else find_recipe(parent)
    base = _merged(base_path, seen=(*seen, path.stem))
    base = {key: value for key, value in base.items() if key not in _NOT_INHERITED}
    model = data.get("model")
    if isinstance(model, Mapping) and any(key in model for key in _ORIGINS):
        # Another origin: revision, evidence and file names of the base speak of another repository.
        base = {key: value for key, value in base.items() if key not in ("model", "variants")}
    return merge(base, data)


def _anchored(data: dict[str, Any], *, folder: Path) -> dict[str, Any]:
    model = data.get("model")
    if isinstance(model, Mapping) and isinstance(model.get("path"), str):
        return merge(data, {"model": {"path": str((folder / Path(model["path"]).expanduser()).resolve())}})
    return data
