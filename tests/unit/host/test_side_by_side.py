import threading
import time

import pytest

from provision.events import Event, Progress, ProgressEnded
from provision.host.side_by_side import Probes, for_each


def test_one_probe_crashes_one_hangs_and_the_third_answers() -> None:
    events: list[Event] = []
    release = threading.Event()
    probes = Probes(reporter=events.append)
    crash = probes.start("crash", 5.0, lambda: 1 // 0)
    hang = probes.start("hang", 0.05, lambda: release.wait(30))
    good = probes.start("good", 5.0, lambda: 42)
    started = time.monotonic()
    assert (crash.get(), hang.get(), good.get()) == (None, None, 42)
    assert time.monotonic() - started < 4
    first, second = probes.failures()
    assert first.startswith("probe crash: ZeroDivisionError")
    assert second == "probe hang: no answer in 0.05 s"
    release.set()
    probes.end()
    assert isinstance(events[-1], ProgressEnded)
    assert {event.note for event in events if isinstance(event, Progress)} >= {"crash", "good"}


def test_a_probe_that_was_given_up_says_nothing_after_the_end() -> None:
    events: list[Event] = []
    release, ended = threading.Event(), threading.Event()

    def late() -> None:
        release.wait(30)
        ended.set()

    probes = Probes(reporter=events.append)
    probe = probes.start("late", 0.01, late)
    assert probe.get() is None
    probes.end()
    release.set()
    assert ended.wait(30)
    probe._ended.wait(30)
    assert events == [ProgressEnded(task="probes")]


def test_a_probe_may_wait_for_another() -> None:
    probes = Probes(reporter=lambda event: None)
    first = probes.start("first", 5.0, lambda: 20)
    second = probes.start("second", 5.0, lambda: (first.get() or 0) + 1)
    assert second.get() == 21
    assert probes.failures() == ()


def test_for_each_keeps_the_order_and_raises_the_first_failure() -> None:
    assert for_each(lambda n: n * n, [3, 1, 2], workers=2) == [9, 1, 4]
    assert for_each(lambda n: n, []) == []
    with pytest.raises(ZeroDivisionError):
        for_each(lambda n: 1 // n, [1, 0, 2])


def test_for_each_leaves_no_thread_that_could_keep_the_process_alive() -> None:
    seen = for_each(lambda n: threading.current_thread().daemon, [1, 2, 3])
    assert seen == [True, True, True]
