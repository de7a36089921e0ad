"""A recipe as something other tools start: a compose file, a Podman quadlet, a shell script. All run llama.cpp's own server.

The image is the one llama.cpp publishes (ggml-org/llama.cpp docs/docker.md). Nothing here was run against a container engine.
"""

from __future__ import annotations

import json
import shlex

from provision.recipes.foreign.imported import is_path
from provision.recipes.foreign.llama_server import CARRIED as OPTIONS_CARRY
from provision.recipes.foreign.llama_server import option_values
from provision.recipes.schema import Recipe

CARRIED = OPTIONS_CARRY | {"chat.template"}
"""Settings of a recipe that the written files hold."""

IMAGES = {
    "cpu": "ghcr.io/ggml-org/llama.cpp:server",
    "cuda": "ghcr.io/ggml-org/llama.cpp:server-cuda",
    "vulkan": "ghcr.io/ggml-org/llama.cpp:server-vulkan",
    "rocm": "ghcr.io/ggml-org/llama.cpp:server-rocm",
}
_CONTAINER_PORT = 8080
_INSIDE = "0.0.0.0"  # noqa: S104 - inside the container; the port is published on loopback only


def server_arguments(recipe: Recipe, *, model: str, host: str, port: int) -> list[str]:
    """Arguments of llama-server: the model, and every load and sampling parameter the recipe fixes."""
    arguments = ["-m" if is_path(model) else "-hf", model, "--host", host, "--port", str(port)]
    for option, value in option_values(recipe).items():
        arguments += [f"--{option}", value]
    if recipe.chat.template is not None:
        # Without --jinja before it only the names of built-in templates are taken.
        arguments += ["--jinja", "--chat-template", recipe.chat.template]
    return [*arguments, "--alias", recipe.serve.alias or recipe.name]


def write_compose(recipe: Recipe, *, model: str, backend: str = "cpu") -> str:
    """A compose file with one service; the model cache is a named volume, the port is bound to loopback."""
    command = server_arguments(recipe, model=model, host=_INSIDE, port=_CONTAINER_PORT)
    lines = [
        f"# {recipe.title}; written by provision from recipe {recipe.name}",
        "services:",
        f"  {recipe.name.replace('.', '-')}:",
        f"    image: {IMAGES[backend]}",
        "    restart: unless-stopped",
        "    cap_drop: [ALL]",
        "    security_opt: ['no-new-privileges:true']",
        f"    ports: ['127.0.0.1:{recipe.serve.port}:{_CONTAINER_PORT}']",
        "    volumes: ['models:/root/.cache/llama.cpp']",
        "    command:",
        # Compose puts variables in where it sees a dollar sign.
        *(f"      - {json.dumps(word.replace('$', '$$'), ensure_ascii=False)}" for word in command),
    ]
    if backend == "cuda":
        lines += [
            "    deploy:",
            "      resources:",
            "        reservations:",
            "          devices: [{driver: nvidia, count: all, capabilities: [gpu]}]",
        ]
    lines += ["volumes:", "  models:"]
    return "\n".join(lines) + "\n"


def write_quadlet(recipe: Recipe, *, model: str, backend: str = "cpu") -> str:
    """A Podman quadlet (`NAME.container`): systemd starts it, capabilities dropped, port on loopback."""
    command = server_arguments(recipe, model=model, host=_INSIDE, port=_CONTAINER_PORT)
    lines = [
        f"# {recipe.title}; written by provision from recipe {recipe.name}",
        "[Unit]",
        # A % starts a specifier, and a backslash at the end would draw the next line in.
        f"Description={recipe.title.replace('%', '%%').rstrip(chr(92))}",
        "",
        "[Container]",
        f"Image={IMAGES[backend]}",
        f"PublishPort=127.0.0.1:{recipe.serve.port}:{_CONTAINER_PORT}",
        "Volume=provision-models:/root/.cache/llama.cpp",
        "DropCapability=all",
        "NoNewPrivileges=true",
        f"Exec={' '.join(_systemd_quoted(word) for word in command)}",
    ]
    if backend == "cuda":
        lines.append("AddDevice=nvidia.com/gpu=all")
    lines += ["", "[Service]", "Restart=on-failure", "", "[Install]", "WantedBy=default.target"]
    return "\n".join(lines) + "\n"


def write_shell(recipe: Recipe, *, model: str) -> str:
    """A shell script that starts `llama-server` from PATH."""
    command = ["llama-server", *server_arguments(recipe, model=model, host=recipe.serve.host, port=recipe.serve.port)]
    return "\n".join(
        [
            "#!/bin/sh",
            f"# {recipe.title}; written by provision from recipe {recipe.name}",
            "set -eu",
            f"exec {shlex.join(command)}",
            "",
        ]
    )


def _systemd_quoted(word: str) -> str:
    # systemd.syntax(7): double quotes with C escapes; % starts a specifier and $ a variable.
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("%", "%%").replace("$", "$$")
    return f'"{escaped}"' if not word or any(not (c.isalnum() or c in "-_./:=,") for c in word) else escaped
