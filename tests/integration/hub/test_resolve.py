"""Resolving: one question per file, the address of the bytes, and no secret on the way."""

import dataclasses
from pathlib import Path

import pytest

from provision.errors import AccessError, IntegrityError, NotFoundError, ProvisionError, TransferError
from provision.hub.listing import list_repo
from provision.hub.resolve import resolve
from provision.hub.types import Listing
from provision.models.refs import parse_ref
from provision.models.types import RepoFile
from provision.settings import Settings
from tests.integration.hub.test_test_hub import ask
from tests.support.hub import Fault, Kind, Noise, RunningHub, repo, start_hub
from tests.support.settings import settings_in

pytestmark = pytest.mark.integration
MODEL = Noise(200_000, seed=1)
FILES = {"x Q&A-Q4_K_M.gguf": MODEL, "README.md": b"hello\n"}
REF = parse_ref("org/m")


@pytest.fixture
def hub():
    with start_hub(repos=[repo("org/m", FILES)]) as running:
        yield running


def listed(hub: RunningHub, settings: Settings, name: str = "x Q&A-Q4_K_M.gguf") -> tuple[Listing, RepoFile]:
    listing = list_repo(REF, settings=settings)
    return listing, next(file for file in listing.files if file.path == name)


def test_a_large_file_is_resolved_with_one_question(hub: RunningHub, tmp_path: Path) -> None:
    settings = settings_in(tmp_path, HF_ENDPOINT=hub.url)
    listing, file = listed(hub, settings)
    hub.log.clear()
    resolved = resolve(listing, file, settings=settings)
    assert len(hub.log.all()) == 1
    assert resolved.origin == hub.cdn_url
    assert (resolved.size_bytes, resolved.sha256, resolved.commit) == (200_000, MODEL.sha256, listing.commit)
    assert resolved.headers == {}
    assert resolved.expires_at is not None
    assert ask(resolved.url, headers={"Range": "bytes=5-14"})[1] == bytes(MODEL.read(5, 10))


@pytest.mark.parametrize(
    "faults",
    [
        (),
        (Fault(kind=Kind.RELATIVE_REDIRECT, where="resolve"),),
        (Fault(kind=Kind.HEAD_REFUSED, where="resolve", times=None),),
        (Fault(kind=Kind.NO_COMMIT, where="resolve"),),
        (Fault(kind=Kind.UPPER_SHA, where="resolve"),),
    ],
)
def test_a_small_file_is_served_by_the_hub_itself(hub: RunningHub, tmp_path: Path, faults: tuple[Fault, ...]) -> None:
    settings = settings_in(tmp_path, HF_ENDPOINT=hub.url)
    listing, file = listed(hub, settings, "README.md")
    hub.inject(*faults)
    resolved = resolve(listing, file, settings=settings)
    hub.faults.clear()
    assert resolved.origin == hub.url
    assert (resolved.size_bytes, resolved.git_sha1, resolved.sha256) == (6, "ce013625030ba8dba906f756967f9e9ca394464a", None)
    assert ask(resolved.url)[1] == b"hello\n"


def test_head_refused_for_a_large_file(hub: RunningHub, tmp_path: Path) -> None:
    settings = settings_in(tmp_path, HF_ENDPOINT=hub.url)
    hub.inject(Fault(kind=Kind.HEAD_REFUSED, where="resolve", times=None))
    assert resolve(*listed(hub, settings), settings=settings).origin == hub.cdn_url


def test_without_linked_headers_the_chain_is_followed_to_its_end(hub: RunningHub, tmp_path: Path) -> None:
    settings = settings_in(tmp_path, HF_ENDPOINT=hub.url)
    hub.inject(Fault(kind=Kind.NO_LINKED, where="resolve"))
    resolved = resolve(*listed(hub, settings), settings=settings)
    assert (resolved.origin, resolved.size_bytes, resolved.accepts_ranges) == (hub.cdn_url, 200_000, True)


def test_a_listing_that_knows_no_hash_takes_the_servers(hub: RunningHub, tmp_path: Path) -> None:
    settings = settings_in(tmp_path, HF_ENDPOINT=hub.url)
    listing, file = listed(hub, settings)
    bare = dataclasses.replace(file, sha256=None, size_bytes=None)
    resolved = resolve(listing, bare, settings=settings)
    assert (resolved.sha256, resolved.size_bytes) == (MODEL.sha256, 200_000)


def test_another_promise_than_the_listings_is_refused(hub: RunningHub, tmp_path: Path) -> None:
    settings = settings_in(tmp_path, HF_ENDPOINT=hub.url)
    listing, file = listed(hub, settings)
    for change in ({"sha256": "0" * 64}, {"size_bytes": 1}):
        with pytest.raises(IntegrityError) as caught:
            resolve(listing, dataclasses.replace(file, **change), settings=settings)
        assert caught.value.code == "promise-broken"


def test_the_commit_stays_when_the_branch_moves(hub: RunningHub, tmp_path: Path) -> None:
    settings = settings_in(tmp_path, HF_ENDPOINT=hub.url)
    listing, file = listed(hub, settings)
    hub.repos["org/m"].push({"x Q&A-Q4_K_M.gguf": Noise(100, seed=9)})
    resolved = resolve(listing, file, settings=settings)
    assert (resolved.commit, resolved.sha256) == (listing.commit, MODEL.sha256)


def test_the_token_goes_to_its_own_origin_and_no_further(hub: RunningHub, tmp_path: Path) -> None:
    with start_hub(repos=[repo("org/m", FILES)]) as stranger:
        settings = settings_in(tmp_path, HF_ENDPOINT=hub.url, HF_TOKEN="hf_secret", PROVISION_TOKEN_ORIGINS=hub.url)
        listing, large = listed(hub, settings)
        _, small = listed(hub, settings, "README.md")
        assert resolve(listing, large, settings=settings).headers == {}
        assert resolve(listing, small, settings=settings).headers == {"Authorization": "Bearer hf_secret"}
        # The Hub itself sends us away, in the listing and in a file, without saying a word about the file.
        hub.inject(Fault(kind=Kind.REDIRECT, where="info", text=f"{stranger.url}{{path}}"))
        hub.inject(Fault(kind=Kind.REDIRECT, where="resolve", text=f"{stranger.url}{{path}}"))
        list_repo(REF, settings=settings)
        resolved = resolve(listing, large, settings=settings)
        assert resolved.origin == stranger.cdn_url
        assert all(one.authorization == "Bearer hf_secret" for one in hub.log.all(face="hub"))
        assert len(stranger.log.all()) == 2
        for request in [*stranger.log.all(), *hub.log.all(face="cdn")]:
            assert "secret" not in str(request.headers) + request.target


def test_a_mirror_named_by_hf_endpoint_gets_no_token(hub: RunningHub, tmp_path: Path) -> None:
    settings = settings_in(tmp_path, HF_ENDPOINT=hub.url, HF_TOKEN="hf_secret")
    resolve(*listed(hub, settings), settings=settings)
    assert all("secret" not in str(request.headers) for request in hub.log.all())


def failure(listing: Listing, file: RepoFile, settings: Settings) -> ProvisionError:
    with pytest.raises(ProvisionError) as caught:
        resolve(listing, file, settings=settings)
    assert caught.value.hint
    assert "hf_" not in caught.value.message
    return caught.value


def test_gated_and_missing_files(tmp_path: Path) -> None:
    gated = repo("org/m", FILES, gated=True, access=frozenset({"hf_in"}))
    with start_hub(repos=[gated], tokens=["hf_out"]) as hub:
        plain = settings_in(tmp_path, HF_ENDPOINT=hub.url)
        listing, file = listed(hub, plain)
        for token, ok in ((None, False), ("hf_out", False), ("hf_in", True)):
            named = {"HF_TOKEN": token, "PROVISION_TOKEN_ORIGINS": hub.url} if token else {}
            settings = settings_in(tmp_path, HF_ENDPOINT=hub.url, **named)
            if ok:
                assert resolve(listing, file, settings=settings).origin == hub.cdn_url
                missing = failure(listing, RepoFile(path="none.gguf"), settings)
                assert (type(missing), missing.code) == (NotFoundError, "file-not-found")
            else:
                error = failure(listing, file, settings)
                assert (type(error), error.code) == (AccessError, "gated-repo")
                assert "https://huggingface.co/org/m" in error.message


def test_circles_end(hub: RunningHub, tmp_path: Path) -> None:
    settings = settings_in(tmp_path, HF_ENDPOINT=hub.url)
    listing, file = listed(hub, settings)
    hub.inject(Fault(kind=Kind.REDIRECT, where="resolve", text=f"{hub.url}{{path}}", times=None))
    error = failure(listing, file, settings)
    assert (type(error), error.code) == (TransferError, "redirect-loop")


def test_https_is_not_left_for_http(hub: RunningHub, tmp_path: Path) -> None:
    with start_hub(repos=[repo("org/m", FILES)], tls=True) as safe:
        settings = settings_in(tmp_path, HF_ENDPOINT=safe.url, SSL_CERT_FILE=str(safe.ca_file))
        listing, file = listed(safe, settings)
        safe.inject(Fault(kind=Kind.REDIRECT, where="resolve", text=f"{hub.url}{{path}}"))
        assert failure(listing, file, settings).code == "insecure-redirect"
        assert hub.log.all() == []


def test_modelscope_serves_the_same_object(hub: RunningHub, tmp_path: Path) -> None:
    settings = settings_in(tmp_path, HF_ENDPOINT=hub.url, HF_TOKEN="hf_secret", MODELSCOPE_API_TOKEN="ms_secret")
    listing = list_repo(REF, settings=settings, source="modelscope", endpoint=hub.modelscope_url)
    file = next(file for file in listing.files if file.sha256 == MODEL.sha256)
    resolved = resolve(listing, file, settings=settings)
    assert (resolved.origin, resolved.size_bytes, resolved.sha256) == (hub.cdn_url, 200_000, MODEL.sha256)
    small = next(file for file in listing.files if file.path == "README.md")
    assert ask(resolve(listing, small, settings=settings).url)[1] == b"hello\n"
    # A host that is not ModelScope's own gets neither secret.
    assert all("secret" not in str(request.headers) for request in hub.log.all())
