"""The container files `serve --unit` and `recipe export` print, read by the programs they are written for."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from provision.smoke.demo import demo_model_path
from tests.support.commands import provision
from tests.support.container_tools import ContainerTools, prepare
from tests.support.debian import Unavailable

pytestmark = [pytest.mark.integration, pytest.mark.slow]
HARDENED = ("--cap-drop all", "--read-only", "--security-opt=no-new-privileges", "--pids-limit 512", "--userns keep-id")


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> ContainerTools:
    try:
        return prepare(tmp_path_factory.mktemp("tools"))
    except Unavailable as why:
        pytest.skip(f"no compose and quadlet to read the files with: {why}")


@pytest.fixture
def unit(tmp_path: Path) -> Callable[[str], str]:
    """Prints a unit for a model in a folder with every character that some format gives a meaning to."""
    folder = tmp_path / "a $HOME 100% 'b'"
    folder.mkdir()
    model = folder / "demo-Q8_0.gguf"
    shutil.copy(demo_model_path(), model)
    template = folder / "own.jinja"
    template.write_text("{% for m in messages %}{{ m['content'] }}{% endfor %}")

    def text(kind: str) -> str:
        words = ["serve", model, "--unit", kind, "--host", "0.0.0.0", "--template", template, "--ctx", "512"]
        ran = provision(*words, home=tmp_path)
        assert ran.exit_code == 0, ran.stderr
        return ran.stdout

    return text


def test_compose_reads_every_value_as_it_was_meant(tools: ContainerTools, unit: Callable[[str], str], tmp_path: Path) -> None:
    file = tmp_path / "compose.yaml"
    file.write_text(unit("compose"))
    service: dict[str, Any] = yaml.safe_load(tools.compose(file))["services"]["llm"]
    # compose writes `$` as `$$` again, so that what it prints may be read once more.
    sources = [str(mount["source"]).replace("$$", "$") for mount in service["volumes"]]
    assert [Path(source).exists() for source in sources] == [True] * 3, sources
    assert sources[0] == str(tmp_path / "a $HOME 100% 'b'" / "demo-Q8_0.gguf")
    assert all(mount["read_only"] for mount in service["volumes"])
    assert {mount["target"] for mount in service["volumes"]} >= {"/run/secrets/api-key", "/run/template.jinja"}
    assert (service["read_only"], service["cap_drop"], service["security_opt"]) == (True, ["ALL"], ["no-new-privileges:true"])
    flags = service["command"]
    assert flags[flags.index("--ctx-size") + 1] == "512"
    assert service["ports"][0]["host_ip"] == "0.0.0.0"


def test_quadlet_makes_a_hardened_service_of_it(tools: ContainerTools, unit: Callable[[str], str], tmp_path: Path) -> None:
    units = tmp_path / "units"
    units.mkdir()
    (units / "llm.container").write_text(unit("quadlet"))
    service = tools.quadlet(units)
    assert "---llm.service---" in service
    started = next(line for line in service.splitlines() if line.startswith("ExecStart="))
    for words in HARDENED:
        assert words in started
    mounts = re.findall(r'-v ("[^"]+"|\S+)', started.partition(" ghcr.io/")[0])
    assert len(mounts) == 3
    # systemd takes %% for % and $$ for $.
    model = str(tmp_path / "a $HOME 100% 'b'" / "demo-Q8_0.gguf").replace("%", "%%").replace("$", "$$")
    assert mounts[0].strip('"').startswith(model), mounts[0]
    assert started.endswith("--no-webui")


@pytest.mark.parametrize("recipe", ["qwen3-8b"])
def test_what_recipes_are_exported_to_is_read_too(recipe: str, tools: ContainerTools, tmp_path: Path) -> None:
    units = tmp_path / "units"
    units.mkdir()
    for to, name in (("compose", "compose.yaml"), ("quadlet", "llm.container")):
        ran = provision("recipe", "export", recipe, "--to", to, home=tmp_path)
        assert ran.exit_code == 0, ran.stderr
        (units / name).write_text(ran.stdout)
    assert yaml.safe_load(tools.compose(units / "compose.yaml"))["services"]
    assert "ExecStart=" in tools.quadlet(units)
