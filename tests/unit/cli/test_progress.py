import io
import json
import sys
import threading

from provision.cli.progress import describe, make_reporter
from provision.events import LogLine, Note, Progress, ProgressEnded, StepEnded, StepStarted

STATE = Progress(
    task="f", label="model.gguf", done=1 << 30, total=4 << 30, unit="bytes", per_s=50e6, left_s=65.0, note="2 sources"
)


def test_a_state_reads_as_one_line() -> None:
    assert describe(STATE) == "model.gguf  1.0 GiB / 4.0 GiB (25 %) · 47.7 MiB/s · 1 min 05 s left · 2 sources"
    assert describe(Progress(task="b", label="build", done=3, total=None, unit="steps")) == "build  3/? steps"


def test_json_lines_carry_every_event_whole() -> None:
    out = io.StringIO()
    report = make_reporter(mode="json", stream=out)
    report(StepStarted(step="fit", title="fit"))
    report(STATE)
    lines = [json.loads(line) for line in out.getvalue().splitlines()]
    assert lines[0] == {"event": "StepStarted", "step": "fit", "title": "fit"}
    assert lines[1]["event"] == "Progress"
    assert lines[1]["total"] == 4 << 30


def test_plain_says_steps_and_warnings_and_leaves_quick_tasks_and_raw_logs_out() -> None:
    out = io.StringIO()
    report = make_reporter(mode="plain", stream=out)
    report(STATE)
    report(ProgressEnded(task="f"))
    report(LogLine(source="ninja", line="[1/2] cc"))
    report(Note(level="warning", message="slow disk"))
    report(StepEnded(step="fit", status="done", summary="fits", elapsed_s=0.2))
    assert out.getvalue() == "  warning: slow disk\n✓ fits (0.2 s)\n"


def test_with_json_results_auto_keeps_only_warnings() -> None:
    out = io.StringIO()
    report = make_reporter(mode="auto", quiet=True, stream=out)
    report(StepStarted(step="fit", title="fit"))
    report(Note(level="info", message="hello"))
    report(Note(level="warning", message="careful"))
    assert out.getvalue() == "warning: careful\n"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_bars_stand_reports_from_several_threads() -> None:
    """A probe's last word and the end of its task used to meet in the table of bars: KeyError, and the command was gone."""
    report = make_reporter(mode="auto", stream=Terminal())
    failures: list[BaseException] = []

    def talk() -> None:
        try:
            for _ in range(60):
                report(STATE)
                report(ProgressEnded(task="f"))
        except BaseException as error:
            failures.append(error)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=talk) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert failures == []
