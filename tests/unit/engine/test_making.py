"""Retries of a build: announced, at most two, and the last failure explained. The build itself is replaced."""

from pathlib import Path
from typing import Any

import pytest

from provision.engine import making
from provision.engine.build import BuildFailure
from provision.engine.frontend import Frontend
from provision.engine.making import Work, make_wheel
from provision.engine.plan import PlanFacts, build_plan
from provision.engine.types import BuildPlan, InstallWish
from provision.errors import BuildError, MachineError
from provision.events import Event, Note
from provision.host.types import Cpu
from provision.settings import read_settings
from tests.support.hosts import linux

OOM = "[3/187] c++ ...\nc++: fatal error: Killed signal terminated program cc1plus\nninja: build stopped"


def work(tmp_path: Path, events: list[Event]) -> Work:
    host = linux(cpu=Cpu(cores=8, amx_compiler="not-needed"))
    plan = build_plan(host, InstallWish(), PlanFacts(provision_home=str(tmp_path), python="python", environ={}))
    settings = read_settings({"PROVISION_HOME": str(tmp_path)}, home=tmp_path)
    return Work(
        plan=plan, key="cpu-key", settings=settings, frontend=Frontend(kind="pip", program=("pip",)), reporter=events.append
    )


def builds(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, answers: list[str | None]) -> list[BuildPlan]:
    """Each build fails with the next log, or makes a wheel for None; returns the plans it was asked for."""
    asked: list[BuildPlan] = []

    def build(plan: BuildPlan, **rest: Any) -> Path | BuildFailure:
        asked.append(plan)
        text = answers[len(asked) - 1]
        if text is None:
            return tmp_path / "engine.whl"
        log = tmp_path / "build.log"
        log.write_text(text)
        return BuildFailure(log=log, text=text, returncode=1)

    sdist = tmp_path / "engine.tar.gz"
    sdist.write_bytes(b"source")
    monkeypatch.setattr(making, "build_wheel", build)
    monkeypatch.setattr(making, "ensure_build_environment", lambda *positional, **named: tmp_path / "python")
    monkeypatch.setattr(making, "download_source", lambda *positional, **named: sdist)
    return asked


def notes(events: list[Event]) -> list[str]:
    return [event.message for event in events if isinstance(event, Note)]


def test_memory_runs_out_twice_and_the_third_build_succeeds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[Event] = []
    asked = builds(monkeypatch, tmp_path, [OOM, OOM, None])
    made = make_wheel(work(tmp_path, events))
    assert [plan.jobs for plan in asked] == [8, 4, 2]
    assert made.plan.jobs == 2
    assert len(notes(events)) == 2
    assert all("memory ran out" in note and "Killed signal" in note for note in notes(events))


def test_after_two_retries_the_failure_stands_with_cause_line_and_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[Event] = []
    asked = builds(monkeypatch, tmp_path, [OOM, OOM, OOM])
    with pytest.raises(BuildError) as caught:
        make_wheel(work(tmp_path, events))
    assert len(asked) == 3
    assert caught.value.code == "build-oom"
    assert int(caught.value.exit_code) == 4
    assert "Line 2" in caught.value.message
    assert "Killed signal" in caught.value.message
    assert "CMAKE_BUILD_PARALLEL_LEVEL=1" in caught.value.hint
    assert (tmp_path / "logs" / "cpu-key.log").read_text() == OOM


def test_an_unknown_failure_is_not_retried_and_shows_its_last_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = builds(monkeypatch, tmp_path, ["a.cpp:1:1: error: something new\nninja: build stopped"])
    with pytest.raises(BuildError, match="something new") as caught:
        make_wheel(work(tmp_path, []))
    assert len(asked) == 1
    assert caught.value.code == "build-failed"
    assert str(tmp_path / "logs") in caught.value.hint


def test_a_full_disk_during_the_build_is_the_machines_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    builds(monkeypatch, tmp_path, ["fatal error: error writing to /tmp/cc.s: No space left on device"])
    with pytest.raises(MachineError) as caught:
        make_wheel(work(tmp_path, []))
    assert (caught.value.code, int(caught.value.exit_code)) == ("build-disk-full", 3)
