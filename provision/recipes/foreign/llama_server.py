"""llama-server's options and a recipe's fields, in the one table that reading and writing share.

ggml-org/llama.cpp common/arg.cpp as vendored by llama-cpp-python 0.3.36, where `--load-mode` has replaced `--mmap` and
`--mlock`.
"""

from __future__ import annotations

import json
from typing import Any

from provision.recipes.schema import Recipe

# Option; its short, older and environment spellings -> (table, key, type) of a recipe.
OPTIONS: dict[str, tuple[tuple[str, ...], tuple[str, str, type]]] = {
    "ctx-size": (("c", "LLAMA_ARG_CTX_SIZE"), ("load", "n_ctx", int)),
    "n-gpu-layers": (("gpu-layers", "ngl", "LLAMA_ARG_N_GPU_LAYERS"), ("load", "n_gpu_layers", int)),
    "batch-size": (("b", "LLAMA_ARG_BATCH"), ("load", "n_batch", int)),
    "ubatch-size": (("ub", "LLAMA_ARG_UBATCH"), ("load", "n_ubatch", int)),
    "threads": (("t", "LLAMA_ARG_THREADS"), ("load", "n_threads", int)),
    "flash-attn": (("fa", "LLAMA_ARG_FLASH_ATTN"), ("load", "flash_attn", bool)),
    "cache-type-k": (("ctk", "LLAMA_ARG_CACHE_TYPE_K"), ("load", "kv_type", str)),
    "temp": (("temperature",), ("sampling", "temperature", float)),
    "top-k": (("LLAMA_ARG_TOP_K",), ("sampling", "top_k", int)),
    "top-p": ((), ("sampling", "top_p", float)),
    "min-p": ((), ("sampling", "min_p", float)),
    "repeat-penalty": ((), ("sampling", "repeat_penalty", float)),
    "presence-penalty": ((), ("sampling", "presence_penalty", float)),
    "frequency-penalty": ((), ("sampling", "frequency_penalty", float)),
    "predict": (("n-predict", "n", "LLAMA_ARG_N_PREDICT"), ("sampling", "max_tokens", int)),
    "seed": (("s",), ("sampling", "seed", int)),
    "host": (("LLAMA_ARG_HOST",), ("serve", "host", str)),
    "port": (("LLAMA_ARG_PORT",), ("serve", "port", int)),
    "alias": (("a", "LLAMA_ARG_ALIAS"), ("serve", "alias", str)),
}
BY_SPELLING = {spelling: target for option, (others, target) in OPTIONS.items() for spelling in (option, *others)}
LOAD_MODES = {"mmap": (True, None), "none": (False, None), "mlock": (False, True), "mmap+mlock": (True, True)}
"""`--load-mode` -> (use_mmap, use_mlock). A recipe that locks without saying more maps the file too, as Llama() does."""
CARRIED = {f"{table}.{key}" for _, (table, key, _) in OPTIONS.values()} | {
    "load.use_mmap",
    "load.use_mlock",
    "chat.template_kwargs",
}
"""Settings of a recipe that these options hold."""


def option_values(recipe: Recipe) -> dict[str, str]:
    """Every option the recipe fixes and its value, without the model, the address and the name of the server."""
    tables: dict[str, dict[str, Any]] = {"load": recipe.load.model_dump(), "sampling": recipe.sampling.model_dump()}
    values: dict[str, str] = {}
    for option, (_, (table, key, _)) in OPTIONS.items():
        value = tables.get(table, {}).get(key)
        if value is None or value == "auto":
            continue
        if key == "n_gpu_layers" and value == -1:
            value = "all"  # upstream's own -1 means automatic
        values[option] = ("on" if value else "off") if isinstance(value, bool) else str(value)
        if key == "kv_type":
            values["cache-type-v"] = str(value)
    mode = load_mode(recipe)
    if mode is not None:
        values["load-mode"] = mode
    if recipe.chat.template_kwargs:
        values["chat-template-kwargs"] = json.dumps(recipe.chat.template_kwargs, sort_keys=True)
    return values


def load_mode(recipe: Recipe) -> str | None:
    """The `--load-mode` of use_mmap and use_mlock; None when the recipe fixes neither."""
    mapped, locked = recipe.load.use_mmap, recipe.load.use_mlock
    if locked:
        return "mlock" if mapped is False else "mmap+mlock"
    return None if mapped is None else ("mmap" if mapped else "none")
