import pytest

from provision.hub.checks_network import judge_endpoints
from provision.hub.checkup import EndpointReport

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
    assert finding.remedy.commands == ("export A=b",)


def test_no_ranges_and_offline() -> None:
    report = EndpointReport(endpoint="https://x", source="hf", hashes=True, ranges=False)
    assert judge_endpoints([report], offline=False)[0].status == "warning"
    assert judge_endpoints([], offline=True)[0].status == "info"
