import pytest

from provision.errors import UsageError
from provision.host.doctor import CHECKS, diagnose
from provision.host.findings import WORST_FIRST, Check, Finding, Remedy, ok
from provision.host.types import Host, System

BARE = Host(system=System(os="linux", arch="x86_64"))


def check(identifier: str, judge: object) -> Check:
    return Check(id=identifier, title="t", about="a", judge=judge)  # type: ignore[arg-type]


def test_every_check_answers_even_about_a_machine_nothing_is_known_of() -> None:
    diagnosis = diagnose(BARE)
    assert {finding.check for finding in diagnosis.findings} == {check.id for check in CHECKS}
    assert all(finding.summary for finding in diagnosis.findings)
    assert "crashed" not in {finding.status for finding in diagnosis.findings}
    assert diagnosis.verdict


def test_ids_are_unique_and_every_check_has_its_words() -> None:
    assert len({check.id for check in CHECKS}) == len(CHECKS)
    for row in CHECKS:
        assert row.title
        assert row.about.endswith(".")


def test_a_check_that_crashes_or_says_nothing_becomes_a_finding_and_the_others_go_on() -> None:
    def crash(host: Host) -> list[Finding]:
        raise ZeroDivisionError("oh")

    rows = (check("bad", crash), check("mute", lambda host: []), check("good", lambda host: [ok("fine")]))
    found = {finding.check: finding for finding in diagnose(BARE, checks=rows).findings}
    assert found["bad"].status == "crashed"
    assert "ZeroDivisionError" in found["bad"].detail
    assert found["mute"].status == "crashed"
    assert found["good"].status == "ok"


def test_findings_come_worst_first() -> None:
    ranks = [WORST_FIRST.index(finding.status) for finding in diagnose(BARE).findings]
    assert ranks == sorted(ranks)


def test_only_asks_what_was_named_and_refuses_what_does_not_exist() -> None:
    assert {finding.check for finding in diagnose(BARE, only=["memory"]).findings} == {"memory"}
    with pytest.raises(UsageError) as caught:
        diagnose(BARE, only=["memry"])
    assert caught.value.code == "unknown-check"
    assert "memory" in caught.value.hint


def test_a_finding_is_data() -> None:
    finding = Finding(check="x", status="warning", summary="s", detail="d", remedy=Remedy(text="t", commands=("a", "b")))
    assert finding.to_data() == {
        "check": "x",
        "status": "warning",
        "summary": "s",
        "detail": "d",
        "remedy": {"text": "t", "commands": ["a", "b"], "url": None},
    }
