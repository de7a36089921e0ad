"""llama.cpp preset files, both ways (ggml-org/llama.cpp common/preset.cpp, as vendored by llama-cpp-python 0.3.36).

A preset is an INI section whose keys are long options without dashes; the section `[*]` holds defaults for all of them, and
so do options before any section. A value ends at `;` or `#`, and there are no quotes.
"""

from __future__ import annotations

import json
import re
from typing import Any

from provision.errors import UsageError
from provision.recipes.foreign.imported import Imported, hub_model, is_path, put, recipe_name, unreadable
from provision.recipes.foreign.llama_server import BY_SPELLING, LOAD_MODES, option_values
from provision.recipes.schema import Recipe

_TRUE = {"1", "true", "on", "yes", "enabled"}
_FALSE = {"0", "false", "off", "no", "disabled"}
_MODEL_KEYS = ("hf", "hf-repo", "hfr", "LLAMA_ARG_HF_REPO", "model", "m", "LLAMA_ARG_MODEL")
_FILE_KEYS = ("hf-file", "hff", "LLAMA_ARG_HF_FILE")
_V_KEYS = ("cache-type-v", "ctv", "LLAMA_ARG_CACHE_TYPE_V")
# Flags of the years before `--load-mode`; files with them are everywhere.
_OLD_FLAGS = {"mmap": ("use_mmap", True), "no-mmap": ("use_mmap", False), "mlock": ("use_mlock", True)}
_KV_TYPES = ("f16", "q8_0", "q4_0")
_SECTION = re.compile(r"\[\s*([^\]]+?)\s*\]\s*(?:[;#].*)?")
_PAIR = re.compile(r"-*([A-Za-z_][\w.-]*)\s*=\s*([^;#]*?)\s*(?:[;#].*)?")
_TOP = ""


def read_preset(text: str, *, section: str | None = None) -> Imported:
    """The recipe of one section. Without `section` the file must hold exactly one preset, or none but options at its top."""
    sections = _sections(text)
    shared = {**sections.pop(_TOP, {}), **sections.pop("*", {})}
    shared.pop("version", None)
    if section is None and not sections and any(key in shared for key in _MODEL_KEYS):
        return _recipe_of(shared, section=None)
    if section is None:
        if len(sections) != 1:
            names = ", ".join(sections) or "none has a section of its own"
            raise unreadable("preset file", f"it holds {len(sections)} presets: {names}", hint="name one with --section")
        section = next(iter(sections))
    if section not in sections:
        raise unreadable("preset file", f"it has no section [{section}]; there are: {', '.join(sections) or 'none'}")
    return _recipe_of({**shared, **sections[section]}, section=section)


def write_preset(recipe: Recipe, *, model: str) -> str:
    """A preset section for `recipe`; `model` is `org/name:QUANT` or a GGUF path. UsageError for a value INI cannot carry."""
    values = {"model" if is_path(model) else "hf": model, **option_values(recipe)}
    serve = recipe.serve.model_dump(exclude_defaults=True)
    values |= {key: str(serve[key]) for key in ("host", "port", "alias") if serve.get(key) is not None}
    for option, value in values.items():
        if any(char in value for char in ";#\n"):
            raise UsageError(
                f"{option} {value!r} cannot be written in a preset, whose values end at ; and #", code="bad-export"
            )
    lines = [f"{option} = {value}" for option, value in values.items()]
    return "\n".join([f"; {recipe.title}; written by provision", f"[{recipe.name}]", *lines]) + "\n"


def _sections(text: str) -> dict[str, dict[str, str]]:
    sections: dict[str, dict[str, str]] = {_TOP: {}}
    current = _TOP
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.strip()
        if not line or line[0] in ";#":
            continue
        if header := _SECTION.fullmatch(line):
            current = header.group(1)
            if current in sections:
                raise unreadable("preset file", f"line {number}: [{current}] is there twice")
            sections[current] = {}
        elif pair := _PAIR.fullmatch(line):
            sections[current][pair.group(1)] = pair.group(2)
        else:
            raise unreadable("preset file", f"line {number} is neither [section] nor key = value: {line[:60]!r}")
    return sections


def _recipe_of(options: dict[str, str], *, section: str | None) -> Imported:
    origin = next((options[key] for key in _MODEL_KEYS if key in options), section or "")
    data: dict[str, Any] = {"name": recipe_name(section or origin), "title": section or origin}
    notes: list[str] = []
    if is_path(origin):
        data["model"] = {"path": origin}
    elif origin.count("/") == 1:
        data.update(hub_model(origin))
    else:
        raise unreadable("preset", f"[{section}] names no model; it needs `hf = org/name:QUANT` or `model = FILE.gguf`")
    for key, value in options.items():
        _take(data, notes, key, value)
    value_type = next((options[key] for key in _V_KEYS if key in options), None)
    if value_type is not None and value_type != data.get("load", {}).get("kv_type"):
        notes.append(f"cache-type-v = {value_type} was left out: a recipe has one type for the whole KV cache")
    return Imported(data=data, notes=tuple(notes))


def _take(data: dict[str, Any], notes: list[str], key: str, value: str) -> None:
    if key in _MODEL_KEYS or key in _V_KEYS:
        return
    if key in _FILE_KEYS:
        data["select"] = {"file": value}
    elif key in ("chat-template-kwargs", "LLAMA_ARG_CHAT_TEMPLATE_KWARGS"):
        _take_template_kwargs(data, value)
    elif key in ("load-mode", "lm", "LLAMA_ARG_LOAD_MODE"):
        _take_load_mode(data, notes, value)
    elif key in _OLD_FLAGS:
        field, meaning = _OLD_FLAGS[key]
        put(data, "load", field, _switched(key, value) is meaning)
    elif key in BY_SPELLING:
        _take_option(data, notes, key, value)
    else:
        notes.append(f"option {key} has no counterpart and was left out")


def _take_template_kwargs(data: dict[str, Any], value: str) -> None:
    try:
        kwargs = json.loads(value)
    except (ValueError, RecursionError) as error:
        raise unreadable("preset", "chat-template-kwargs is not JSON") from error
    put(data, "chat", "template_kwargs", kwargs)


def _take_load_mode(data: dict[str, Any], notes: list[str], value: str) -> None:
    if value not in LOAD_MODES:
        if value != "auto":
            notes.append(f"load-mode = {value} has no counterpart and was left out")
        return
    mapped, locked = LOAD_MODES[value]
    put(data, "load", "use_mmap", mapped)
    if locked is not None:
        put(data, "load", "use_mlock", locked)


def _take_option(data: dict[str, Any], notes: list[str], key: str, value: str) -> None:
    table, field, kind = BY_SPELLING[key]
    if value.lower() == "auto" or (field == "n_ctx" and value == "0"):
        return  # decided on the machine, as it is here without the key
    if kind is bool:
        put(data, table, field, _switched(key, value))
        return
    if field == "kv_type" and value not in _KV_TYPES:
        notes.append(f"{key} = {value} was left out; a recipe knows {', '.join(_KV_TYPES)}")
        return
    try:
        converted = -1 if field == "n_gpu_layers" and value == "all" else kind(value)
    except ValueError as error:
        raise unreadable("preset", f"{key} = {value!r} is not a number") from error
    if (field in {"max_tokens", "seed", "n_threads"} and converted < 0) or (field == "n_gpu_layers" and value == "-1"):
        notes.append(f"{key} = {value} is llama.cpp's default and was left out")
        return
    put(data, table, field, converted)


def _switched(key: str, value: str) -> bool:
    if value.lower() not in _TRUE | _FALSE:
        raise unreadable("preset", f"{key} = {value!r} is neither on nor off")
    return value.lower() in _TRUE
