"""`provision recipe`: what recipes there are, what one says, whether a file is one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from provision.cli.session import JsonOption, Spoken
from provision.errors import ExitCode
from provision.result import ErrorItem, Result

if TYPE_CHECKING:
    from rich.console import Console

    from provision.recipes.schema import Recipe


def register(app: typer.Typer) -> None:
    """Add the group `recipe`."""
    group = typer.Typer(no_args_is_help=True, help="List, show and check recipes.", rich_markup_mode=None)
    group.command("list")(list_recipes)
    group.command("show")(show_recipe)
    group.command("validate")(validate_recipes)
    group.command("schema")(print_schema)
    app.add_typer(group, name="recipe")


def list_recipes(json: JsonOption = False) -> Spoken:
    """The recipes that come with provision."""
    from provision.recipes.load import load_recipe, recipe_names

    rows = [_row(load_recipe(name)) for name in recipe_names()]
    return Spoken(result=Result(command="recipe", data={"recipes": rows}), render=_render_list)


def show_recipe(
    name: Annotated[str, typer.Argument(help="A shipped recipe's name, or a path ending in .toml.")], json: JsonOption = False
) -> Spoken:
    """Everything a recipe says, with what it extends merged in."""
    from provision.recipes.load import find_recipe, read_recipe

    path = find_recipe(name)
    recipe = read_recipe(path)
    data = {"recipe": recipe.to_data(), "path": str(path), "summary": _row(recipe)}
    return Spoken(result=Result(command="recipe", data=data), render=_render_show)


def validate_recipes(
    files: Annotated[list[str], typer.Argument(help="Recipe files, or names of shipped recipes.")], json: JsonOption = False
) -> Spoken:
    """Check recipe files; every problem of every file is reported at once."""
    from provision.errors import ProvisionError
    from provision.recipes.load import load_recipe
    from provision.recipes.problems import RecipeError

    rows: list[dict[str, Any]] = []
    errors: list[ErrorItem] = []
    for file in files:
        try:
            load_recipe(file)
            problems: tuple[str, ...] = ()
        except RecipeError as error:
            problems = error.problems
            errors += [ErrorItem(code=error.code, message=f"{error.source}: {one}", hint=error.hint) for one in problems]
        except ProvisionError as error:
            problems = (error.message,)
            errors.append(ErrorItem.of(error))
        rows.append({"file": file, "valid": not problems, "problems": list(problems)})
    result = Result(
        command="recipe",
        data={"files": rows},
        status="error" if errors else "ok",
        exit_code=ExitCode.USAGE if errors else ExitCode.OK,
        errors=errors,
    )
    return Spoken(result=result, render=_render_validate)


def print_schema(json: JsonOption = False) -> Spoken:
    """The JSON Schema of recipe files, for editors: save it and name it in a `#:schema` line."""
    from provision.recipes.schema import json_schema

    return Spoken(result=Result(command="recipe", data={"schema": json_schema()}), render=_render_schema)


def _row(recipe: Recipe) -> dict[str, Any]:
    model = recipe.model
    return {
        "name": recipe.name,
        "title": recipe.title,
        "description": recipe.description,
        "license": recipe.license,
        "model": model.repo or model.path or f"packaged:{model.packaged}",
        "quants": [variant.quant for variant in recipe.variants],
        "seen": model.seen,
        "seen_in": model.seen_in,
    }


def _render_list(console: Console, data: Mapping[str, Any]) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("recipe", no_wrap=True)
    table.add_column("model from", overflow="fold")
    for row in data["recipes"]:
        mark = "" if row["seen"] == "listing" else " *"
        table.add_row(row["name"], row["model"] + mark)
    console.print(table)
    if any(row["seen"] != "listing" for row in data["recipes"]):
        console.print(
            "\n* file names taken from public mentions, the repository's own listing was not read when this was written"
        )
    console.print("\nnext: provision up RECIPE, or provision recipe show RECIPE", markup=False)


def _render_show(console: Console, data: Mapping[str, Any]) -> None:
    import json

    row = data["summary"]
    console.print(f"{row['name']}: {row['title']}", markup=False)
    if row["description"]:
        console.print(row["description"], markup=False)
    console.print(f"licence   {row['license'] or 'not stated'}", markup=False)
    console.print(f"model     {row['model']}", markup=False)
    if row["quants"]:
        console.print(f"quants    {', '.join(row['quants'])}", markup=False)
    console.print(f"names     {_SEEN[row['seen']]}{': ' + row['seen_in'] if row['seen_in'] else ''}", markup=False)
    for section in ("select", "engine", "load", "chat", "sampling", "serve", "verify"):
        for key, value in data["recipe"].get(section, {}).items():
            console.print(f"{section + '.' + key:<26}{json.dumps(value, ensure_ascii=False)}", markup=False)
    console.print(f"file      {data['path']}", markup=False)


_SEEN = {
    "listing": "read in a listing of the repository",
    "mention": "mentioned by public projects, the listing itself was not read",
    "none": "not checked",
}


def _render_validate(console: Console, data: Mapping[str, Any]) -> None:
    for row in data["files"]:
        if row["valid"]:
            console.print(f"✓ {row['file']}", markup=False)
        else:
            count = len(row["problems"])
            console.print(f"✗ {row['file']}: {count} problem{'s' if count != 1 else ''}", markup=False)


def _render_schema(console: Console, data: Mapping[str, Any]) -> None:
    import json

    # Not through rich: what is printed here is saved to a file and must not be wrapped.
    console.file.write(json.dumps(data["schema"], ensure_ascii=False, indent=2) + "\n")
