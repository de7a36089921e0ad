"""The cache is shared: what we fetch, the official client finds offline, and what it fetched, we use."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from provision.units import MIB
from tests.support.commands import private_environ, provision
from tests.support.hub import RunningHub, repo, start_hub

pytestmark = pytest.mark.integration

MODEL = random.Random(5).randbytes(5 * MIB + 1)
REPO = "org/tiny-GGUF"
FILES = {"tiny-Q8_0.gguf": MODEL, "sub/tiny-Q4_0.gguf": MODEL[:MIB], "config.json": b"{}\n"}


@pytest.fixture
def hub() -> Iterator[RunningHub]:
    with start_hub(repos=[repo(REPO, FILES)]) as running:
        yield running


def python(code: str, home: Path, **environ: str) -> str:
    """Runs `code` as another program of the same user; returns what it printed."""
    env = private_environ(home, HF_HUB_DISABLE_TELEMETRY="1", HF_HUB_DISABLE_PROGRESS_BARS="1", **environ)
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, timeout=120)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode().strip()


def hf(*words: str, home: Path, **environ: str) -> subprocess.CompletedProcess[bytes]:
    tool = Path(sys.executable).with_name("hf")
    if not tool.exists():
        pytest.skip("the hf command is not installed beside this Python")
    return subprocess.run([tool, *words], env=private_environ(home, **environ), capture_output=True, timeout=120)


DOWNLOAD = "import huggingface_hub as h; print(h.hf_hub_download('org/tiny-GGUF', {path!r}))"


def test_the_official_client_finds_our_files_offline(hub: RunningHub, tmp_path: Path) -> None:
    ran = provision("fetch", REPO, "--include", "*", "--json", home=tmp_path, HF_ENDPOINT=hub.url)
    assert ran.exit_code == 0, ran.stderr
    for file in ran.data["files"]:
        found = python(DOWNLOAD.format(path=file["path"]), tmp_path, HF_HUB_OFFLINE="1")
        assert found == file["local_path"]
    snapshot = "import huggingface_hub as h; print(h.snapshot_download('org/tiny-GGUF'))"
    assert python(snapshot, tmp_path, HF_HUB_OFFLINE="1") == str(Path(ran.data["files"][0]["local_path"]).parent)


@pytest.mark.slow
def test_online_it_downloads_nothing_again(hub: RunningHub, tmp_path: Path) -> None:
    provision("fetch", REPO, "--include", "*", home=tmp_path, HF_ENDPOINT=hub.url)
    sent = hub.log.body_bytes(path="tiny-Q8_0.gguf")
    python(DOWNLOAD.format(path="tiny-Q8_0.gguf"), tmp_path, HF_ENDPOINT=hub.url)
    assert hub.log.body_bytes(path="tiny-Q8_0.gguf") == sent == len(MODEL)


@pytest.mark.slow
def test_its_cache_tools_are_content(hub: RunningHub, tmp_path: Path) -> None:
    provision("fetch", REPO, "--include", "*", home=tmp_path, HF_ENDPOINT=hub.url)
    scan = "import huggingface_hub as h; i = h.scan_cache_dir(); print(len(i.repos), len(i.warnings), i.size_on_disk)"
    assert python(scan, tmp_path) == f"1 0 {sum(map(len, FILES.values()))}"
    listed = hf("cache", "ls", home=tmp_path)
    assert REPO in listed.stdout.decode()
    verified = hf("cache", "verify", REPO, home=tmp_path, HF_ENDPOINT=hub.url)
    assert verified.returncode == 0, verified.stdout.decode() + verified.stderr.decode()


def test_what_it_fetched_is_verified_and_used(hub: RunningHub, tmp_path: Path) -> None:
    path = python(DOWNLOAD.format(path="tiny-Q8_0.gguf"), tmp_path, HF_ENDPOINT=hub.url, HF_HUB_DISABLE_XET="1")
    sent = hub.log.body_bytes()
    ran = provision("fetch", f"{REPO}:Q8_0", "--json", home=tmp_path, HF_ENDPOINT=hub.url)
    assert ran.data["files"][0]["action"] == "kept"
    assert ran.data["files"][0]["local_path"] == path
    assert hub.log.body_bytes() == sent
    assert provision("verify", f"{REPO}:Q8_0", home=tmp_path).exit_code == 0


@pytest.mark.slow
def test_what_it_fetched_wrong_is_noticed_and_replaced(hub: RunningHub, tmp_path: Path) -> None:
    path = Path(python(DOWNLOAD.format(path="tiny-Q8_0.gguf"), tmp_path, HF_ENDPOINT=hub.url, HF_HUB_DISABLE_XET="1"))
    path.resolve().write_bytes(MODEL[:-1] + b"?")
    ran = provision("verify", f"{REPO}:Q8_0", "--json", home=tmp_path)
    assert ran.exit_code == 8
    assert json.loads(ran.stdout)["data"]["files"][0]["status"] == "damaged"
    ran = provision("fetch", f"{REPO}:Q8_0", "--json", home=tmp_path, HF_ENDPOINT=hub.url)
    assert ran.data["files"][0]["action"] == "repaired"
    assert path.read_bytes() == MODEL


@pytest.mark.slow
def test_modes_follow_the_umask_like_everybodys(hub: RunningHub, tmp_path: Path) -> None:
    theirs, ours = tmp_path / "theirs", tmp_path / "ours"
    python(DOWNLOAD.format(path="tiny-Q8_0.gguf"), theirs, HF_ENDPOINT=hub.url, HF_HUB_DISABLE_XET="1")
    provision("fetch", f"{REPO}:Q8_0", home=ours, HF_ENDPOINT=hub.url)

    def modes(home: Path) -> dict[str, int]:
        root = home / ".cache/huggingface/hub"
        kept = ("blobs", "refs", "snapshots", ".locks")
        paths = [path for path in root.rglob("*") if any(part in kept for part in path.relative_to(root).parts)]
        return {path.relative_to(root).as_posix(): os.lstat(path).st_mode for path in paths if "trees" not in path.parts}

    assert modes(ours) == modes(theirs)


@pytest.mark.slow
def test_the_tree_of_a_commit_is_written_as_the_official_client_writes_it(hub: RunningHub, tmp_path: Path) -> None:
    theirs, ours = tmp_path / "theirs", tmp_path / "ours"
    snapshot = "import huggingface_hub as h; print(h.snapshot_download('org/tiny-GGUF'))"
    python(snapshot, theirs, HF_ENDPOINT=hub.url, HF_HUB_DISABLE_XET="1")
    provision("fetch", f"{REPO}:Q8_0", home=ours, HF_ENDPOINT=hub.url)
    written = [next((home / ".cache/huggingface/hub").rglob("trees/*.json")) for home in (theirs, ours)]
    assert written[0].name == written[1].name
    assert json.loads(written[0].read_text()) == json.loads(written[1].read_text())
    # So it notices offline that only one quant of the repository is here.
    env = private_environ(ours, HF_HUB_OFFLINE="1")
    asked = subprocess.run([sys.executable, "-c", snapshot], env=env, capture_output=True, timeout=120)
    assert b"IncompleteSnapshotError" in asked.stderr


@pytest.mark.slow
def test_a_cache_without_symlinks_serves_and_is_verified(hub: RunningHub, tmp_path: Path) -> None:
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(
        "import os\ndef refuse(*words, **options):\n    raise OSError(1, 'no links here')\nos.symlink = os.link = refuse\n"
    )
    ran = provision("fetch", REPO, "--include", "*", "--json", home=tmp_path, HF_ENDPOINT=hub.url, PYTHONPATH=str(site))
    assert ran.exit_code == 0, ran.stderr
    paths = {file["path"]: Path(file["local_path"]) for file in ran.data["files"]}
    assert {name: path.read_bytes() for name, path in paths.items()} == FILES
    assert not any(path.is_symlink() for path in paths.values())
    assert provision("verify", REPO, home=tmp_path).exit_code == 0
    paths["tiny-Q8_0.gguf"].write_bytes(MODEL[:-1] + b"?")
    ran = provision("verify", REPO, "--json", home=tmp_path)
    assert ran.exit_code == 8
    assert [file["path"] for file in ran.data["files"] if file["status"] == "damaged"] == ["tiny-Q8_0.gguf"]


def demo_bytes() -> bytes:
    pytest.importorskip("llama_cpp", reason="the engine is not installed in this environment")
    from provision.errors import NotFoundError
    from provision.smoke.demo import demo_model_path

    try:
        return demo_model_path().read_bytes()
    except NotFoundError as error:
        pytest.skip(error.message)


def test_llama_cpp_python_loads_it_by_repository_name(hub: RunningHub, tmp_path: Path) -> None:
    hub.add(repo("org/demo-GGUF", {"demo-Q8_0.gguf": demo_bytes()}))
    ran = provision("fetch", "org/demo-GGUF:Q8_0", "--json", home=tmp_path, HF_ENDPOINT=hub.url)
    assert ran.exit_code == 0, ran.stderr
    load = (
        "from llama_cpp import Llama\n"
        "llm = Llama.from_pretrained('org/demo-GGUF', filename='demo-Q8_0.gguf', n_ctx=64, verbose=False)\n"
        "print(llm.n_vocab() > 0)"
    )
    # from_pretrained lists the repository first, so the hub answers that; the bytes are ours.
    sent = hub.log.body_bytes()
    assert python(load, tmp_path, HF_ENDPOINT=hub.url) == "True"
    assert hub.log.body_bytes() == sent
    # Without a network from_pretrained itself cannot work (0.3.36: HfFileSystem has no offline form); its two halves do.
    offline = (
        "from llama_cpp import Llama; from huggingface_hub import hf_hub_download\n"
        "llm = Llama(hf_hub_download('org/demo-GGUF', 'demo-Q8_0.gguf'), n_ctx=64, verbose=False)\n"
        "print(llm.n_vocab() > 0)"
    )
    asked = len(hub.log.all())
    assert python(offline, tmp_path, HF_HUB_OFFLINE="1") == "True"
    assert len(hub.log.all()) == asked
