"""The environment, read once in one place and passed down as frozen data. A blank value counts as unset."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

OFFICIAL_ENDPOINT = "https://huggingface.co"
# README of abetlen/llama-cpp-python: `--extra-index-url https://abetlen.github.io/llama-cpp-python/whl/<tag>`.
OFFICIAL_WHEEL_INDEX = "https://abetlen.github.io/llama-cpp-python/whl"
CHOICES_FILE = "choices.json"
"""In our own folder: CC and CXX as `provision doctor --fix` chose them. The environment wins over it."""
_TRUE = {"1", "on", "yes", "true"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything the environment says to us. Paths are absolute; `environ` is the full environment for child processes."""

    environ: Mapping[str, str]
    home: Path
    provision_home: Path
    """Own state: wheels/, toolkits/, records; `PROVISION_HOME` or the platform's user data folder."""
    hf_home: Path
    hf_hub_cache: Path
    endpoint: str
    """`HF_ENDPOINT` without a trailing slash, else the official Hub."""
    token: str | None
    """`HF_TOKEN` or the token file of the official client. Never printed, never sent to a foreign origin."""
    offline: bool
    cuda_home: Path | None
    cuda_visible_devices: str | None
    """None when unset; an empty string hides every GPU, so blank is kept here, and only here."""
    cmake_args: str
    wheel_index: str
    """Where prebuilt engines are listed, one folder per tag: `PROVISION_WHEEL_INDEX`, else the maintainer's index."""
    no_color: bool

    def __repr__(self) -> str:
        # The default repr would print the token and the whole environment into tracebacks.
        return f"Settings(endpoint={self.endpoint!r}, provision_home={str(self.provision_home)!r})"


def read_settings(environ: Mapping[str, str], *, home: Path) -> Settings:
    """Settings from an environment mapping; `home` is the user's home folder."""

    def value(*names: str) -> str | None:
        for name in names:
            text = environ.get(name, "").strip()
            if text:
                return text
        return None

    def path(text: str) -> Path:
        expanded = Path(text)
        if text == "~" or text.startswith("~/"):
            expanded = home / text[2:]
        return expanded if expanded.is_absolute() else Path.cwd() / expanded

    cache_home = path(value("XDG_CACHE_HOME") or str(home / ".cache"))
    hf_home = path(value("HF_HOME") or str(cache_home / "huggingface"))
    hub_cache = path(value("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE") or str(hf_home / "hub"))
    own = value("PROVISION_HOME")
    cuda = value("CUDA_HOME", "CUDA_PATH")
    provision_home = path(own) if own else _default_provision_home(environ, home)
    return Settings(
        environ={**environ, **_choices(provision_home, environ)},
        home=home,
        provision_home=provision_home,
        hf_home=hf_home,
        hf_hub_cache=hub_cache,
        endpoint=(value("HF_ENDPOINT") or OFFICIAL_ENDPOINT).rstrip("/"),
        token=value("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN") or _token_file(value("HF_TOKEN_PATH"), hf_home),
        offline=(value("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE") or "").lower() in _TRUE,
        cuda_home=path(cuda) if cuda else None,
        cuda_visible_devices=environ.get("CUDA_VISIBLE_DEVICES"),
        cmake_args=value("CMAKE_ARGS") or "",
        wheel_index=(value("PROVISION_WHEEL_INDEX") or OFFICIAL_WHEEL_INDEX).rstrip("/"),
        no_color=bool(environ.get("NO_COLOR")),
    )


def _default_provision_home(environ: Mapping[str, str], home: Path) -> Path:
    import platformdirs

    data_home = environ.get("XDG_DATA_HOME", "").strip()
    if data_home and Path(data_home).is_absolute():
        return Path(data_home) / "provision"
    default = platformdirs.user_data_path("provision", appauthor=False)
    # platformdirs asks the process's own environment; what was passed in wins over it.
    real_home = Path.home()
    return home / default.relative_to(real_home) if default.is_relative_to(real_home) else default


def _choices(provision_home: Path, environ: Mapping[str, str]) -> dict[str, str]:
    """The compilers chosen by `provision doctor --fix`, unless the user names any."""
    try:
        chosen = json.loads((provision_home / CHOICES_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(chosen, dict) or any(environ.get(name, "").strip() for name in ("CC", "CXX")):
        return {}
    return {name: path for name in ("CC", "CXX") if isinstance(path := chosen.get(name), str) and Path(path).is_absolute()}


def _token_file(explicit: str | None, hf_home: Path) -> str | None:
    file = Path(explicit) if explicit else hf_home / "token"
    try:
        return file.read_text(encoding="utf-8").strip() or None
    except (OSError, UnicodeDecodeError):
        return None
