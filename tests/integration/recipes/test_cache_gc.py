"""`cache gc` beside a download that is under way. By subprocess, against the test hub."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.commands import private_environ, provision
from tests.support.hub import Noise, repo, start_hub

pytestmark = [pytest.mark.integration, pytest.mark.slow]

MIB = 1024 * 1024
SIZE = 24 * MIB


def test_gc_beside_a_download_takes_nothing_from_it(tmp_path: Path) -> None:
    model = Noise(SIZE, 3)
    environ = private_environ(tmp_path, HF_HOME=str(tmp_path / "hf"))
    with start_hub(repos=[repo("team/m", {"m.gguf": model})], throttle_bytes_per_s=2 * MIB) as hub:
        words = [sys.executable, "-m", "provision", "fetch", "team/m", "--file", "m.gguf", "--connections", "2", "--json"]
        fetching = subprocess.Popen(
            words, env={**environ, "HF_ENDPOINT": hub.url}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        while hub.log.body_bytes() < MIB:
            assert fetching.poll() is None
            time.sleep(0.05)
        # Held still, so that it cannot end while the caches are cleared.
        fetching.send_signal(signal.SIGSTOP)
        cleared = provision("cache", "gc", "--unused-for", "0", "--json", home=tmp_path, HF_HOME=str(tmp_path / "hf"))
        fetching.send_signal(signal.SIGCONT)
        assert cleared.exit_code == 0
        assert cleared.data["freed_bytes"] == 0
        assert "in use" in {kept["why"] for kept in cleared.data["kept"]}
        assert fetching.wait() == 0
        assert hub.log.body_bytes() < SIZE + 4 * MIB, "nothing had to be fetched twice"
    verified = provision("cache", "verify", "--json", home=tmp_path, HF_HOME=str(tmp_path / "hf"))
    assert [file["found_sha256"] for file in verified.data["files"]] == [model.sha256]
    # Used a moment ago: kept unless that is said not to matter.
    kept = provision("cache", "gc", "--json", home=tmp_path, HF_HOME=str(tmp_path / "hf")).data
    assert (kept["freed_bytes"], kept["kept"]) == (0, [{"name": "team/m: m.gguf", "why": "used lately"}])
    gone = provision("cache", "gc", "--unused-for", "0", "--json", home=tmp_path, HF_HOME=str(tmp_path / "hf")).data
    assert gone["freed_bytes"] == SIZE
