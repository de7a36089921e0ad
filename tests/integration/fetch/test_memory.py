"""Memory stays small whatever the file's size: 200 GB of zeros, served but never stored by the server."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from provision.fetch import journal
from provision.fetch.journal import Identity
from provision.fetch.layout import cache_home
from provision.fetch.partial import read_boot_id
from provision.models.types import RepoFile
from provision.units import GIB, MIB
from tests.support.commands import private_environ
from tests.support.hub import Repo, RunningHub, repo, start_hub

pytestmark = [pytest.mark.integration, pytest.mark.slow]

SIZE = 200 * GIB
PIECE = 8 * MIB


@dataclass(frozen=True)
class Endless:
    """Zeros with a hash nobody gets to check: hashing 200 GB would take minutes, and the runs here are ended before."""

    size_bytes: int = SIZE
    sha256: str = "ab" * 32

    def read(self, offset: int, length: int) -> bytes:
        return bytes(min(length, MIB, self.size_bytes - offset))


def peak_after(hub: RunningHub, home: Path, seconds: float, *, connections: int) -> tuple[int, str]:
    """Highest resident memory in bytes of a fetch that is ended after `seconds`, and what it said."""
    words = ["fetch", "org/huge:Q8_0", "--connections", str(connections), "--progress", "plain"]
    argv = [sys.executable, "-m", "provision", *words]
    process = subprocess.Popen(
        argv, env=private_environ(home, HF_ENDPOINT=hub.url), stderr=subprocess.PIPE, stdout=subprocess.PIPE
    )
    time.sleep(seconds)
    assert process.poll() is None, process.communicate()
    status = Path(f"/proc/{process.pid}/status").read_text()
    process.kill()
    said = process.communicate()[1].decode()
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM:")), said


def huge() -> Repo:
    return repo("org/huge", {"huge-Q8_0.gguf": Endless()})


@pytest.mark.skipif(sys.platform != "linux", reason="resident memory is read from /proc")
@pytest.mark.parametrize("connections", [16, 64])
def test_the_end_of_a_download_of_200_gb(tmp_path: Path, connections: int) -> None:
    # A sparse partial and its journal stand for what is already here: no disk of a test machine holds the rest.
    with start_hub(repos=[huge()]) as hub:
        prepare(tmp_path, hub, missing=400)
        peak, said = peak_after(hub, tmp_path, 12, connections=connections)
        assert hub.log.body_bytes() > 100 * MIB, said
        assert peak <= 100 * MIB


def prepare(home: Path, hub: RunningHub, *, missing: int) -> None:
    """A sparse partial with all but the last `missing` pieces recorded, as after days of downloading."""
    hub_cache = home / ".cache/huggingface/hub"
    commit = hub.repos["org/huge"].head
    file = RepoFile(path="huge-Q8_0.gguf", size_bytes=SIZE, sha256=Endless.sha256)
    place = cache_home(hub_cache, "org/huge", commit, file)
    place.partial.parent.mkdir(parents=True)
    with place.partial.open("wb") as sparse:
        sparse.truncate(SIZE)
    content, chain = journal.header_line(Identity(digest=Endless.sha256, size_bytes=SIZE, piece_bytes=PIECE))
    line, chain = journal.boot_line(read_boot_id(), chain=chain)
    lines = [content, line]
    for index in range(SIZE // PIECE - missing):
        line, chain = journal.piece_line(index, [hub.url], chain=chain)
        lines.append(line)
    place.journal.write_bytes(b"".join(lines))
