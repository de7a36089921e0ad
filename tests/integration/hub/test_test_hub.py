"""The test hub itself: the official client must believe it, and its faults must be what they say."""

import http.client
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.support.hub import Fault, Kind, Noise, RunningHub, Zeros, repo, start_hub

pytestmark = pytest.mark.integration
MODEL = Noise(3_000_000, seed=7)
FILES = {"x-Q4_K_M.gguf": MODEL, "sub/y-Q8_0.gguf": Noise(10_000, seed=8), "README.md": b"hello\n", "config.json": b"{}"}

CLIENT = """
import sys, json
from huggingface_hub import HfApi, hf_hub_download, snapshot_download
api = HfApi()
files = {f.path: [f.size, f.lfs and f.lfs.sha256] for f in api.list_repo_tree("org/m", recursive=True) if hasattr(f, "size")}
info = api.repo_info("org/m", files_metadata=True)
refs = api.list_repo_refs("org/m")
paths = [p.path for p in api.get_paths_info("org/m", ["README.md", "none"])]
path = hf_hub_download("org/m", "x-Q4_K_M.gguf")
small = open(hf_hub_download("org/m", "README.md")).read()
snapshot_download("org/m")
branches = [b.name for b in refs.branches]
print(json.dumps(dict(files=files, sha=info.sha, branches=branches, paths=paths, path=path, small=small)))
"""


def client_environ(hub: RunningHub, home: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HF_") and "proxy" not in name.lower()}
    return kept | {"HF_ENDPOINT": hub.url, "HF_HOME": str(home), "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_XET": "1"}


def run_client(python: str, hub: RunningHub, home: Path) -> dict[str, object]:
    done = subprocess.run([python, "-c", CLIENT], env=client_environ(hub, home), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def ask(url: str, *, method: str = "GET", headers: dict[str, str] | None = None) -> tuple[http.client.HTTPResponse, bytes]:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=10)
    try:
        connection.request(method, parts.path + (f"?{parts.query}" if parts.query else ""), headers=headers or {})
        response = connection.getresponse()
        return response, response.read()
    finally:
        connection.close()


def cdn_of(hub: RunningHub, path: str = "x-Q4_K_M.gguf") -> str:
    response, _ = ask(f"{hub.url}/org/m/resolve/main/{path}", method="HEAD")
    return response.headers["Location"]


@pytest.fixture
def hub():
    with start_hub(repos=[repo("org/m", FILES)], page_size=2) as running:
        yield running


def test_the_official_client_lists_and_downloads(hub: RunningHub, tmp_path: Path) -> None:
    said = run_client(sys.executable, hub, tmp_path)
    assert said["sha"] == hub.repos["org/m"].head
    assert said["files"]["x-Q4_K_M.gguf"] == [MODEL.size_bytes, MODEL.sha256]
    assert said["files"]["README.md"] == [6, None]
    assert said["branches"] == ["main"]
    assert said["paths"] == ["README.md"]
    assert said["small"] == "hello\n"
    assert Path(said["path"]).read_bytes() == b"".join(bytes(MODEL.read(at, 1 << 20)) for at in range(0, 3_000_000, 1 << 20))


def test_resolve_leads_to_another_origin_that_wants_no_token(hub: RunningHub) -> None:
    response, _ = ask(f"{hub.url}/org/m/resolve/main/x-Q4_K_M.gguf", method="HEAD")
    assert response.status == 302
    assert response.headers["X-Linked-ETag"] == f'"{MODEL.sha256}"'
    assert response.headers["X-Repo-Commit"] == hub.repos["org/m"].head
    location = response.headers["Location"]
    assert location.startswith(hub.cdn_url + "/")
    part, body = ask(location, headers={"Range": "bytes=1048570-1048585"})
    assert (part.status, part.headers["Content-Range"]) == (206, "bytes 1048570-1048585/3000000")
    assert body == bytes(MODEL.read(1048570, 6)) + bytes(MODEL.read(1048576, 10))
    refused, _ = ask(location, headers={"Authorization": "Bearer hf_x"})
    assert refused.status == 400
    beyond, _ = ask(location, headers={"Range": "bytes=3000000-"})
    assert (beyond.status, beyond.headers["Content-Range"]) == (416, "bytes */3000000")
    hub.expire_signatures()
    assert ask(location)[0].status == 403


def test_gated_private_and_missing_repositories() -> None:
    shut = [repo("o/gated", FILES, gated=True, access=frozenset({"hf_in"})), repo("o/private", FILES, private=True)]
    with start_hub(repos=shut, tokens=["hf_out"]) as hub:

        def code(repo_id: str, token: str | None) -> tuple[int, str | None]:
            headers = {"Authorization": f"Bearer {token}"} if token else {}
            response, _ = ask(f"{hub.url}/{repo_id}/resolve/main/README.md", headers=headers)
            return response.status, response.headers["X-Error-Code"]

        assert code("o/gated", None) == (401, "GatedRepo")
        assert code("o/gated", "hf_out") == (403, "GatedRepo")
        assert code("o/gated", "hf_in") == (200, None)
        assert code("o/private", None) == (401, "RepoNotFound")
        assert code("o/private", "hf_out") == (404, "RepoNotFound")
        assert code("o/none", "hf_out") == (404, "RepoNotFound")
        assert code("o/gated", "hf_forged") == (401, None)


def test_a_folder_is_served_and_terabytes_of_zeros_too(tmp_path: Path) -> None:
    (tmp_path / "org" / "m").mkdir(parents=True)
    (tmp_path / "org" / "m" / "a.txt").write_text("from disk")
    huge = repo("big/zeros", {"z-Q8_0.gguf": Zeros(1 << 40, promised="ab" * 32)})
    with start_hub(tmp_path, repos=[huge]) as hub:
        assert ask(f"{hub.url}/org/m/resolve/main/a.txt")[1] == b"from disk"
        location = ask(f"{hub.url}/big/zeros/resolve/main/z-Q8_0.gguf")[0].headers["Location"]
        response, body = ask(location, headers={"Range": f"bytes={(1 << 40) - 5}-"})
        assert (response.status, body) == (206, b"\0" * 5)


BODY_FAULTS = [
    (Fault(kind=Kind.RANGE_IGNORED), lambda r, b: r.status == 200 and len(b) == 3_000_000),
    (Fault(kind=Kind.OTHER_RANGE, at_byte=10), lambda r, b: r.headers["Content-Range"].startswith("bytes 10-109/")),
    (Fault(kind=Kind.WRONG_TOTAL, at_byte=1), lambda r, b: r.headers["Content-Range"].endswith("/3000001")),
    (Fault(kind=Kind.FLIPPED_BIT, at_byte=5), lambda r, b: b[5] == bytes(MODEL.read(5, 1))[0] ^ 1 and len(b) == 100),
    (Fault(kind=Kind.GROWN, at_byte=4), lambda r, b: r.headers["Content-Range"].endswith("/1048580")),
    (Fault(kind=Kind.GZIP), lambda r, b: r.headers["Content-Encoding"] == "gzip" and b[:2] == b"\x1f\x8b"),
    (Fault(kind=Kind.HTML), lambda r, b: r.status == 200 and b.startswith(b"<!DOCTYPE")),
    (Fault(kind=Kind.STATUS, value=429, seconds=3), lambda r, b: r.status == 429 and "t=3" in r.headers["RateLimit"]),
    (Fault(kind=Kind.STATUS, value=503), lambda r, b: r.status == 503),
    (Fault(kind=Kind.NO_LENGTH), lambda r, b: r.headers["Content-Length"] is None and len(b) == 100),
    (Fault(kind=Kind.CHUNKED), lambda r, b: r.headers["Transfer-Encoding"] == "chunked" and len(b) == 100),
    (Fault(kind=Kind.REDIRECT, text="http://other.invalid/x"), lambda r, b: r.headers["Location"] == "http://other.invalid/x"),
]


@pytest.mark.parametrize(("fault", "holds"), BODY_FAULTS, ids=lambda value: value.kind if isinstance(value, Fault) else "")
def test_faults_of_bodies(hub: RunningHub, fault: Fault, holds) -> None:
    location = cdn_of(hub)
    hub.inject(fault)
    assert holds(*ask(location, headers={"Range": "bytes=0-99"}))
    response, body = ask(location, headers={"Range": "bytes=0-99"})
    assert (response.status, body) == (206, bytes(MODEL.read(0, 100)))
    assert [hit.kind for hit in hub.faults.hits] == [fault.kind]


def test_connections_that_break(hub: RunningHub) -> None:
    location = cdn_of(hub)
    for kind, error in ((Kind.SHORT_BODY, http.client.IncompleteRead), (Kind.RESET, OSError), (Kind.HANG_UP, OSError)):
        hub.inject(Fault(kind=kind, at_byte=50_000))
        with pytest.raises(error):
            ask(location)


def test_stalls_slow_connections_and_throttling(hub: RunningHub) -> None:
    import time

    location = cdn_of(hub)

    def seconds(byte_count: int) -> float:
        began = time.monotonic()
        ask(location, headers={"Range": f"bytes=0-{byte_count - 1}"})
        return time.monotonic() - began

    hub.inject(Fault(kind=Kind.STALL, at_byte=10, seconds=0.3))
    assert seconds(100) >= 0.3
    hub.inject(Fault(kind=Kind.SLOW, value=100_000))
    assert seconds(30_000) >= 0.25
    hub.throttle(1_000_000)
    assert 0.15 <= seconds(200_000) < 1.0


def test_faults_of_the_api(hub: RunningHub) -> None:
    tree = f"{hub.url}/api/models/org/m/tree/main?recursive=true"
    hub.inject(
        Fault(kind=Kind.LINK_ELSEWHERE, where="tree", text="https://origin.invalid"),
        Fault(kind=Kind.UPPER_SHA, where="tree", times=None),
        Fault(kind=Kind.NO_COMMIT, where="resolve"),
        Fault(kind=Kind.HEAD_REFUSED, where="resolve", method="HEAD", skip=1),
        Fault(kind=Kind.RELATIVE_REDIRECT, where="resolve", path="README.md"),
    )
    response, _ = ask(tree)
    assert response.headers["Link"].startswith("<https://origin.invalid/api/models/org/m/tree/main?")
    response, body = ask(tree + "&cursor=4")
    assert json.loads(body)[-1]["lfs"]["oid"] == MODEL.sha256.upper()
    assert response.headers["Link"] is None
    readme = f"{hub.url}/org/m/resolve/main/README.md"
    response, _ = ask(readme, method="HEAD")
    assert response.headers["X-Repo-Commit"] is None
    assert response.status == 307
    assert response.headers["Location"].startswith("/api/resolve-cache/models/org/m/")
    assert ask(hub.url + response.headers["Location"])[1] == b"hello\n"
    assert ask(readme, method="HEAD")[0].status == 405
    assert ask(hub.url + "/api/something/new")[0].status == 404


def test_modelscope(hub: RunningHub) -> None:
    base = f"{hub.modelscope_url}/api/v1/models/org/m"
    files = json.loads(ask(f"{base}/repo/files?Revision=master&Recursive=True")[1])["Data"]["Files"]
    assert {file["Path"]: file["Sha256"] for file in files}["x-Q4_K_M.gguf"] == MODEL.sha256
    assert [file["Path"] for file in files if file["Type"] == "tree"] == ["sub"]
    response, _ = ask(f"{base}/repo?Revision=master&FilePath=x-Q4_K_M.gguf")
    assert response.status == 302
    assert ask(response.headers["Location"], headers={"Range": "bytes=0-9"})[1] == bytes(MODEL.read(0, 10))
    assert json.loads(ask(f"{base}/revisions")[1])["Data"]["RevisionMap"]["Branches"] == [{"Revision": "master"}]


def test_https_with_an_authority_of_its_own() -> None:
    import ssl

    with start_hub(repos=[repo("org/m", FILES)], tls=True) as hub:
        parts = urlsplit(hub.url)
        trusting = ssl.create_default_context(cafile=str(hub.ca_file))
        connection = http.client.HTTPSConnection(parts.hostname or "", parts.port, timeout=10, context=trusting)
        connection.request("GET", "/api/models/org/m")
        assert json.loads(connection.getresponse().read())["sha"] == hub.repos["org/m"].head
        connection.close()
        stranger = http.client.HTTPSConnection(
            parts.hostname or "", parts.port, timeout=10, context=ssl.create_default_context()
        )
        with pytest.raises(ssl.SSLCertVerificationError):
            stranger.request("GET", "/")


def test_stopping_leaves_no_open_port() -> None:
    with start_hub(repos=[repo("org/m", FILES)]) as hub:
        parts = urlsplit(hub.url)
        idle = socket.create_connection((parts.hostname, parts.port))
    assert idle.recv(1) == b""
    idle.close()
    with pytest.raises(OSError, match="refused"):
        socket.create_connection((parts.hostname, parts.port), timeout=2)
