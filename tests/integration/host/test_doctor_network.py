"""doctor --network against a hub on loopback, with its faults."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from provision.hub.checks_network import judge_endpoints
from provision.hub.checkup import PROBE_REPO, check_endpoint
from tests.support.hub import Fault, Kind, Noise, RunningHub, repo, start_hub
from tests.support.settings import settings_in

pytestmark = pytest.mark.integration
FILES = {"Qwen3-0.6B-Q8_0.gguf": Noise(6_000_000, seed=1), "README.md": b"hello\n"}


@pytest.fixture
def hub():
    with start_hub(repos=[repo(PROBE_REPO, FILES)]) as running:
        yield running


def test_a_good_hub(hub: RunningHub, tmp_path: Path) -> None:
    report = check_endpoint(hub.url, "hf", settings=settings_in(tmp_path, HF_ENDPOINT=hub.url))
    assert report.problem is None
    assert (report.hashes, report.ranges, report.served_from) == (True, True, hub.cdn_url)
    assert report.latency_s is not None
    assert report.bytes_per_s is not None
    assert report.bytes_per_s > 0
    # One byte and one sample, not the file.
    assert hub.log.body_bytes() < 5_000_000


def test_modelscope(hub: RunningHub, tmp_path: Path) -> None:
    report = check_endpoint(hub.modelscope_url, "modelscope", settings=settings_in(tmp_path))
    assert report.problem is None
    assert report.hashes


@pytest.mark.parametrize(
    ("fault", "lacks"),
    [
        (Fault(kind=Kind.RANGE_IGNORED), {"ranges"}),
        (Fault(kind=Kind.OTHER_RANGE, at_byte=1), {"ranges"}),
        (Fault(kind=Kind.OTHER_RANGE, at_byte=1, skip=1), {"ranges"}),
        (Fault(kind=Kind.WRONG_TOTAL, at_byte=7), {"ranges"}),
        (Fault(kind=Kind.GZIP), {"identity", "ranges"}),
        (Fault(kind=Kind.NO_COMMIT, where="resolve"), {"commit-header"}),
        (Fault(kind=Kind.NO_LINKED, where="resolve"), {"linked-hash"}),
        (Fault(kind=Kind.NO_LFS, where="tree", times=None), {"sha256"}),
        (Fault(kind=Kind.HEAD_REFUSED, where="resolve"), {"head"}),
    ],
    ids=lambda value: value.kind.value if isinstance(value, Fault) else "",
)
def test_what_a_mirror_lacks_is_named(fault: Fault, lacks: set[str], hub: RunningHub, tmp_path: Path) -> None:
    hub.inject(fault)
    report = check_endpoint(hub.url, "hf", settings=settings_in(tmp_path, HF_ENDPOINT=hub.url))
    assert report.problem is None
    # The hub's storage is another port, as a mirror's may be another host.
    assert set(report.lacks) == {"off-origin", *lacks}
    assert report.ranges is ("ranges" not in lacks)
    assert (report.bytes_per_s is None) == ("ranges" in lacks)
    assert hub.log.body_bytes() < 7_000_000
    summaries = [finding.summary for finding in judge_endpoints([report], offline=False)]
    assert len(summaries) == 2 + len(lacks)


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (Fault(kind=Kind.STATUS, where="info", value=503, times=None), "503"),
        (Fault(kind=Kind.BROKEN_JSON, where="tree", times=None), "not as a hub does"),
        (Fault(kind=Kind.RESET, at_byte=0, times=None), "cannot reach"),
        (Fault(kind=Kind.REDIRECT, where="resolve", text="http://127.0.0.1:1/", times=None), "cannot reach http://127.0.0.1:1"),
        (Fault(kind=Kind.REDIRECT, where="resolve", text="{here}", times=None), "redirects"),
    ],
)  # fmt: skip
def test_what_stops_the_questions_is_the_problem(fault: Fault, words: str, hub: RunningHub, tmp_path: Path) -> None:
    if fault.text == "{here}":
        fault = dataclasses.replace(fault, text=hub.url + "{path}")
    hub.inject(fault)
    report = check_endpoint(hub.url, "hf", settings=settings_in(tmp_path, HF_ENDPOINT=hub.url))
    assert report.problem is not None
    assert words in report.problem


def test_a_login_page_is_no_hub(hub: RunningHub, tmp_path: Path) -> None:
    hub.inject(Fault(kind=Kind.HTML, where="info"))
    report = check_endpoint(hub.url, "hf", settings=settings_in(tmp_path, HF_ENDPOINT=hub.url))
    assert report.problem is not None
    assert "login page" in report.problem


def test_nobody_there(tmp_path: Path) -> None:
    with start_hub() as gone:
        url = gone.url
    report = check_endpoint(url, "hf", settings=settings_in(tmp_path, HF_ENDPOINT=url))
    assert report.problem is not None
    assert "cannot reach" in report.problem
    assert report.hint


def test_the_command_asks_only_when_told(hub: RunningHub, tmp_path: Path) -> None:
    env = {
        **{name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")},
        "HF_ENDPOINT": hub.url,
        "MODELSCOPE_DOMAIN": hub.modelscope_url,
        "PROVISION_HOME": str(tmp_path / "own"),
        "HF_HOME": str(tmp_path / "hf"),
        "HF_TOKEN": "hf_secretsecret",
    }

    def doctor(*words: str) -> dict[str, list[dict[str, str]]]:
        argv = [sys.executable, "-m", "provision", "doctor", "--json", "--only", "network", *words]
        done = subprocess.run(argv, capture_output=True, text=True, env=env, timeout=120)
        assert done.returncode == 0, done.stderr
        assert "secretsecret" not in done.stdout + done.stderr
        data: dict[str, list[dict[str, str]]] = json.loads(done.stdout)["data"]
        return data

    assert doctor()["findings"][0]["status"] == "skipped"
    assert hub.log.body_bytes() == 0
    asked = doctor("--network")
    assert [finding["status"] for finding in asked["findings"]] == ["info", "info", "ok", "ok"]
    assert all("MiB/s on one connection" in finding["summary"] for finding in asked["findings"][2:])
    assert {row["source"] for row in asked["network"]} == {"hf", "modelscope"}
    env["HF_HUB_OFFLINE"] = "1"
    assert doctor("--network")["findings"][0]["summary"].startswith("offline")
