"""Recipes to and from other tools' files: which reader or writer, checked by the schema on the way in."""

from __future__ import annotations

import codecs
import os
from pathlib import Path

import tomli_w

from provision.errors import UsageError
from provision.recipes.foreign.imported import Imported, is_path
from provision.recipes.foreign.llama_server import CARRIED as OPTIONS_CARRY
from provision.recipes.foreign.model_yaml import read_model_yaml
from provision.recipes.foreign.modelfile import CARRIED as MODELFILE_CARRIES
from provision.recipes.foreign.modelfile import read_modelfile, write_modelfile
from provision.recipes.foreign.preset_ini import read_preset, write_preset
from provision.recipes.foreign.units import CARRIED as UNITS_CARRY
from provision.recipes.foreign.units import IMAGES, write_compose, write_quadlet, write_shell
from provision.recipes.load import merge, parse_recipe
from provision.recipes.problems import suggestion
from provision.recipes.schema import Recipe

KINDS = ("modelfile", "model.yaml", "preset")
FORMATS = ("modelfile", "preset", "compose", "quadlet", "shell")
_MAX_BYTES = 1024 * 1024


def import_file(path: Path, *, kind: str, section: str | None, name: str | None) -> tuple[str, Recipe, tuple[str, ...]]:
    """(TOML text, the checked recipe, notes on what was left out) of a foreign file."""
    if kind == "auto":
        kind = guess_kind(path.name)
    _one_of("--from", kind, KINDS)
    try:
        with path.open("rb") as file:
            raw = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}", code="unreadable") from error
    if len(raw) > _MAX_BYTES:
        raise UsageError(f"{path} is larger than 1 MiB", code="bad-import")
    imported = _read(_decoded(raw), kind=kind, section=section)
    data = merge(imported.data, {"name": name} if name else {})
    recipe = parse_recipe(data, source=f"the recipe made of {path}")
    return to_toml(recipe), recipe, imported.notes


def left_out(recipe: Recipe, *, to: str) -> tuple[str, ...]:
    """A sentence for each setting of the recipe that the format `to` has no word for."""
    carried = {"modelfile": MODELFILE_CARRIES, "preset": OPTIONS_CARRY}.get(to, UNITS_CARRY)
    data = recipe.to_data()
    settings = [f"{table}.{key}" for table in ("load", "chat", "sampling", "serve") for key in data.get(table, {})]
    if to in ("compose", "quadlet"):
        carried = carried - {"serve.host"}  # published on loopback, whatever the recipe says
    return tuple(f"{setting} has no counterpart in {to} and was left out" for setting in settings if setting not in carried)


def guess_kind(file_name: str) -> str:
    """`modelfile`, `model.yaml` or `preset` by the file's name; UsageError when it does not say."""
    lower = file_name.lower()
    if lower.endswith((".yaml", ".yml")):
        return "model.yaml"
    if lower.endswith(".ini"):
        return "preset"
    if "modelfile" in lower:
        return "modelfile"
    raise UsageError(
        f"cannot tell from the name {file_name} what kind of file it is",
        code="bad-import",
        hint=f"add --from {'|'.join(KINDS)}",
    )


def export_text(recipe: Recipe, *, to: str, model: str | None = None, backend: str = "cpu") -> str:
    """`recipe` in the words of `to`. `model` overrides what the file will load."""
    _one_of("--to", to, FORMATS)
    _one_of("--backend", backend, tuple(IMAGES))
    wanted = model or _model_of(recipe)
    if any(ord(char) < 32 for char in wanted):
        raise UsageError("--model holds a line break or another control character", code="bad-export")
    match to:
        case "modelfile":
            return write_modelfile(recipe, model=wanted if is_path(wanted) else f"hf.co/{wanted}")
        case "preset":
            return write_preset(recipe, model=wanted)
        case "compose":
            return write_compose(recipe, model=wanted, backend=backend)
        case "quadlet":
            return write_quadlet(recipe, model=wanted, backend=backend)
        case _:
            return write_shell(recipe, model=wanted)


def to_toml(recipe: Recipe) -> str:
    """The recipe as a TOML file, in the order of the schema."""
    data = recipe.to_data()
    ordered = {"schema": 1, **{key: data[key] for key in Recipe.model_json_schema()["properties"] if key in data}}
    return tomli_w.dumps(ordered, multiline_strings=True)


def write_new(path: Path, text: str) -> Path:
    """Write `text` to a file that does not exist yet, whole or not at all."""
    if path.exists():
        raise UsageError(f"{path} exists already", code="file-exists", hint=f"choose another name, or remove it: rm {path}")
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("x", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.link(part, path)  # unlike rename, never replaces a file that appeared meanwhile
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}", code="unwritable") from error
    finally:
        part.unlink(missing_ok=True)
    return path


def _model_of(recipe: Recipe) -> str:
    if recipe.model.repo and recipe.select.file:
        raise UsageError(
            f"other tools name a model by its quant, and {recipe.name} names the file {recipe.select.file}",
            code="bad-export",
            hint=f"say what they shall load: add --model {recipe.model.repo}:QUANT",
        )
    if recipe.model.repo:
        return f"{recipe.model.repo}:{recipe.select.quant}" if recipe.select.quant else recipe.model.repo
    if recipe.model.path:
        return recipe.model.path
    raise UsageError(
        f"the model of {recipe.name} ships inside the package, which other tools cannot name",
        code="bad-export",
        hint="name a GGUF: add --model /path/to/model.gguf",
    )


def _decoded(raw: bytes) -> str:
    """Text as editors save it: UTF-8, perhaps with a mark in front, or the UTF-16 of PowerShell's redirection."""
    encoding = "utf-16" if raw[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "utf-8-sig"
    return raw.decode(encoding, "replace")


def _read(text: str, *, kind: str, section: str | None) -> Imported:
    if kind == "modelfile":
        return read_modelfile(text)
    return read_preset(text, section=section) if kind == "preset" else read_model_yaml(text)


def _one_of(option: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        said = f"{option} {value!r} is not one of {', '.join(allowed)}{suggestion(value, allowed)}"
        raise UsageError(said, code="bad-option")
