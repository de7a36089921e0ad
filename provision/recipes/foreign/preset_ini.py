"""llama.cpp preset files, both ways (ggml-org/llama.cpp docs/preset.md and tools/server/README.md).

A preset is an INI section whose keys are long options without dashes; the section `[*]` holds defaults for all of them.
"""

from __future__ import annotations

import configparser
import json
from typing import Any

from provision.recipes.foreign.imported import Imported, hub_model, put, recipe_name, unreadable
from provision.recipes.schema import Recipe

# Option, and its short or older spellings -> (table, key, type) of a recipe.
_OPTIONS: dict[tuple[str, ...], tuple[str, str, type]] = {
    ("ctx-size", "c"): ("load", "n_ctx", int),
    ("n-gpu-layers", "gpu-layers", "ngl"): ("load", "n_gpu_layers", int),
    ("batch-size", "b"): ("load", "n_batch", int),
    ("ubatch-size", "ub"): ("load", "n_ubatch", int),
    ("threads", "t"): ("load", "n_threads", int),
    ("mmap",): ("load", "use_mmap", bool),
    ("mlock",): ("load", "use_mlock", bool),
    ("flash-attn", "fa"): ("load", "flash_attn", bool),
    ("cache-type-k", "ctk"): ("load", "kv_type", str),
    ("temp", "temperature"): ("sampling", "temperature", float),
    ("top-k",): ("sampling", "top_k", int),
    ("top-p",): ("sampling", "top_p", float),
    ("min-p",): ("sampling", "min_p", float),
    ("repeat-penalty",): ("sampling", "repeat_penalty", float),
    ("presence-penalty",): ("sampling", "presence_penalty", float),
    ("frequency-penalty",): ("sampling", "frequency_penalty", float),
    ("predict", "n-predict", "n"): ("sampling", "max_tokens", int),
    ("seed", "s"): ("sampling", "seed", int),
    ("host",): ("serve", "host", str),
    ("port",): ("serve", "port", int),
    ("alias", "a"): ("serve", "alias", str),
}
_BY_SPELLING = {spelling: target for spellings, target in _OPTIONS.items() for spelling in spellings}
_TRUE = {"1", "true", "on", "yes", "enabled"}
_FALSE = {"0", "false", "off", "no", "disabled"}
_MODEL_KEYS = ("hf", "hf-repo", "hfr", "model", "m")


def read_preset(text: str, *, section: str | None = None) -> Imported:
    """The recipe of one section. Without `section` the file must hold exactly one besides `[*]`."""
    # Keys before the first section are allowed (`version = 1`); configparser wants a section for them.
    parser = configparser.ConfigParser(interpolation=None, default_section="\0", strict=True, delimiters=("=",))
    parser.optionxform = str  # type: ignore[method-assign,assignment]
    try:
        parser.read_string("[\1top]\n" + text)
    except configparser.Error as error:
        raise unreadable("preset file", str(error).splitlines()[0]) from error
    presets = [name for name in parser.sections() if name not in {"\1top", "*"}]
    if section is None:
        if len(presets) != 1:
            raise unreadable(
                "preset file", f"it holds {len(presets)} presets: {', '.join(presets)}", hint="name one with --section"
            )
        section = presets[0]
    if section not in presets:
        raise unreadable("preset file", f"it has no section [{section}]; there are: {', '.join(presets)}")
    options = {**(dict(parser["*"]) if parser.has_section("*") else {}), **dict(parser[section])}
    return _recipe_of({key.strip().lstrip("-"): value.strip() for key, value in options.items()}, section)


def write_preset(recipe: Recipe, *, model: str) -> str:
    """A preset section for `recipe`; `model` is `org/name:QUANT` or a GGUF path."""
    key = "model" if model.endswith(".gguf") else "hf"
    lines = [f"; {recipe.title}; written by provision", f"[{recipe.name}]", f"{key} = {model}"]
    tables: dict[str, dict[str, Any]] = {
        "load": recipe.load.model_dump(),
        "sampling": recipe.sampling.model_dump(),
        "serve": recipe.serve.model_dump(exclude_defaults=True),
    }
    for spellings, (table, field, _) in _OPTIONS.items():
        value = tables[table].get(field)
        if value is None or value == "auto":
            continue
        if field == "flash_attn":
            value = "on" if value else "off"
        lines.append(f"{spellings[0]} = {int(value) if isinstance(value, bool) else value}")
        if field == "kv_type":
            lines.append(f"cache-type-v = {value}")
    if recipe.chat.template_kwargs:
        lines.append(f"chat-template-kwargs = {json.dumps(recipe.chat.template_kwargs, sort_keys=True)}")
    return "\n".join(lines) + "\n"


def _recipe_of(options: dict[str, str], section: str) -> Imported:
    data: dict[str, Any] = {"name": recipe_name(section), "title": section}
    notes: list[str] = []
    origin = next((options[key] for key in _MODEL_KEYS if key in options), section)
    if origin.endswith(".gguf"):
        data["model"] = {"path": origin}
    elif origin.count("/") == 1:
        data.update(hub_model(origin))
    else:
        raise unreadable("preset", f"[{section}] names no model; it needs `hf = org/name:QUANT` or `model = FILE.gguf`")
    for key, value in options.items():
        if key in _MODEL_KEYS:
            continue
        if key == "chat-template-kwargs":
            _take_template_kwargs(data, value)
        elif key in _BY_SPELLING:
            _take_option(data, notes, key, value)
        elif key not in {"cache-type-v", "ctv"}:
            notes.append(f"option {key} has no counterpart and was left out")
    return Imported(data=data, notes=tuple(notes))


def _take_template_kwargs(data: dict[str, Any], value: str) -> None:
    try:
        kwargs = json.loads(value)
    except ValueError as error:
        raise unreadable("preset", "chat-template-kwargs is not JSON") from error
    put(data, "chat", "template_kwargs", kwargs)


def _take_option(data: dict[str, Any], notes: list[str], key: str, value: str) -> None:
    table, field, kind = _BY_SPELLING[key]
    if value.lower() == "auto" or (field == "n_ctx" and value == "0"):
        return  # decided on the machine, as it is here without the key
    if kind is bool:
        if value.lower() not in _TRUE | _FALSE:
            raise unreadable("preset", f"{key} = {value!r} is neither on nor off")
        put(data, table, field, value.lower() in _TRUE)
        return
    try:
        converted = kind(value)
    except ValueError as error:
        raise unreadable("preset", f"{key} = {value!r} is not a number") from error
    if field in {"max_tokens", "seed"} and converted < 0:
        notes.append(f"{key} = {value} is llama.cpp's default and was left out")
        return
    put(data, table, field, converted)
