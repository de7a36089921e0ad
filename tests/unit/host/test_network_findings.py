from typing import get_args

import pytest

from provision.hub.checks_network import judge_endpoints
from provision.hub.checkup import EndpointReport, Lack

GOOD = EndpointReport(
    endpoint="https://huggingface.co", source="hf", latency_s=0.25, hashes=True, ranges=True, served_from="https://cdn.example",
    bytes_per_s=12.5 * 1024 * 1024,
)  # fmt: skip


def test_a_good_endpoint_says_what_was_measured() -> None:
    (finding,) = judge_endpoints([GOOD], offline=False)
    assert finding.status == "ok"
    for words in ("0.25 s", "12.5 MiB/s", "https://cdn.example", "sha256"):
        assert words in finding.summary


@pytest.mark.parametrize(("source", "status"), [("hf", "warning"), ("modelscope", "info")])
def test_an_endpoint_that_fails_is_no_error_because_the_demo_needs_none(source: str, status: str) -> None:
    report = EndpointReport(endpoint="https://x", source=source, problem="cannot reach https://x", hint="export A=b")  # type: ignore[arg-type]
    (finding,) = judge_endpoints([report], offline=False)
    assert finding.status == status
    assert finding.remedy is not None
    assert finding.remedy.text == "export A=b"
    # Another endpoint for the Hub's protocol; ModelScope has no other.
    assert finding.remedy.commands == (("export HF_ENDPOINT=https://hf-mirror.com",) if source == "hf" else ())


@pytest.mark.parametrize("lack", get_args(Lack))
def test_every_lack_is_a_finding_of_its_own(lack: Lack) -> None:
    report = EndpointReport(endpoint="https://x", source="hf", latency_s=0.1, served_from="https://store", lacks=(lack,))
    found = judge_endpoints([report], offline=False)
    assert len(found) == 2
    assert found[0].status == "ok"
    assert found[1].status in ("info", "warning")
    assert "{" not in found[1].summary
    assert found[1].status == "info" or found[1].remedy is not None
    of_modelscope = EndpointReport(endpoint="https://x", source="modelscope", lacks=(lack,))
    assert judge_endpoints([of_modelscope], offline=False)[1].status == "info"


def test_offline() -> None:
    assert judge_endpoints([], offline=True)[0].status == "info"
