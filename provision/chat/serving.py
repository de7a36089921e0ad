"""Decides how a model is served: address, key, settings. Pure; the key file is looked at elsewhere."""

from __future__ import annotations

import ipaddress
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from provision.errors import UsageError

# Fields of llama_cpp.server.settings.ModelSettings (llama-cpp-python 0.3.36) that `fit` or a recipe may fill.
_SERVER_FIELDS = frozenset(
    {
        "n_gpu_layers", "split_mode", "main_gpu", "tensor_split", "use_mmap", "use_mlock", "n_ctx", "n_batch", "n_ubatch",
        "n_threads", "n_threads_batch", "rope_scaling_type", "rope_freq_base", "rope_freq_scale", "yarn_ext_factor",
        "yarn_attn_factor", "yarn_beta_fast", "yarn_beta_slow", "yarn_orig_ctx", "offload_kqv", "flash_attn", "type_k",
        "type_v", "seed", "last_n_tokens_size", "numa",
    }
)  # fmt: skip
# Fields of CreateChatCompletionRequest and CreateCompletionRequest (llama_cpp/server/types.py) with the range they accept.
_REQUEST_FIELDS: dict[str, tuple[float, float]] = {
    "temperature": (0, math.inf), "top_p": (0, 1), "top_k": (0, math.inf), "min_p": (0, 1), "repeat_penalty": (0, math.inf),
    "presence_penalty": (-2, 2), "frequency_penalty": (-2, 2), "max_tokens": (1, math.inf), "seed": (0, 2**32 - 1),
}  # fmt: skip
_POOLING_MEAN = 1  # LLAMA_POOLING_TYPE_MEAN, include/llama.h


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeWish:
    """What was asked for."""

    model: Path
    llama_kwargs: Mapping[str, Any]
    host: str = "127.0.0.1"
    port: int = 8000
    alias: str | None = None
    api_key_file: Path | None = None
    chat_format: str | None = None
    template: str | None = None
    """Jinja text that replaces the template of the GGUF."""
    template_kwargs: Mapping[str, Any] = field(default_factory=dict)
    sampling: Mapping[str, Any] = field(default_factory=dict)
    """What a recipe wants sampled how, by the names of `create_chat_completion`."""
    embeddings: bool = False
    access_log: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerPlan:
    """Everything the server process is told, but for the key itself."""

    model: Path
    alias: str
    host: str
    port: int
    api_key_file: Path | None
    """None: no key is asked for, which only a loopback address allows."""
    settings: Mapping[str, Any]
    extra: Mapping[str, Any]
    """Arguments of `Llama` that the server's own settings lack."""
    template: str | None
    defaults: Mapping[str, Any]
    """Values for what a request leaves out, by the names of OpenAI's API and llama_cpp.server's additions to it."""
    allowed_hosts: tuple[str, ...]
    """Names a request may use for us; empty: any."""
    access_log: bool
    reasons: tuple[str, ...]

    @property
    def url(self) -> str:
        return server_url(self.host, self.port)


def server_url(host: str, port: int) -> str:
    """`http://127.0.0.1:8000/v1`, the base URL OpenAI clients want. A wildcard address is reached through loopback."""
    shown = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(host, host)  # noqa: S104 - compared, not bound
    return f"http://{f'[{shown}]' if ':' in shown else shown}:{port}/v1"


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach `host`. A name other than localhost counts as reachable from outside."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def plan_server(wish: ServeWish, *, default_key_file: Path) -> ServerPlan:
    """The plan. Raises UsageError (`bad-alias`) for an alias that no URL or JSON should carry."""
    alias = wish.alias if wish.alias is not None else alias_of(wish.model)
    if not re.fullmatch(r"[\w][\w.:/@+-]{0,127}", alias):
        raise UsageError(f"{alias!r} cannot be a model's name", code="bad-alias", hint="--alias my-model")
    reasons = [
        "requests wait for each other; none is cut off by the next (interrupt_requests off)",
        "logits are kept for the last token only (logits_all off)",
    ]
    key_file = wish.api_key_file
    loopback = is_loopback(wish.host)
    if key_file is None and not loopback:
        key_file = default_key_file
        reasons.append(f"{wish.host} can be reached from other machines, so a key is required")
    if key_file is None:
        reasons.append("no key is asked for, because only this machine can reach the server; --api-key-file asks for one")
    settings: dict[str, Any] = {"use_mlock": False, "logits_all": False}
    extra: dict[str, Any] = {}
    for name, value in wish.llama_kwargs.items():
        (settings if name in _SERVER_FIELDS else extra)[name] = value
    if wish.chat_format is not None:
        settings["chat_format"] = wish.chat_format
    defaults, said = request_defaults(wish.sampling)
    reasons += said
    if wish.template_kwargs:
        settings["chat_template_kwargs"] = dict(wish.template_kwargs)
    if wish.embeddings:
        settings["embedding"] = True
        extra.setdefault("pooling_type", _POOLING_MEAN)
        reasons.append("embeddings are one vector per text (mean of its tokens)")
    hosts = ("localhost", "127.0.0.1", "::1", wish.host.strip("[]").lower()) if loopback else ()
    return ServerPlan(
        model=wish.model,
        alias=alias,
        host=wish.host,
        port=wish.port,
        api_key_file=key_file,
        settings=settings,
        extra=extra,
        template=wish.template,
        defaults=defaults,
        allowed_hosts=tuple(dict.fromkeys(hosts)),
        access_log=wish.access_log,
        reasons=tuple(reasons),
    )


def request_defaults(sampling: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """(what the server fills in where a request says nothing, sentences about it)."""
    defaults: dict[str, Any] = {}
    refused = []
    for name, value in sampling.items():
        if value is None or value == ():
            continue
        low, high = _REQUEST_FIELDS.get(name, (0, 0))
        if name == "stop":
            defaults[name] = list(value)
        elif name in _REQUEST_FIELDS and low <= value <= high:
            defaults[name] = value
        else:
            refused.append(f"{name} {value}")
    said = []
    if defaults:
        listed = ", ".join(f"{name} {value}" for name, value in defaults.items())
        said.append(f"what a request leaves out is the recipe's: {listed}")
    if refused:
        said.append(f"llama_cpp.server does not take this of the recipe: {', '.join(refused)}")
    return defaults, said


def alias_of(model: Path) -> str:
    """A model's name from its file: without `.gguf` and without the number of a shard."""
    stem = re.sub(r"(?i)\.gguf$", "", model.name)
    stem = re.sub(r"-\d{5}-of-\d{5}$", "", stem)
    return re.sub(r"[^\w.:@+-]", "-", stem) or "model"
