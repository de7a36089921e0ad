"""What doctor says about machines we do not have."""

import pytest

from provision.host.doctor import diagnose
from provision.host.match import judge_toolkits
from tests.support.machine_files import load_machine, machine_names


def test_there_are_enough_machines() -> None:
    assert len(machine_names()) >= 24


@pytest.mark.parametrize("name", machine_names())
def test_machine(name: str) -> None:
    machine = load_machine(name)
    diagnosis = diagnose(machine.host)
    assert diagnosis.verdict == machine.verdict
    by_status = {
        status: {finding.check for finding in diagnosis.findings if finding.status == status}
        for status in ("error", "warning", "crashed")
    }
    assert by_status["error"] == machine.errors
    assert by_status["warning"] == machine.warnings
    assert by_status["crashed"] == set()
    assert tuple(verdict.toolkit.root for verdict in judge_toolkits(machine.host) if verdict.usable) == machine.usable_toolkits
    for check, words in machine.says.items():
        said = [finding.summary for finding in diagnosis.findings if finding.check == check]
        assert any(words in summary for summary in said), said


@pytest.mark.parametrize("name", machine_names())
def test_whatever_needs_an_act_names_it(name: str) -> None:
    for finding in diagnose(load_machine(name).host).findings:
        if finding.status == "error":
            assert finding.remedy is not None, finding
            assert finding.remedy.commands, finding
