import json
from pathlib import Path

import pytest

from provision.host.amx import judge_run, probe_amx
from provision.processes import Finished


def finished(*, returncode: int = 0, stdout: str = "", timed_out: bool = False) -> Finished:
    return Finished(argv=("amx",), returncode=returncode, stdout=stdout, stderr="", elapsed_s=0.1, timed_out=timed_out)


@pytest.mark.parametrize(
    ("done", "verdict"),
    [
        (finished(stdout="right\n"), "trusted"),
        (finished(stdout="wrong\n"), "miscompiles"),
        (finished(returncode=-11), "miscompiles"),
        (finished(returncode=-4, stdout="right"), "miscompiles"),
        (finished(stdout="denied\n"), "not-needed"),
        (finished(returncode=-9, timed_out=True), "untested"),
        (finished(returncode=127), "untested"),
        (finished(stdout="\ufffd"), "untested"),
        (finished(returncode=1, stdout="right\n"), "untested"),
    ],
)
def test_how_the_probe_ended_says_what_the_compiler_does(done: Finished, verdict: str) -> None:
    probe = judge_run(done)
    assert probe.verdict == verdict
    assert probe.reason


def test_nothing_is_compiled_without_amx_or_without_a_compiler(tmp_path: Path) -> None:
    no_amx = probe_amx(flags=("avx2",), cpu_model="x", compiler=tmp_path / "c++", environ={})
    assert no_amx.verdict == "not-needed"
    no_compiler = probe_amx(flags=("amx_tile",), cpu_model="x", compiler=None, environ={})
    assert no_compiler.verdict == "untested"


@pytest.mark.parametrize("content", ["", "{", "[1]", '{"k": {"verdict": "sure"}}', "\udcff"])
def test_a_damaged_cache_is_no_cache(tmp_path: Path, content: str) -> None:
    from provision.host.amx import _recall

    cache = tmp_path / "amx.json"
    cache.write_bytes(content.encode("utf-8", "surrogateescape"))
    assert _recall(cache, "k") is None


def test_the_cache_answers_for_the_same_compiler_and_cpu_only(tmp_path: Path) -> None:
    from provision.host.amx import AmxProbe, _identity, _remember

    compiler = tmp_path / "c++"
    compiler.write_text("compiler")
    cache = tmp_path / "deep" / "amx.json"
    _remember(cache, _identity(compiler, "Xeon", ()), AmxProbe(verdict="miscompiles", reason="seen"))
    assert len(json.loads(cache.read_text())) == 1
    again = probe_amx(flags=("amx_tile",), cpu_model="Xeon", compiler=compiler, environ={}, cache=cache)
    assert (again.verdict, again.reason) == ("miscompiles", "seen")
    assert _identity(compiler, "Xeon", ()) != _identity(compiler, "Xeon 2", ())
    assert _identity(compiler, "Xeon", ()) != _identity(tmp_path / "other", "Xeon", ())
