import pytest

from provision.errors import DoesNotFitError
from provision.events import Event, StepEnded, StepStarted, silent
from provision.recipes.sequence import Outcome, Step, walk


def step(name: str, outcome: Outcome | Exception, ran: list[str]) -> Step:
    def run() -> Outcome:
        ran.append(name)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    return Step(name=name, title=f"doing {name}", run=run)


def test_steps_run_in_order_and_are_reported() -> None:
    ran: list[str] = []
    events: list[Event] = []
    clock = iter([0.0, 1.5, 2.0, 2.25])
    steps = [
        step("a", Outcome(status="done", summary="made"), ran),
        step("b", Outcome(status="kept", summary="was there"), ran),
    ]
    walked = walk(steps, reporter=events.append, now=lambda: next(clock))
    assert ran == ["a", "b"]
    assert walked.error is None
    assert [record.to_data() for record in walked.records] == [
        {"name": "a", "status": "done", "summary": "made", "elapsed_s": 1.5},
        {"name": "b", "status": "kept", "summary": "was there", "elapsed_s": 0.25},
    ]
    assert [type(event) for event in events] == [StepStarted, StepEnded, StepStarted, StepEnded]


def test_the_first_named_reason_stops_the_walk() -> None:
    ran: list[str] = []
    error = DoesNotFitError("too big\nsecond line", code="too-big", hint="provision fit x")
    walked = walk(
        [step("a", error, ran), step("b", Outcome(status="done", summary=""), ran)],
        reporter=silent,
    )
    assert ran == ["a"]
    assert walked.error is error
    assert (walked.records[0].status, walked.records[0].summary) == ("failed", "too big")


def test_a_bug_is_not_swallowed() -> None:
    with pytest.raises(ZeroDivisionError):
        walk([step("a", ZeroDivisionError(), [])], reporter=silent)
