"""What cannot end well is said before anything is downloaded, and no odd listing ends in a traceback."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.commands import provision
from tests.support.hub import RunningHub, repo, start_hub

pytestmark = pytest.mark.integration

MODEL = b"m" * 5000
DEEP = "a/" * 70 + "m-Q2_K.gguf"


@pytest.fixture
def hub() -> Iterator[RunningHub]:
    files = {"m-Q8_0.gguf": MODEL, DEEP: MODEL[:100], "x\udcff.txt": b"?", "sub/nosize.json": b"{}"}
    with start_hub(repos=[repo("org/m-GGUF", files)]) as running:
        origin = running.repos["org/m-GGUF"]
        origin.branches["aux"] = origin.head
        yield running


def test_a_branch_the_cache_cannot_remember_is_refused_with_its_commit(hub: RunningHub, tmp_path: Path) -> None:
    ran = provision("fetch", "org/m-GGUF:Q8_0", "--revision", "aux", "--json", home=tmp_path, HF_ENDPOINT=hub.url)
    assert (ran.exit_code, ran.envelope["errors"][0]["code"]) == (2, "bad-revision")
    assert hub.log.body_bytes() == 0
    again = shlex.split(ran.envelope["errors"][0]["hint"])
    assert again == ["provision", "fetch", "org/m-GGUF:Q8_0", "--revision", hub.repos["org/m-GGUF"].head]
    assert provision(*again[1:], home=tmp_path, HF_ENDPOINT=hub.url).exit_code == 0


def test_a_folder_where_the_file_belongs_is_named_first(hub: RunningHub, tmp_path: Path) -> None:
    folder = tmp_path / "models"
    (folder / "m-Q8_0.gguf").mkdir(parents=True)
    ran = provision("fetch", "org/m-GGUF:Q8_0", "--local-dir", str(folder), "--json", home=tmp_path, HF_ENDPOINT=hub.url)
    assert (ran.exit_code, ran.envelope["errors"][0]["code"]) == (3, "is-a-folder")
    assert hub.log.body_bytes() == 0


def test_a_path_of_many_folders_comes_like_any_other(hub: RunningHub, tmp_path: Path) -> None:
    ran = provision("fetch", "org/m-GGUF:Q2_K", "--json", home=tmp_path, HF_ENDPOINT=hub.url)
    assert ran.exit_code == 0, ran.stdout + ran.stderr
    assert Path(ran.data["files"][0]["local_path"]).read_bytes() == MODEL[:100]


@pytest.mark.parametrize("source", ["hf", "modelscope"])
def test_a_name_that_is_no_text_spoils_nothing_but_itself(hub: RunningHub, tmp_path: Path, source: str) -> None:
    environ = {"HF_ENDPOINT": hub.url, "MODELSCOPE_DOMAIN": hub.modelscope_url}
    ran = provision("fetch", "org/m-GGUF:Q8_0", "--source", source, "--json", home=tmp_path, **environ)
    assert ran.exit_code == 0, ran.stdout + ran.stderr
    odd = provision("fetch", "org/m-GGUF", "--include", "x*", "--source", source, "--json", home=tmp_path, **environ)
    assert (odd.exit_code, odd.envelope["errors"][0]["code"]) == (8, "unsafe-name")
