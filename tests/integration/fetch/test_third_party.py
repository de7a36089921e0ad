"""Real mirrors, a real CDN and the older official client. Slow: they are installed first, privately."""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from provision.units import MIB
from tests.support.commands import private_environ, provision
from tests.support.hub import repo, start_hub
from tests.support.third_party import Unavailable, environment, nginx

pytestmark = [pytest.mark.integration, pytest.mark.slow]

MODEL = random.Random(11).randbytes(20 * MIB + 3)
REPO = "org/tiny-GGUF"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


@contextlib.contextmanager
def running(argv: list[str], port: int, *, cwd: Path, env: dict[str, str] | None = None) -> Iterator[None]:
    """A server program until the block ends; waits until it listens."""
    with (cwd / "server.log").open("wb") as log:
        process = subprocess.Popen(argv, cwd=cwd, env=env, stdout=log, stderr=log)
    try:
        for _ in range(200):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
            assert process.poll() is None, (cwd / "server.log").read_text()
            time.sleep(0.1)
        yield
    finally:
        process.terminate()
        process.wait(timeout=20)


def test_through_olah(tmp_path: Path) -> None:
    """A caching mirror that knows nothing of us; the second user gets everything from its cache."""
    try:
        tools = environment(tmp_path / "venv", "olah==0.5.4")
    except Unavailable as missing:
        pytest.skip(str(missing))
    with start_hub(repos=[repo(REPO, {"tiny-Q8_0.gguf": MODEL})]) as hub:
        port = free_port()
        mirror = f"127.0.0.1:{port}"
        upstream = ["--hf-scheme", "http", "--hf-netloc", hub.url[7:], "--hf-lfs-netloc", hub.cdn_url[7:]]
        own = ["--mirror-scheme", "http", "--mirror-netloc", mirror, "--mirror-lfs-netloc", mirror]
        stores = ["--repos-path", str(tmp_path / "repos"), "--log-path", str(tmp_path / "logs")]
        argv = [str(tools / "olah-cli"), "--host", "127.0.0.1", "--port", str(port), *upstream, *own, *stores]
        with running(argv, port, cwd=tmp_path):
            for user in ("first", "second"):
                ran = provision(
                    "fetch", f"{REPO}:Q8_0", "--json", home=tmp_path / user, HF_ENDPOINT=f"http://{mirror}", timeout_s=150
                )
                assert ran.exit_code == 0, ran.stdout + ran.stderr
                assert Path(ran.data["files"][0]["local_path"]).read_bytes() == MODEL


CONFIG = """
{user} worker_processes 1; daemon off; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{ worker_connections 256; }}
http {{ access_log off; sendfile on; client_body_temp_path {folder}/t1; proxy_temp_path {folder}/t2;
  fastcgi_temp_path {folder}/t3; uwsgi_temp_path {folder}/t4; scgi_temp_path {folder}/t5; gzip on; gzip_types *;
  server {{ listen 127.0.0.1:{port}; limit_rate 2m; location / {{ root {folder}/served/; try_files /model.bin =404; }} }} }}
"""


def kill_after_a_piece(words: list[str], home: Path, **environ: str) -> None:
    """Run until the journal has recorded a piece, then SIGKILL: at 2 MiB/s per connection the rest takes seconds."""
    env = private_environ(home, **environ)
    process = subprocess.Popen([sys.executable, "-m", "provision", *words], env=env, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 30
    while not any(
        b'"piece"' in line for path in home.rglob("*-journal.incomplete") for line in path.read_bytes().splitlines()[1:]
    ):
        assert process.poll() is None, "it ended before it had recorded a piece"
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.kill()
    process.wait(timeout=20)


def test_through_nginx_killed_and_resumed(tmp_path: Path) -> None:
    """A CDN that would compress if it were asked for less than identity, with a limit per connection."""
    try:
        program = nginx(tmp_path / "nginx")
    except Unavailable as missing:
        pytest.skip(str(missing))
    (tmp_path / "served").mkdir()
    (tmp_path / "served/model.bin").write_bytes(MODEL)
    port = free_port()
    # As root, nginx's workers become somebody who may not look into our folders.
    user = "user root;" if os.geteuid() == 0 else ""
    (tmp_path / "nginx.conf").write_text(CONFIG.format(folder=tmp_path, port=port, user=user))
    argv = [str(program.path), "-c", str(tmp_path / "nginx.conf"), "-e", str(tmp_path / "error.log")]
    with (
        start_hub(repos=[repo(REPO, {"tiny-Q8_0.gguf": MODEL})]) as hub,
        running(argv, port, cwd=tmp_path, env={**os.environ, **program.env}),
    ):
        hub._world.cdn_url = f"http://127.0.0.1:{port}"
        words = ["fetch", f"{REPO}:Q8_0", "--json", "--connections", "2"]
        kill_after_a_piece(words, tmp_path / "home", HF_ENDPOINT=hub.url)
        ran = provision(*words, home=tmp_path / "home", HF_ENDPOINT=hub.url)
        assert ran.exit_code == 0, ran.stdout + ran.stderr
        (file,) = ran.data["files"]
        assert file["action"] == "resumed"
        assert hashlib.sha256(Path(file["local_path"]).read_bytes()).hexdigest() == file["sha256"]
        assert hub.log.all(face="cdn") == []


def test_huggingface_hub_1_shares_the_cache_both_ways(tmp_path: Path) -> None:
    try:
        tools = environment(tmp_path / "venv", "huggingface_hub<2")
    except Unavailable as missing:
        pytest.skip(str(missing))
    files = {"tiny-Q8_0.gguf": MODEL, "tiny-Q4_0.gguf": MODEL[:MIB]}
    with start_hub(repos=[repo(REPO, files)]) as hub:
        # 1.x follows redirects of HEAD within a host whatever the port; the real CDN is another host.
        hub._world.cdn_url = hub.cdn_url.replace("127.0.0.1", "localhost")

        def theirs(name: str, **environ: str) -> str:
            code = f"import huggingface_hub as h; assert h.__version__ < '2'; print(h.hf_hub_download('{REPO}', '{name}'))"
            env = private_environ(tmp_path, HF_HUB_DISABLE_XET="1", HF_HUB_DISABLE_PROGRESS_BARS="1", **environ)
            done = subprocess.run([tools / "python", "-c", code], env=env, capture_output=True, timeout=60)
            assert done.returncode == 0, done.stderr.decode()
            return done.stdout.decode().strip()

        ours = provision("fetch", f"{REPO}:Q8_0", "--json", home=tmp_path, HF_ENDPOINT=hub.url)
        assert theirs("tiny-Q8_0.gguf", HF_HUB_OFFLINE="1") == ours.data["files"][0]["local_path"]
        path = theirs("tiny-Q4_0.gguf", HF_ENDPOINT=hub.url)
        again = provision("fetch", f"{REPO}:Q4_0", "--json", home=tmp_path, HF_ENDPOINT=hub.url)
        assert (again.data["files"][0]["action"], again.data["files"][0]["local_path"]) == ("kept", path)
