from pathlib import Path

import pytest
import yaml

from provision.chat.serving import ServeWish, plan_server
from provision.chat.units import UNITS, UnitPlan, model_files, unit_text
from provision.errors import UsageError


def unit(kind: str, *, model: str = "/models/demo.gguf", **options: object) -> str:
    kwargs = options.pop("llama_kwargs", {"n_ctx": 4096, "n_gpu_layers": 0, "type_k": 8, "flash_attn": True})
    wish = ServeWish(model=Path(model), llama_kwargs=kwargs, **options)  # type: ignore[arg-type]
    server = plan_server(wish, default_key_file=Path("/state/serve.key"))
    command = ("/venv/bin/python", "-m", "provision", "serve", model, "--offline")
    kept = Path("/state/templates/x.jinja") if server.template is not None else None
    plan = UnitPlan(server=server, command=command, state=Path("/state"), files=(Path(model),), template_file=kept)
    return unit_text(kind, plan)


def test_systemd_is_hardened_and_keeps_to_itself() -> None:
    text = unit("systemd")
    for line in (
        "Type=notify",
        "NoNewPrivileges=yes",
        "CapabilityBoundingSet=",
        "ProtectSystem=strict",
        "ProtectHome=read-only",
        "PrivateDevices=yes",
        "SystemCallFilter=@system-service",
        "IPAddressDeny=any",
        "UMask=0077",
        "KillMode=mixed",
    ):
        assert line in text.splitlines()
    assert "MemoryDenyWriteExecute=yes" not in text


def test_systemd_lets_a_gpu_and_other_machines_through_when_they_are_meant() -> None:
    gpu = unit("systemd", llama_kwargs={"n_gpu_layers": -1})
    assert "PrivateDevices=yes" not in gpu
    assert "IPAddressDeny=any" not in unit("systemd", host="0.0.0.0")


@pytest.mark.parametrize("model", ["/m/a b.gguf", "/m/100%.gguf", "/m/$HOME.gguf", '/m/a"b.gguf', "/m/a;b.gguf"])
def test_systemd_words_survive_their_special_characters(model: str) -> None:
    line = next(line for line in unit("systemd", model=model, alias="x").splitlines() if line.startswith("ExecStart="))
    words = _systemd_split(line.removeprefix("ExecStart="))
    assert words[4] == model


def test_compose_is_yaml_with_nothing_writable_and_no_privileges() -> None:
    text = unit("compose", host="0.0.0.0", model="/m/$x: y.gguf", alias="x")
    service = yaml.safe_load(text)["services"]["llm"]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert all(mount["read_only"] for mount in service["volumes"])
    assert service["volumes"][0]["source"] == "/m/$$x: y.gguf"
    assert service["volumes"][1]["source"] == "/state/serve.key"
    assert "--api-key-file" in service["command"]
    assert service["command"][service["command"].index("--cache-type-k") + 1] == "q8_0"
    assert service["ports"] == ["0.0.0.0:8000:8080"]
    assert "deploy" not in service


def test_containers_get_the_template_its_variables_and_the_sampling() -> None:
    text = unit(
        "compose", template="{{ x }}", template_kwargs={"think": False}, sampling={"temperature": 0.6, "stop": ("END",)}
    )
    service = yaml.safe_load(text)["services"]["llm"]
    flags = service["command"]
    assert flags[flags.index("--chat-template-file") + 1] == service["volumes"][1]["target"] == "/run/template.jinja"
    assert service["volumes"][1]["source"] == "/state/templates/x.jinja"
    assert flags[flags.index("--chat-template-kwargs") + 1] == '{"think": false}'
    assert flags[flags.index("--temp") + 1] == "0.6"
    assert "Volume=/state/templates/x.jinja:/run/template.jinja:ro" in unit("quadlet", template="{{ x }}").splitlines()


def test_a_named_format_is_said_in_the_words_of_llama_cpp_or_refused() -> None:
    flags = yaml.safe_load(unit("compose", chat_format="llama-3"))["services"]["llm"]["command"]
    assert flags[flags.index("--chat-template") + 1] == "llama3"
    with pytest.raises(UsageError, match="'qwen'") as caught:
        unit("quadlet", chat_format="qwen")
    assert caught.value.code == "template-unsupported"
    assert unit("systemd", chat_format="qwen")


def test_a_gpu_model_asks_for_the_gpu_image_and_device() -> None:
    service = yaml.safe_load(unit("compose", llama_kwargs={"n_gpu_layers": -1}))["services"]["llm"]
    assert service["image"].endswith(":server-cuda")
    assert service["command"][service["command"].index("--n-gpu-layers") + 1] == "999"
    assert service["deploy"]["resources"]["reservations"]["devices"][0]["driver"] == "nvidia"
    assert "AddDevice=nvidia.com/gpu=all" in unit("quadlet", llama_kwargs={"n_gpu_layers": -1})


def test_quadlet() -> None:
    text = unit("quadlet")
    for line in ("ReadOnly=true", "DropCapability=ALL", "NoNewPrivileges=true", "PublishPort=127.0.0.1:8000:8080"):
        assert line in text.splitlines()
    with pytest.raises(UsageError):
        unit("quadlet", model="/m/a:b.gguf", alias="x")
    odd = unit("quadlet", model="/m/a b/100%$.gguf", alias="x")
    assert "Volume=/m/a b/100%%$$.gguf:/models/100%%$$.gguf:ro" in odd.splitlines()


def test_no_kind_goes_unchecked() -> None:
    for kind in UNITS:
        assert unit(kind)
        with pytest.raises(UsageError):
            unit(kind, model="/m/line\nbreak.gguf", alias="x") if kind != "compose" else unit("launchd")


def test_all_shards_of_a_split_are_mounted() -> None:
    names = ["m-00002-of-00002.gguf", "m-00001-of-00002.gguf", "m-00001-of-00003.gguf", "other.gguf"]
    files = model_files(Path("/c/m-00001-of-00002.gguf"), names)
    assert [file.name for file in files] == ["m-00001-of-00002.gguf", "m-00002-of-00002.gguf"]
    assert model_files(Path("/c/one.gguf"), names) == (Path("/c/one.gguf"),)


def _systemd_split(line: str) -> list[str]:
    """The words systemd would make of it (systemd.service(5): quotes, backslashes, %% and $$)."""
    words, word, quoted, at = [], "", False, 0
    while at < len(line):
        char = line[at]
        if char == "\\":
            at += 1
            word += line[at]
        elif char == '"':
            quoted = not quoted
        elif char == " " and not quoted:
            words.append(word)
            word = ""
        elif char in "%$":
            assert line[at + 1] == char, f"{char} would be replaced by systemd"
            at += 1
            word += char
        else:
            word += char
        at += 1
    return [*words, word]
