"""Every ```console block of the README and the tutorials, run as written, in order, page by page.

The environment is the one the tests run in (it stands for the clone's .venv), the Hub is the one on loopback, and it
serves the demo model under the name the pages use. `./scripts/test` would run this very test; of it only the collection
is run.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.hub import start_hub
from tests.support.quickstarted import engine_provenance, give_wheel

pytestmark = [pytest.mark.integration, pytest.mark.slow]

ROOT = Path(__file__).parents[3]
PAGES = sorted([ROOT / "README.md", ROOT / "README.zh-CN.md", *(ROOT / "docs/tutorial").glob("*.md")])
BLOCK = re.compile(r"^```console\n(.*?)^```", flags=re.MULTILINE | re.DOTALL)
REPOSITORY = "Qwen/Qwen3-0.6B-GGUF"


def commands(page: Path) -> list[str]:
    blocks = BLOCK.findall(page.read_text(encoding="utf-8"))
    return [line.removeprefix("$ ") for block in blocks for line in block.splitlines() if line.startswith("$ ")]


@pytest.fixture
def hub_url(tmp_path: Path) -> Iterator[str]:
    from provision.smoke.demo import demo_model_path

    folder = tmp_path / "served" / REPOSITORY
    folder.mkdir(parents=True)
    shutil.copyfile(demo_model_path(), folder / "Qwen3-0.6B-Q8_0.gguf")
    with start_hub(tmp_path / "served") as hub:
        yield hub.url


@pytest.fixture
def environment(tmp_path: Path, hub_url: str) -> dict[str, str]:
    give_wheel(tmp_path / "provision", engine_provenance())
    own = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "PROVISION_", "XDG_"))}
    return own | {
        "HOME": str(tmp_path / "home"),
        "HF_ENDPOINT": hub_url,
        "HF_HOME": str(tmp_path / "hf"),
        "PROVISION_HOME": str(tmp_path / "provision"),
        "PROVISION_VENV": sys.prefix,
        "NO_COLOR": "1",
    }


def shell_line(command: str, environment: dict[str, str]) -> str:
    if command == "./scripts/test":
        command = "./scripts/test --collect-only -q tests/unit/test_units.py"
    command = re.sub(r"export HF_ENDPOINT=\S+", f"export HF_ENDPOINT={environment['HF_ENDPOINT']}", command)
    command = command.replace(".venv/bin/provision", f"{shlex.quote(sys.executable)} -m provision")
    return command.replace("./scripts/", f"{shlex.quote(str(ROOT))}/scripts/")


def test_there_are_blocks_to_run() -> None:
    assert len(PAGES) >= 10
    assert sum(len(commands(page)) for page in PAGES) >= 30


def test_both_languages_show_the_same_commands() -> None:
    def told(page: Path) -> list[str]:
        return [re.sub(r'".*?"|export .*', "", line) for line in commands(page) if not line.startswith("export ")]

    for page in (ROOT / "docs/tutorial").glob("*.zh.md"):
        assert told(page) == told(page.with_name(page.name.replace(".zh.md", ".md"))), page.name
    assert told(ROOT / "README.zh-CN.md") == told(ROOT / "README.md")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_command_of_the_page_works(page: Path, environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    folder = tmp_path / "work"
    folder.mkdir()
    for command in commands(page):
        line = shell_line(command, environment)
        # Whoever types `provision chat MODEL` goes on typing; here that is one question on stdin.
        typed = "What is the capital of France?\n"
        done = subprocess.run(
            ["bash", "-c", line],
            env=environment,
            cwd=folder,
            input=typed,
            capture_output=True,
            text=True,
            timeout=900,
            check=False,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
