"""Listing from a Hub, from mirrors with their habits, from ModelScope and from the cache; and each way it can fail."""

import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from provision.errors import AccessError, ExitCode, NotFoundError, ProvisionError, TransferError, UsageError
from provision.events import Event, Note
from provision.hub.http import Asker
from provision.hub.listing import list_repo
from provision.models.refs import parse_ref
from tests.integration.hub.test_test_hub import client_environ
from tests.support.hub import Fault, Kind, Literal, Noise, RunningHub, repo, start_hub
from tests.support.settings import settings_in

pytestmark = pytest.mark.integration
MODEL = Noise(200_000, seed=1)
FILES = {"x-Q4_K_M.gguf": MODEL, "sub/deep/y-Q8_0.gguf": Noise(10_000, seed=2), "README.md": b"hello\n", "a.json": b"{}"}
REF = parse_ref("org/m")


@pytest.fixture
def hub():
    with start_hub(repos=[repo("org/m", FILES)], page_size=2, tokens=["hf_other"]) as running:
        yield running


def test_a_listing_is_pinned_and_complete_over_pages(hub: RunningHub, tmp_path: Path) -> None:
    listing = list_repo(REF, settings=settings_in(tmp_path, HF_ENDPOINT=hub.url + "/"))
    assert listing.commit == hub.repos["org/m"].head
    assert (listing.revision, listing.endpoint, listing.source) == ("main", hub.url, "hf")
    assert {file.path: (file.size_bytes, file.sha256) for file in listing.files} == {
        "x-Q4_K_M.gguf": (200_000, MODEL.sha256),
        "sub/deep/y-Q8_0.gguf": (10_000, FILES["sub/deep/y-Q8_0.gguf"].sha256),
        "README.md": (6, None),
        "a.json": (2, None),
    }
    readme = next(file for file in listing.files if file.path == "README.md")
    assert readme.git_sha1 == "ce013625030ba8dba906f756967f9e9ca394464a"  # git hash-object of "hello\n"


def test_branches_tags_and_commits(hub: RunningHub, tmp_path: Path) -> None:
    settings = settings_in(tmp_path, HF_ENDPOINT=hub.url)
    first = hub.repos["org/m"].head
    pull = hub.repos["org/m"].push({"z-Q8_0.gguf": b"z"}, branch="refs/pr/1")
    hub.repos["org/m"].tags["v1"] = first
    assert list_repo(parse_ref("org/m@refs/pr/1"), settings=settings).commit == pull
    assert list_repo(parse_ref("org/m@v1"), settings=settings).commit == first
    hub.log.clear()
    assert [file.path for file in list_repo(parse_ref(f"org/m@{pull}"), settings=settings).files] == ["z-Q8_0.gguf"]
    assert hub.log.all(where="info") == []


def test_the_mirror_is_never_left_for_the_next_page(hub: RunningHub, tmp_path: Path) -> None:
    hub.inject(Fault(kind=Kind.LINK_ELSEWHERE, where="tree", text="https://huggingface.co", times=None))
    listing = list_repo(REF, settings=settings_in(tmp_path, HF_ENDPOINT=hub.url))
    assert len(listing.files) == 4


def test_a_mirror_below_a_path_and_a_renamed_repository(hub: RunningHub, tmp_path: Path) -> None:
    old = repo("old/name", {"a": b""})
    old.renamed_to = "org/m"
    hub.add(old)
    assert len(list_repo(parse_ref("old/name"), settings=settings_in(tmp_path, HF_ENDPOINT=hub.url)).files) == 4


def test_upper_case_hashes_and_missing_lfs(hub: RunningHub, tmp_path: Path) -> None:
    settings = settings_in(tmp_path, HF_ENDPOINT=hub.url)
    hub.inject(Fault(kind=Kind.UPPER_SHA, where="tree", times=None))
    assert {file.sha256 for file in list_repo(REF, settings=settings).files} >= {MODEL.sha256}
    hub.inject(Fault(kind=Kind.NO_LFS, where="tree", times=None))
    assert {file.sha256 for file in list_repo(REF, settings=settings).files} == {None}


def test_a_mirror_without_trees_is_asked_for_its_info(hub: RunningHub, tmp_path: Path) -> None:
    hub.inject(Fault(kind=Kind.STATUS, where="tree", value=404))
    listing = list_repo(REF, settings=settings_in(tmp_path, HF_ENDPOINT=hub.url))
    assert {file.sha256 for file in listing.files} >= {MODEL.sha256}
    assert len(listing.files) == 4


def test_a_busy_hub_is_asked_again_after_the_time_it_names(hub: RunningHub, tmp_path: Path) -> None:
    hub.inject(
        Fault(kind=Kind.STATUS, where="info", value=429, seconds=7),
        Fault(kind=Kind.STATUS, where="info", value=503, skip=1),
        Fault(kind=Kind.HANG_UP, where="info", skip=2),
    )
    waits: list[float] = []
    events: list[Event] = []
    with Asker(settings_in(tmp_path), reporter=events.append, sleep=waits.append) as asker:
        answer = asker.ask(f"{hub.url}/api/models/org/m", headers_for=lambda url: {})
    assert answer.status == 200
    assert waits == [8.0, 1.0, 2.0]
    assert all(isinstance(event, Note) and event.level == "warning" for event in events)


def test_a_hub_that_answers_byte_by_byte_is_not_waited_for(hub: RunningHub, tmp_path: Path) -> None:
    hub.inject(Fault(kind=Kind.DRIP, where="info", seconds=0.05, times=None))
    began = time.monotonic()
    with Asker(settings_in(tmp_path), answer_s=1.0) as asker:
        with pytest.raises(TransferError) as caught:
            asker.ask(f"{hub.url}/api/models/org/m", headers_for=lambda url: {})
        # The connection that hangs is not in the way of the next question.
        assert asker.ask(f"{hub.url}/api/models/org/m/tree/main", headers_for=lambda url: {}).status == 200
    assert caught.value.code == "hub-slow"
    assert hub.url in caught.value.message
    assert time.monotonic() - began < 3


def failure(hub_url: str, home: Path, ref: str = "org/m", **environ: str) -> ProvisionError:
    with pytest.raises(ProvisionError) as caught:
        list_repo(parse_ref(ref), settings=settings_in(home, HF_ENDPOINT=hub_url, **environ))
    assert caught.value.hint
    return caught.value


def test_what_is_not_there(hub: RunningHub, tmp_path: Path) -> None:
    for ref, code in (
        ("org/none", "repo-not-found"),
        ("org/m@none", "revision-not-found"),
        (f"org/m@{'0' * 40}", "revision-not-found"),
    ):
        error = failure(hub.url, tmp_path, ref)
        assert (type(error), error.code) == (NotFoundError, code)
        assert error.exit_code is ExitCode.NOT_FOUND


def test_what_is_not_for_us(hub: RunningHub, tmp_path: Path) -> None:
    hub.add(repo("org/secret", FILES, private=True, access=frozenset({"hf_in"})), repo("org/off", FILES, disabled=True))
    origins = {"PROVISION_TOKEN_ORIGINS": hub.url}
    assert failure(hub.url, tmp_path, "org/secret").code == "repo-not-found"
    withheld = failure(hub.url, tmp_path, "org/secret", HF_TOKEN="hf_in")
    assert f"PROVISION_TOKEN_ORIGINS={hub.url}" in withheld.hint
    ref = parse_ref("org/secret")
    assert list_repo(ref, settings=settings_in(tmp_path, HF_ENDPOINT=hub.url, HF_TOKEN="hf_in", **origins)).files
    wrong = failure(hub.url, tmp_path, "org/secret", HF_TOKEN="hf_forged", **origins)
    assert (type(wrong), wrong.code, wrong.exit_code) == (AccessError, "bad-token", ExitCode.ACCESS)
    assert "hf_forged" not in wrong.message + wrong.hint
    assert failure(hub.url, tmp_path, "org/off").code == "repo-disabled"


def test_what_is_no_hub_at_all(hub: RunningHub, tmp_path: Path) -> None:
    for kind, where in ((Kind.HTML, "info"), (Kind.HTML, "tree"), (Kind.BROKEN_JSON, "tree")):
        hub.inject(Fault(kind=kind, where=where))
        error = failure(hub.url, tmp_path)
        assert (type(error), error.code) == (TransferError, "not-a-hub")
    assert failure("ftp://x", tmp_path).code == "bad-endpoint"
    assert isinstance(failure("localhost:8080", tmp_path), UsageError)


def test_a_hub_that_is_not_there(tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        error = failure(f"http://127.0.0.1:{unused.getsockname()[1]}", tmp_path)
    assert (error.code, error.exit_code) == ("hub-unreachable", ExitCode.TRANSFER)


def test_a_certificate_nobody_vouches_for_and_the_ca_file_that_does(tmp_path: Path) -> None:
    with start_hub(repos=[repo("org/m", FILES)], tls=True) as hub:
        assert failure(hub.url, tmp_path).code == "tls-untrusted"
        settings = settings_in(tmp_path, HF_ENDPOINT=hub.url, SSL_CERT_FILE=str(hub.ca_file))
        assert len(list_repo(REF, settings=settings).files) == 4
    assert failure(hub.url, tmp_path, SSL_CERT_FILE=str(tmp_path / "none.pem")).code == "bad-ca-file"


def test_hostile_listings_end_in_an_error_not_in_a_loop(tmp_path: Path) -> None:
    with start_hub(repos=[repo("org/m", {f"f{number:04}": b"" for number in range(30)})], page_size=1) as hub:
        assert len(list_repo(REF, settings=settings_in(tmp_path, HF_ENDPOINT=hub.url)).files) == 30
        hub.inject(Fault(kind=Kind.REDIRECT, where="info", text=f"{hub.url}{{path}}", times=None))
        assert failure(hub.url, tmp_path).code == "redirect-loop"


def test_offline_the_cache_of_the_official_client_answers(hub: RunningHub, tmp_path: Path) -> None:
    settings = settings_in(tmp_path, HF_ENDPOINT=hub.url)
    fetch = "from huggingface_hub import snapshot_download; snapshot_download('org/m')"
    subprocess.run([sys.executable, "-c", fetch], env=client_environ(hub, settings.hf_home), check=True, timeout=120)
    hub.log.clear()
    offline = settings_in(tmp_path, HF_ENDPOINT=hub.url, HF_HUB_OFFLINE="1")
    listing = list_repo(REF, settings=offline)
    online = list_repo(REF, settings=settings)
    assert listing.offline
    assert listing.commit == online.commit
    assert {(file.path, file.size_bytes, file.sha256) for file in listing.files} == {
        (file.path, file.size_bytes, file.sha256) for file in online.files
    }
    for ref in ("org/none", "org/m@other", f"org/m@{'1' * 40}"):
        with pytest.raises(NotFoundError) as caught:
            list_repo(parse_ref(ref), settings=offline)
        assert caught.value.code == "not-in-cache"


def test_offline_asks_nobody(hub: RunningHub, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        list_repo(REF, settings=settings_in(tmp_path, HF_ENDPOINT=hub.url, HF_HUB_OFFLINE="yes"))
    assert hub.log.all() == []


def test_modelscope_lists_the_same_objects_folder_by_folder(tmp_path: Path) -> None:
    many = {f"f{number:02}/x{inner}.gguf": Literal(b"%d %d" % (number, inner)) for number in range(4) for inner in range(3)}
    with start_hub(repos=[repo("org/m", many)], modelscope_cap=4) as hub:
        settings = settings_in(tmp_path, HF_ENDPOINT=hub.url, MODELSCOPE_DOMAIN=hub.modelscope_url)
        here = list_repo(REF, settings=settings, source="modelscope")
        there = list_repo(REF, settings=settings)
        assert {file.sha256 for file in here.files} == {file.sha256 for file in there.files}
        assert (here.source, here.revision, len(here.commit)) == ("modelscope", "master", 40)
        with pytest.raises(NotFoundError):
            list_repo(parse_ref("org/none"), settings=settings, source="modelscope")
