"""What the probe says of good and of bad endpoints."""

import socket
from pathlib import Path

import pytest

from provision.errors import UsageError
from provision.hub.conformance import EndpointReport, probe_endpoint
from tests.support.hub import Fault, Kind, Noise, RunningHub, repo, start_hub
from tests.support.settings import settings_in

pytestmark = pytest.mark.integration
FILES = {"tinygemma3-Q8_0.gguf": Noise(3_000_000, seed=3), "README.md": b"hello\n"}


@pytest.fixture
def hub():
    with start_hub(repos=[repo("ggml-org/tinygemma3-GGUF", FILES)]) as running:
        yield running


def probe(hub: RunningHub, home: Path, *faults: Fault, **environ: str) -> EndpointReport:
    hub.inject(*faults)
    return probe_endpoint(hub.url + "/", settings=settings_in(home, **environ))


def test_a_good_endpoint(hub: RunningHub, tmp_path: Path) -> None:
    report = probe(hub, tmp_path, HF_HUB_OFFLINE="1", HF_TOKEN="hf_secret")
    assert report.problems == ()
    flags = (report.reachable, report.speaks_api, report.lfs_sha256, report.commit_header, report.ranges, report.leaves_origin)
    assert flags == (True,) * 6
    assert report.data_origin == hub.cdn_url
    assert 0 < (report.latency_s or 0) < 5
    assert (report.bytes_per_s or 0) > 1e6
    assert hub.log.body_bytes() < 3_000_000
    assert not report.gets_token
    assert all("secret" not in str(request.headers) for request in hub.log.all())
    assert report.to_data()["problems"] == []


@pytest.mark.parametrize(
    ("fault", "field", "value", "problem"),
    [
        (Fault(kind=Kind.RANGE_IGNORED), "ranges", False, "ignores byte ranges"),
        (Fault(kind=Kind.OTHER_RANGE, at_byte=1), "ranges", False, "ignores byte ranges"),
        (Fault(kind=Kind.NO_LFS, where="tree"), "lfs_sha256", False, "no sha256"),
        (Fault(kind=Kind.NO_COMMIT, where="resolve"), "commit_header", False, "X-Repo-Commit"),
        (Fault(kind=Kind.HTML, where="*", times=None), "speaks_api", False, "web page"),
        (Fault(kind=Kind.STATUS, where="tree", value=500), "speaks_api", False, "HTTP 500"),
        (Fault(kind=Kind.STATUS, where="resolve", value=503), "data_origin", None, "HTTP 503"),
        (Fault(kind=Kind.STATUS, where="cdn", value=403), "ranges", None, "HTTP 403"),
    ],
)
def test_what_is_wrong_is_named(hub: RunningHub, tmp_path: Path, fault: Fault, field: str, value: object, problem: str) -> None:
    report = probe(hub, tmp_path, fault)
    assert report.reachable
    assert getattr(report, field) is value
    assert any(problem in told for told in report.problems)


def test_a_mirror_without_the_sample(tmp_path: Path) -> None:
    with start_hub() as empty:
        report = probe(empty, tmp_path)
        assert (report.reachable, report.speaks_api) == (True, False)
        assert "no repository" in report.problems[0]


def test_nobody_there_and_no_address(tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        report = probe_endpoint(f"http://127.0.0.1:{unused.getsockname()[1]}", settings=settings_in(tmp_path))
    assert not report.reachable
    assert report.speaks_api is None
    assert "cannot reach" in report.problems[0]
    with pytest.raises(UsageError):
        probe_endpoint("not an address", settings=settings_in(tmp_path))
