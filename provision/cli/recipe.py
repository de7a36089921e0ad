"""`provision recipe`: what recipes there are, what one says, whether a file is one."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from provision.cli.called import as_called
from provision.cli.screen import tell
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
    group.command("import")(import_recipe)
    group.command("export")(export_recipe)
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


def import_recipe(
    file: Annotated[str, typer.Argument(help="An Ollama Modelfile, an LM Studio model.yaml or a llama.cpp preset.ini.")],
    source: Annotated[str, typer.Option("--from", metavar="auto|modelfile|model.yaml|preset")] = "auto",
    section: Annotated[str | None, typer.Option(help="Which preset of a preset.ini.")] = None,
    name: Annotated[str | None, typer.Option(help="Name of the new recipe.")] = None,
    output: Annotated[str | None, typer.Option("--output", "-o", help="Write NAME.toml here; default: print it.")] = None,
    json: JsonOption = False,
) -> Spoken:
    """Turn another tool's model file into a recipe."""
    from pathlib import Path

    from provision.recipes.exchange import import_file, write_new

    text, recipe, notes = import_file(Path(file), kind=source, section=section, name=name)
    written = str(write_new(Path(output), text)) if output else None
    data = {"recipe": recipe.to_data(), "toml": text, "notes": list(notes), "written": written}
    return Spoken(result=Result(command="recipe", data=data), render=_render_import)


def export_recipe(
    name: Annotated[str, typer.Argument(help="A shipped recipe's name, or a path ending in .toml.")],
    to: Annotated[str, typer.Option("--to", metavar="modelfile|preset|compose|quadlet|shell")],
    model: Annotated[str | None, typer.Option(help="A GGUF path or org/name:QUANT; default: what the recipe names.")] = None,
    backend: Annotated[str, typer.Option(metavar="cpu|cuda|vulkan|rocm", help="Image of compose and quadlet.")] = "cpu",
    output: Annotated[str | None, typer.Option("--output", "-o", help="Write to this new file; default: print it.")] = None,
    json: JsonOption = False,
) -> Spoken:
    """Write a recipe in another tool's words."""
    from pathlib import Path

    from provision.recipes.exchange import export_text, left_out, write_new
    from provision.recipes.load import load_recipe

    recipe = load_recipe(name)
    text = export_text(recipe, to=to, model=model, backend=backend)
    written = str(write_new(Path(output), text)) if output else None
    data = {"format": to, "text": text, "notes": list(left_out(recipe, to=to)), "written": written}
    return Spoken(result=Result(command="recipe", data=data), render=_render_export)


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
    width = max(len(row["name"]) for row in data["recipes"]) + 2
    for row in data["recipes"]:
        mark = "" if row["seen"] == "listing" else " *"
        # soft_wrap: a repository's name is for copying and stays whole.
        console.print(f"{row['name']:<{width}}{row['model']}{mark}", markup=False, soft_wrap=True)
    if any(row["seen"] != "listing" for row in data["recipes"]):
        console.print(
            "\n* file names taken from public mentions, the repository's own listing was not read when this was written"
        )
    console.print(as_called("\nnext: provision up RECIPE, or provision recipe show RECIPE"), markup=False)


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
    "listing": "read in a listing or a maintained model list",
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


def _render_import(console: Console, data: Mapping[str, Any]) -> None:
    if data["written"]:
        console.print(f"wrote {data['written']}", markup=False)
    else:
        console.file.write(data["toml"])
    for note in data["notes"]:
        tell(sys.stderr, f"note: {note}")


def _render_export(console: Console, data: Mapping[str, Any]) -> None:
    if data["written"]:
        console.print(f"wrote {data['written']}", markup=False)
    else:
        console.file.write(data["text"])
    for note in data["notes"]:
        tell(sys.stderr, f"note: {note}")
