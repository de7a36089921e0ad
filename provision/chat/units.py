"""Service files for a served model: systemd, compose and Podman quadlet, each given no more than it needs. Pure text."""

from __future__ import annotations

import json
import os.path
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from provision.chat.serving import ServerPlan, is_loopback
from provision.errors import UsageError

UNITS = ("systemd", "compose", "quadlet")
_IMAGE = "ghcr.io/ggml-org/llama.cpp"
_TEMPLATE = "/run/template.jinja"
# Formats of llama-cpp-python that are built into llama.cpp too, by its names (src/llama-chat.cpp of 0.5.0-dev).
_TEMPLATES = {
    "chatml": "chatml", "llama-2": "llama2", "llama-3": "llama3", "gemma": "gemma", "vicuna": "vicuna", "zephyr": "zephyr",
    "openchat": "openchat",
}  # fmt: skip
_SAMPLING = {
    "temperature": "--temp", "top_k": "--top-k", "top_p": "--top-p", "min_p": "--min-p", "repeat_penalty": "--repeat-penalty",
    "presence_penalty": "--presence-penalty", "frequency_penalty": "--frequency-penalty", "max_tokens": "--predict",
    "seed": "--seed",
}  # fmt: skip
_CACHE_TYPES = {0: "f32", 1: "f16", 2: "q4_0", 8: "q8_0"}  # enum ggml_type, ggml 0.25.3


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitPlan:
    """What a unit says: the plan of the server, who starts it, and where its files lie."""

    server: ServerPlan
    command: tuple[str, ...]
    """The argument list that starts `provision serve` here; used by systemd, which runs this very installation."""
    state: Path
    """PROVISION_HOME; the only folder systemd lets the service write."""
    files: tuple[Path, ...]
    """The model's files, all shards of a split, links resolved."""
    template_file: Path | None = None
    """The Jinja file that holds `server.template`, for containers."""


def unit_text(kind: str, plan: UnitPlan) -> str:
    """The file. Raises UsageError (`bad-option`) for a kind that does not exist."""
    match kind:
        case "systemd":
            return _systemd(plan)
        case "compose":
            return _compose(plan)
        case "quadlet":
            return _quadlet(plan)
    raise UsageError(f"--unit {kind!r} is not one of {', '.join(UNITS)}", code="bad-option", hint="see --help")


def model_files(model: Path, siblings: Sequence[str]) -> tuple[Path, ...]:
    """All shards of a split model among the names in its folder, or the one file."""
    match = re.fullmatch(r"(.*)-\d{5}-of-(\d{5})(\.gguf)", model.name, re.IGNORECASE)
    if match is None:
        return (model,)
    shard = re.compile(re.escape(match.group(1)) + r"-\d{5}-of-" + match.group(2) + r"\.gguf", re.IGNORECASE)
    return tuple(model.parent / name for name in sorted(siblings) if shard.fullmatch(name))


def _systemd(plan: UnitPlan) -> str:
    server = plan.server
    gpu = int(server.settings.get("n_gpu_layers", 0)) != 0
    local = is_loopback(server.host)
    lines = [
        f"# provision serve {server.alias}: put it into ~/.config/systemd/user/, or with User= into /etc/systemd/system/, then",
        "#   systemctl [--user] daemon-reload && systemctl [--user] enable --now NAME.service",
        "[Unit]",
        f"Description={_systemd_text(server.alias)} (provision serve)",
        "After=network.target",
        "",
        "[Service]",
        "Type=notify",
        f"ExecStart={' '.join(_systemd_word(word) for word in plan.command)}",
        "Restart=on-failure",
        "RestartSec=5",
        "KillMode=mixed",
        "TimeoutStartSec=infinity",
        "TimeoutStopSec=30",
        "UMask=0077",
        f"Environment={_systemd_word(f'PROVISION_HOME={plan.state}')}",
        "NoNewPrivileges=yes",
        "CapabilityBoundingSet=",
        "AmbientCapabilities=",
        "ProtectSystem=strict",
        "ProtectHome=read-only",
        f"ReadWritePaths=-{_systemd_word(str(plan.state))}",
        "PrivateTmp=yes",
        "ProtectProc=invisible",
        "ProtectClock=yes",
        "ProtectHostname=yes",
        "ProtectKernelTunables=yes",
        "ProtectKernelModules=yes",
        "ProtectKernelLogs=yes",
        "ProtectControlGroups=yes",
        "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6",
        "RestrictNamespaces=yes",
        "RestrictRealtime=yes",
        "RestrictSUIDSGID=yes",
        "LockPersonality=yes",
        "SystemCallArchitectures=native",
        "SystemCallFilter=@system-service",
    ]
    # GPU drivers need their device nodes. ctypes callbacks need executable memory, so MemoryDenyWriteExecute stays off.
    lines += [] if gpu else ["PrivateDevices=yes"]
    lines += ["IPAddressDeny=any", "IPAddressAllow=localhost"] if local else []
    lines += ["", "[Install]", "WantedBy=default.target"]
    return "\n".join(lines) + "\n"


def _server_flags(plan: UnitPlan) -> list[str]:
    """llama-server's flags for the same deployment, inside a container (tools/server/README.md of llama.cpp)."""
    server = plan.server
    settings: Mapping[str, Any] = {**server.extra, **server.settings}
    layers = int(settings.get("n_gpu_layers", 0))
    flags = ["--model", f"/models/{plan.files[0].name}", "--alias", server.alias, "--host", "0.0.0.0", "--port", "8080"]  # noqa: S104
    flags += ["--ctx-size", str(settings.get("n_ctx", 0)), "--n-gpu-layers", "999" if layers < 0 else str(layers)]
    flags += ["--flash-attn", "on" if settings.get("flash_attn") else "off"]
    for name, flag in (("type_k", "--cache-type-k"), ("type_v", "--cache-type-v")):
        if settings.get(name) in _CACHE_TYPES:
            flags += [flag, _CACHE_TYPES[settings[name]]]
    for name, flag in (("n_batch", "--batch-size"), ("n_ubatch", "--ubatch-size"), ("n_threads", "--threads")):
        if settings.get(name):
            flags += [flag, str(settings[name])]
    if settings.get("tensor_split"):
        flags += ["--tensor-split", ",".join(str(share) for share in settings["tensor_split"])]
    if settings.get("embedding"):
        flags += ["--embeddings", "--pooling", "mean"]
    if server.api_key_file is not None:
        flags += ["--api-key-file", "/run/secrets/api-key"]
    return [*flags, *_prompt_flags(plan), *_sampling_flags(server.defaults), "--no-webui"]


def _prompt_flags(plan: UnitPlan) -> list[str]:
    """Template, named format and template variables. Raises UsageError for a format llama.cpp has no name for."""
    flags = []
    name = plan.server.settings.get("chat_format")
    if plan.template_file is not None:
        flags += ["--chat-template-file", _TEMPLATE]
    elif name is not None and name not in _TEMPLATES:
        raise UsageError(
            f"llama.cpp's own server has no chat template named {name!r}",
            code="template-unsupported",
            hint="give the template itself: --template FILE (or --unit systemd, which runs llama_cpp.server)",
        )
    elif name is not None:
        flags += ["--chat-template", _TEMPLATES[name]]
    variables = plan.server.settings.get("chat_template_kwargs")
    return [*flags, "--chat-template-kwargs", json.dumps(variables, sort_keys=True)] if variables else flags


def _sampling_flags(defaults: Mapping[str, Any]) -> list[str]:
    """Sampling a request may still override. Words to stop at have no flag; requests bring their own."""
    return [word for name, flag in _SAMPLING.items() if name in defaults for word in (flag, str(defaults[name]))]


def _image(plan: UnitPlan) -> str:
    return f"{_IMAGE}:server-cuda" if int(plan.server.settings.get("n_gpu_layers", 0)) != 0 else f"{_IMAGE}:server"


_UNTRIED = (
    "# Runs llama.cpp's own server with the arguments chosen for this machine. Written by `provision serve --unit`, which",
    "# starts no container: the image was not tried here. Pin it to a digest once it runs.",
)


def _compose(plan: UnitPlan) -> str:
    """JSON strings are YAML strings, so every value from outside is written as one."""
    server = plan.server
    gpu = int(server.settings.get("n_gpu_layers", 0)) != 0
    q = json.dumps
    lines = [
        *_UNTRIED,
        "services:",
        "  llm:",
        f"    image: {q(_image(plan))}",
        "    command:",
        *(f"      - {q(_compose_text(flag))}" for flag in _server_flags(plan)),
        "    ports:",
        f"      - {q(f'{_bind(server.host)}:{server.port}:8080')}",
        "    volumes:",
    ]
    for source, target in _mounts(plan):
        lines += [
            "      - type: bind",
            f"        source: {q(_compose_text(str(source)))}",
            f"        target: {q(_compose_text(target))}",
            "        read_only: true",
        ]
    lines += [
        "    read_only: true",
        "    tmpfs: [/tmp]",
        f"    user: {q(f'{_uid()}:{_gid()}')}",
        "    cap_drop: [ALL]",
        "    security_opt: [no-new-privileges:true]",
        "    pids_limit: 512",
        "    init: true",
        "    restart: unless-stopped",
        "    stop_grace_period: 30s",
        "    healthcheck:",
        '      test: ["CMD", "curl", "-f", "http://localhost:8080/health"]',
        "      interval: 10s",
        "      start_period: 5m",
    ]
    if gpu:
        lines += [
            "    deploy:",
            "      resources:",
            "        reservations:",
            "          devices:",
            "            - {driver: nvidia, count: all, capabilities: [gpu]}",
        ]
    return "\n".join(lines) + "\n"


def _quadlet(plan: UnitPlan) -> str:
    server = plan.server
    gpu = int(server.settings.get("n_gpu_layers", 0)) != 0
    lines = [
        *_UNTRIED,
        "# Put it into ~/.config/containers/systemd/NAME.container, then:",
        "#   systemctl --user daemon-reload && systemctl --user start NAME",
        "[Unit]",
        f"Description={_systemd_text(server.alias)} (llama.cpp server)",
        "",
        "[Container]",
        f"Image={_image(plan)}",
        f"Exec={' '.join(_systemd_word(flag) for flag in _server_flags(plan))}",
        f"PublishPort={_bind(server.host)}:{server.port}:8080",
        *(f"Volume={_volume(source, target)}" for source, target in _mounts(plan)),
        "UserNS=keep-id",
        "ReadOnly=true",
        "Tmpfs=/tmp",
        "DropCapability=ALL",
        "NoNewPrivileges=true",
        "PidsLimit=512",
        "RunInit=true",
        "HealthCmd=curl -f http://localhost:8080/health",
        "HealthStartPeriod=5m",
        *(["AddDevice=nvidia.com/gpu=all"] if gpu else []),
        "",
        "[Service]",
        "Restart=on-failure",
        "TimeoutStartSec=900",
        "",
        "[Install]",
        "WantedBy=default.target",
    ]
    return "\n".join(lines) + "\n"


def _mounts(plan: UnitPlan) -> list[tuple[Path, str]]:
    """(file on this machine, its place inside). Links are resolved: a cache keeps files as links to blobs without names."""
    mounts = [(Path(os.path.realpath(file)), f"/models/{file.name}") for file in plan.files]
    if plan.server.api_key_file is not None:
        mounts.append((plan.server.api_key_file, "/run/secrets/api-key"))
    if plan.template_file is not None:
        mounts.append((plan.template_file, _TEMPLATE))
    return mounts


def _bind(host: str) -> str:
    name = "127.0.0.1" if host == "localhost" else host
    return f"[{name}]" if ":" in name else name


def _uid() -> int:
    return os.getuid() if hasattr(os, "getuid") else 1000


def _gid() -> int:
    return os.getgid() if hasattr(os, "getgid") else 1000


def _volume(source: Path, target: str) -> str:
    text = f"{source}:{target}:ro"
    if ":" in str(source) or any(char in text for char in "\n\r"):
        raise UsageError(f"{source} has a character that a quadlet volume cannot carry", code="bad-path", hint="move the file")
    # Unlike Exec, a Volume is not split into words: quadlet takes the line as it is and quotes it itself (Podman 5.4).
    return text.replace("%", "%%").replace("$", "$$")


def _compose_text(text: str) -> str:
    """Compose puts variables in place of `$NAME`."""
    return text.replace("$", "$$")


def _systemd_text(text: str) -> str:
    return re.sub(r"[\x00-\x1f\x7f]", " ", text).replace("%", "%%")


def _systemd_word(word: str) -> str:
    """One word of a command line or a list, quoted and escaped (systemd.service(5), systemd.syntax(7))."""
    if any(char in word for char in "\n\r\0"):
        raise UsageError(f"{word!r} has a line break, which no unit can carry", code="bad-path", hint="rename it")
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{escaped}"' if re.search(r"[\s'\";\\]", escaped) or not escaped else escaped
