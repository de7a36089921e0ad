import configparser
import json
import shlex
import tomllib
from pathlib import Path

import pytest
import yaml

from provision.errors import UsageError
from provision.recipes.exchange import export_text, guess_kind, import_file, to_toml, write_new
from provision.recipes.foreign.model_yaml import read_model_yaml
from provision.recipes.foreign.modelfile import read_modelfile
from provision.recipes.foreign.preset_ini import read_preset
from provision.recipes.load import load_recipe, parse_recipe, recipe_names
from provision.recipes.schema import Recipe

MODELFILE = '''# comment
FROM hf.co/Qwen/Qwen3-8B-GGUF:Q4_K_M
PARAMETER temperature 0.6
PARAMETER num_ctx 4096
PARAMETER stop "<|im_end|>"
PARAMETER stop "a \\"b"
PARAMETER mirostat 2
TEMPLATE """{{ .Prompt }}
second line"""
SYSTEM """You are
kind."""
MESSAGE user hi
'''

PRESETS = """version = 1
[*]
temp = 0.7
mmap = 1

[Qwen3.5-4B]
hf = unsloth/Qwen3.5-4B-GGUF:Q4_K_M
ctx-size = 8192
temp = 1.0
flash-attn = auto
n-gpu-layers = 99
chat-template-kwargs = {"enable_thinking": false}
spec-default = 1

[local]
model = /models/x.gguf
"""

MODEL_YAML = """model: qwen/qwen3-8b
base:
  - key: a
    sources:
      - {type: huggingface, user: lmstudio-community, repo: Qwen3-8B-MLX-4bit}
  - key: b
    sources:
      - {type: huggingface, user: lmstudio-community, repo: Qwen3-8B-GGUF}
config:
  operation:
    fields:
      - {key: llm.prediction.temperature, value: 0.6}
      - {key: llm.prediction.topPSampling, value: {checked: true, value: 0.95}}
      - {key: llm.prediction.minPSampling, value: {checked: false, value: 0.3}}
      - key: llm.prediction.reasoning.parsing
        value: {enabled: true, startString: <think>, endString: </think>}
      - {key: llm.prediction.tools, value: x}
  load:
    fields:
      - {key: llm.load.contextLength, value: 4096}
"""


def full_recipe() -> Recipe:
    return parse_recipe(
        {
            "name": "mine",
            "title": "Mine",
            "model": {"repo": "org/name-GGUF"},
            "select": {"quant": "Q8_0"},
            "load": {"n_ctx": 4096, "n_gpu_layers": 20, "kv_type": "q8_0", "flash_attn": True, "use_mmap": True},
            "chat": {"system": "Be 'kind' $HOME 100%", "template_kwargs": {"enable_thinking": False}},
            "sampling": {"temperature": 0.5, "top_k": 20, "stop": ['say "no"', "line\nbreak"], "max_tokens": 99},
            "serve": {"port": 9000, "alias": "me"},
        },
        source="test",
    )


def test_modelfile_to_recipe() -> None:
    imported = read_modelfile(MODELFILE)
    recipe = parse_recipe(imported.data, source="x")
    assert recipe.model.repo == "Qwen/Qwen3-8B-GGUF"
    assert recipe.select.quant == "Q4_K_M"
    assert recipe.load.n_ctx == 4096
    assert recipe.sampling.stop == ("<|im_end|>", 'a \\"b'), "Ollama knows no escapes"
    assert recipe.chat.system == "You are\nkind."
    assert len(imported.notes) == 3
    assert any("mirostat" in note for note in imported.notes)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("FROM llama3.2", "Ollama's own library"),
        ("PARAMETER temperature 1", "no FROM line"),
        ("FROM ./a.gguf\nPARAMETER temperature warm", "not a number"),
        ('FROM ./a.gguf\nSYSTEM """open', "never close"),
        ("FROM ./a.gguf\nRUN rm -rf /", "no instruction 'RUN'"),
    ],
)
def test_a_modelfile_that_cannot_be_a_recipe_says_why(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        read_modelfile(text)
    assert caught.value.code == "bad-import"


def test_preset_section_with_its_defaults() -> None:
    imported = read_preset(PRESETS, section="Qwen3.5-4B")
    recipe = parse_recipe(imported.data, source="x")
    assert recipe.name == "qwen3.5-4b"
    assert recipe.model.repo == "unsloth/Qwen3.5-4B-GGUF"
    assert (recipe.sampling.temperature, recipe.load.use_mmap, recipe.load.n_gpu_layers) == (1.0, True, 99)
    assert recipe.load.flash_attn is None
    assert recipe.chat.template_kwargs == {"enable_thinking": False}
    assert imported.notes == ("option spec-default has no counterpart and was left out",)


def test_a_file_of_several_presets_asks_which() -> None:
    with pytest.raises(UsageError, match="2 presets") as caught:
        read_preset(PRESETS)
    assert "--section" in caught.value.hint


@pytest.mark.parametrize("text", ["[a]\nhf = x\n", "[a]\nhf", "[a]\n[a]\n", "[a]\nmodel = x.gguf\nctx-size = many\n"])
def test_a_broken_preset_is_one_error(text: str) -> None:
    with pytest.raises(UsageError):
        read_preset(text)


def test_model_yaml_takes_the_gguf_source() -> None:
    imported = read_model_yaml(MODEL_YAML)
    recipe = parse_recipe(imported.data, source="x")
    assert recipe.model.repo == "lmstudio-community/Qwen3-8B-GGUF"
    assert (recipe.sampling.temperature, recipe.sampling.top_p, recipe.sampling.min_p) == (0.6, 0.95, None)
    assert recipe.chat.reasoning is not None
    assert recipe.chat.reasoning.open == "<think>"
    assert recipe.load.n_ctx == 4096
    assert len(imported.notes) == 2


@pytest.mark.parametrize(
    "text", ["", "- a", "model: 3", "model: a/b\nbase: []", "a: [", "!!python/object/apply:os.system [true]"]
)
def test_a_broken_model_yaml_is_one_error_and_runs_nothing(text: str) -> None:
    with pytest.raises(UsageError):
        read_model_yaml(text)


def test_modelfile_round_trip() -> None:
    recipe = full_recipe()
    back = parse_recipe(read_modelfile(export_text(recipe, to="modelfile")).data, source="x")
    assert back.model.repo == recipe.model.repo
    assert back.select.quant == "Q8_0"
    assert back.sampling == recipe.sampling
    assert back.chat.system == recipe.chat.system
    assert (back.load.n_ctx, back.load.n_gpu_layers, back.load.use_mmap) == (4096, 20, True)


def test_preset_round_trip() -> None:
    recipe = full_recipe()
    text = export_text(recipe, to="preset")
    back = parse_recipe(read_preset(text).data, source="x")
    assert back.load == recipe.load
    assert back.sampling.model_copy(update={"stop": recipe.sampling.stop}) == recipe.sampling
    assert back.chat.template_kwargs == recipe.chat.template_kwargs
    assert back.serve == recipe.serve
    parser = configparser.ConfigParser(interpolation=None)
    parser.read_string(text)
    assert parser["mine"]["hf"] == "org/name-GGUF:Q8_0"


def test_compose_is_yaml_and_stays_on_loopback() -> None:
    document = yaml.safe_load(export_text(full_recipe(), to="compose", backend="cuda"))
    service = document["services"]["mine"]
    assert service["ports"] == ["127.0.0.1:9000:8080"]
    assert service["image"].endswith(":server-cuda")
    command = service["command"]
    assert command[command.index("-hf") + 1] == "org/name-GGUF:Q8_0"
    assert json.loads(command[command.index("--chat-template-kwargs") + 1]) == {"enable_thinking": False}
    assert "devices" in service["deploy"]["resources"]["reservations"]


def test_quadlet_and_shell_quote_what_they_carry() -> None:
    quadlet = export_text(full_recipe(), to="quadlet")
    assert "PublishPort=127.0.0.1:9000:8080" in quadlet
    exec_line = next(line for line in quadlet.splitlines() if line.startswith("Exec="))
    assert '"{\\"enable_thinking\\": false}"' in exec_line
    words = shlex.split(export_text(full_recipe(), to="shell").splitlines()[-1])
    assert words[:2] == ["exec", "llama-server"]
    assert words[words.index("--port") + 1] == "9000"


@pytest.mark.parametrize("field", ["title", "license"])
def test_no_line_break_can_reach_another_tool_s_file(field: str) -> None:
    data = {"name": "x", "title": "X", "model": {"repo": "a/b"}, field: "a\nExecStartPre=/bin/evil"}
    with pytest.raises(UsageError):
        parse_recipe(data, source="x")
    with pytest.raises(UsageError):
        export_text(full_recipe(), to="preset", model="a\n[b]")


def test_every_shipped_recipe_with_a_repository_can_be_written_in_every_format() -> None:
    for name in recipe_names():
        recipe = load_recipe(name)
        if recipe.model.repo:
            for to in ("modelfile", "preset", "compose", "quadlet", "shell"):
                assert recipe.model.repo in export_text(recipe, to=to)


def test_toml_of_a_recipe_reads_back_the_same() -> None:
    for recipe in (full_recipe(), *(load_recipe(name) for name in recipe_names())):
        assert parse_recipe(tomllib.loads(to_toml(recipe)), source="x").to_data() == recipe.to_data()


def test_import_of_a_file_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "Modelfile").write_text(MODELFILE, encoding="utf-8")
    text, recipe, notes = import_file(tmp_path / "Modelfile", kind="auto", section=None, name="qwen")
    assert recipe.name == "qwen"
    assert tomllib.loads(text)["name"] == "qwen"
    assert notes
    assert [guess_kind(name) for name in ("x.Modelfile", "model.yaml", "preset.ini")] == ["modelfile", "model.yaml", "preset"]
    with pytest.raises(UsageError, match="cannot tell"):
        guess_kind("x.txt")


def test_an_export_never_replaces_a_file(tmp_path: Path) -> None:
    target = tmp_path / "out"
    assert write_new(target, "a").read_text(encoding="utf-8") == "a"
    with pytest.raises(UsageError, match="exists already"):
        write_new(target, "b")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
