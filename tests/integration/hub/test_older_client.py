"""huggingface_hub 1.x against the test hub: what our cache and our hub owe to the generation before."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.hub.test_test_hub import FILES, run_client
from tests.support.hub import Fault, Kind, repo, start_hub

pytestmark = [pytest.mark.integration, pytest.mark.slow]


@pytest.fixture(scope="module")
def older_python(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A Python of its own with huggingface_hub 1.x; skips where the package index cannot be reached."""
    folder = tmp_path_factory.mktemp("hf1")
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True, timeout=120)
    python = folder / "bin" / "python"
    done = subprocess.run(
        [str(python), "-m", "pip", "install", "-q", "huggingface_hub>=1,<2"], capture_output=True, text=True, timeout=600
    )
    if done.returncode != 0:
        pytest.skip(f"huggingface_hub 1.x cannot be installed here: {done.stderr[-300:]}")
    return str(python)


def test_it_lists_and_downloads(older_python: str, tmp_path: Path) -> None:
    with start_hub(repos=[repo("org/m", FILES)], page_size=2) as hub:
        said = run_client(older_python, hub, tmp_path)
        assert said["sha"] == hub.repos["org/m"].head
        assert said["files"]["x-Q4_K_M.gguf"] == [FILES["x-Q4_K_M.gguf"].size_bytes, FILES["x-Q4_K_M.gguf"].sha256]
        assert said["small"] == "hello\n"


def test_a_small_file_behind_a_relative_redirect(older_python: str, tmp_path: Path) -> None:
    with start_hub(repos=[repo("org/m", FILES)]) as hub:
        hub.inject(Fault(kind=Kind.RELATIVE_REDIRECT, where="resolve", path="README.md", times=None))
        assert run_client(older_python, hub, tmp_path)["small"] == "hello\n"
