"""Headers of remote files: few requests, little more than the header's bytes, and strict about what comes back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from provision.errors import AccessError, IntegrityError, NotFoundError, TransferError
from provision.fetch.ranged import open_remote, open_url
from provision.gguf.reader import read_header
from provision.hub.listing import list_repo
from provision.models.refs import parse_ref
from provision.settings import Settings, read_settings
from provision.units import MIB
from tests.support.ggufs import Tensor, header_bytes
from tests.support.hub import Fault, Kind, RunningHub, repo, start_hub

pytestmark = pytest.mark.integration

WEIGHTS = 8 * MIB


@pytest.fixture(scope="module")
def model() -> bytes:
    """A header as large as a real one's, without its weights."""
    tokens = [f"token-{number:06d}" for number in range(60_000)]
    metadata = {
        "general.architecture": "llama",
        "llama.block_count": 32,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [1] * len(tokens),
        "tokenizer.ggml.merges": [f"{token[:3]} {token[3:]}" for token in tokens],
    }
    tensors = [Tensor(name=f"blk.{number}.attn_q.weight", dimensions=(64, 64)) for number in range(300)]
    return header_bytes(metadata, tensors)[0]


@pytest.fixture
def hub(model: bytes) -> Iterator[RunningHub]:
    with start_hub(repos=[repo("org/m-GGUF", {"m-Q8_0.gguf": model + bytes(WEIGHTS)})]) as running:
        yield running


@pytest.fixture
def settings(hub: RunningHub, tmp_path: Path) -> Settings:
    return read_settings({"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path)}, home=tmp_path)


def test_a_header_takes_three_requests_at_most(hub: RunningHub, settings: Settings, model: bytes) -> None:
    listing = list_repo(parse_ref("org/m-GGUF"), settings=settings)
    with open_remote(listing, listing.files[0], settings=settings) as source:
        header = read_header(source)
        assert source.size_bytes == len(model) + WEIGHTS
        assert source.requests <= 3
        assert source.received_bytes <= max(2 * header.data_offset, MIB)
    assert header.metadata["general.architecture"] == "llama"
    assert len(hub.log.all(where="resolve")) == 1
    assert hub.log.body_bytes() <= max(2 * header.data_offset, MIB)


@pytest.mark.parametrize(
    "kind", [Kind.RESET, Kind.SHORT_BODY, Kind.HANG_UP, Kind.OTHER_RANGE, Kind.HTML, Kind.CHUNKED, Kind.GZIP]
)
def test_a_fault_costs_one_more_request(hub: RunningHub, settings: Settings, kind: Kind) -> None:
    hub.inject(Fault(kind=kind, at_byte=100))
    listing = list_repo(parse_ref("org/m-GGUF"), settings=settings)
    with open_remote(listing, listing.files[0], settings=settings) as source:
        assert read_header(source).metadata["general.architecture"] == "llama"


def test_an_expired_address_is_resolved_again(hub: RunningHub, settings: Settings) -> None:
    listing = list_repo(parse_ref("org/m-GGUF"), settings=settings)
    with open_remote(listing, listing.files[0], settings=settings) as source:
        assert source.read(0, 4) == b"GGUF"
        hub.expire_signatures()
        assert source.read(0, 4) == b"GGUF"
    assert len(hub.log.all(where="resolve")) == 2


def test_a_server_without_ranges_is_read_from_the_start_and_left(hub: RunningHub, settings: Settings) -> None:
    hub.inject(Fault(kind=Kind.RANGE_IGNORED, times=None))
    listing = list_repo(parse_ref("org/m-GGUF"), settings=settings)
    with open_remote(listing, listing.files[0], settings=settings) as source:
        assert read_header(source).metadata["general.architecture"] == "llama"


def test_a_plain_address_gets_no_token(hub: RunningHub, settings: Settings, model: bytes) -> None:
    url = f"{hub.url}/org/m-GGUF/resolve/main/m-Q8_0.gguf"
    with open_url(url, settings=replace(settings, token="hf_secret")) as source:
        assert read_header(source).metadata["general.architecture"] == "llama"
        assert source.size_bytes == len(model) + WEIGHTS
    assert not any(request.authorization for request in hub.log.all())


def test_what_is_not_there_is_exit_5_and_what_is_closed_exit_6(hub: RunningHub, settings: Settings) -> None:
    with pytest.raises(NotFoundError), open_url(f"{hub.url}/org/m-GGUF/resolve/main/gone.gguf", settings=settings) as source:
        source.read(0, 4)
    hub.inject(Fault(kind=Kind.STATUS, where="resolve", value=403, times=None))
    with pytest.raises(AccessError), open_url(f"{hub.url}/org/m-GGUF/resolve/main/m-Q8_0.gguf", settings=settings) as source:
        source.read(0, 4)


def test_nobody_there_is_exit_7(settings: Settings) -> None:
    with pytest.raises(TransferError), open_url("http://127.0.0.1:9/m.gguf", settings=settings) as source:
        source.read(0, 4)


def test_a_page_that_is_no_gguf_is_exit_8(hub: RunningHub, settings: Settings) -> None:
    hub.add(repo("org/page", {"m.gguf": b"<html>" + bytes(100)}))
    with pytest.raises(IntegrityError), open_url(f"{hub.url}/org/page/resolve/main/m.gguf", settings=settings) as source:
        read_header(source)


def test_offline_asks_nobody(hub: RunningHub, settings: Settings) -> None:
    with pytest.raises(NotFoundError):
        open_url(f"{hub.url}/x.gguf", settings=replace(settings, offline=True))
    assert hub.log.all() == []
