from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from provision.errors import DoesNotFitError, ExitCode, MachineError, NotFoundError
from provision.events import silent
from provision.host.types import Cpu, Gpu, Host, Memory, System
from provision.recipes.load import parse_recipe
from provision.recipes.rooms import Looked, Rooms
from provision.recipes.schema import Recipe
from provision.recipes.target import Wanted
from provision.recipes.up import UpReport, machine_line, model_path, run_up, verdict_line
from provision.units import GIB

HOST = Host(
    system=System(os="linux", arch="x86_64", distribution="debian 12"), cpu=Cpu(cores=2), memory=Memory(total_bytes=8 * GIB)
)
SMOKE = {
    "verdict": "pass",
    "checks": [],
    "known_answers": {"right": 3, "asked": 3},
    "device": "CPU",
    "generation_tokens_per_s": 210.4,
    "answer": "Paris.",
}
CANDIDATES = [
    {"quant": "Q8_0", "size_bytes": 80, "verdict": "too-big"},
    {"quant": "Q6_K", "size_bytes": 60, "verdict": "partly"},
    {"quant": "Q4_K_M", "size_bytes": 40, "verdict": "fits"},
    {"quant": "Q4_K_S", "size_bytes": 38, "verdict": "fits"},
    {"quant": "IQ4_XS", "size_bytes": 39, "verdict": "fits"},
]


class FakeRooms:
    """Rooms that answer in the contract's words and remember what they were asked."""

    def __init__(self, **answers: Any) -> None:
        self.asked: list[str] = []
        self.fit_quants: list[str | None] = []
        self.kwargs: dict[str, Any] = {}
        self.answers = answers

    def _answer(self, name: str, default: Mapping[str, Any]) -> Mapping[str, Any]:
        self.asked.append(name)
        answer = self.answers.get(name, default)
        if isinstance(answer, Exception):
            raise answer
        assert isinstance(answer, Mapping)
        return answer

    def fit(self, target: str, recipe: Recipe, host: Host, *, quant: str | None) -> Mapping[str, Any]:
        self.fit_quants.append(quant)
        chosen = {
            "quant": quant or "IQ4_XS",
            "n_ctx": 4096,
            "n_gpu_layers": 0,
            "llama_kwargs": {"n_ctx": 4096, "n_gpu_layers": 0},
        }
        return self._answer("fit", {"candidates": CANDIDATES, "chosen": chosen})

    def smoke(
        self, model: Path, recipe: Recipe, llama_kwargs: Mapping[str, Any], *, plan: Mapping[str, Any] | None
    ) -> Mapping[str, Any]:
        self.kwargs = dict(llama_kwargs)
        return self._answer("smoke", SMOKE)

    def rooms(self) -> Rooms:
        file = {"path": "m-Q4_K_M.gguf", "local_path": "/c/m.gguf", "size_bytes": 40, "transferred_bytes": 0, "action": "kept"}
        return Rooms(
            doctor=lambda: Looked(host=HOST, verdict="ok", errors=tuple(self.answers.get("errors", ()))),
            install=lambda recipe, host, dry: self._answer(
                "install", {"action": "kept", "backend": "cpu", "engine_version": "0.3.36"}
            ),
            adopt=lambda recipe, host, wheel, source: self._answer("adopt", {}),
            fit=self.fit,
            fetch=lambda recipe, quant, dry: self._answer("fetch", {"files": [file]}),
            smoke=self.smoke,
        )


def go(rooms: FakeRooms, **recipe: Any) -> UpReport:
    data = {"name": "mine", "title": "Mine", "model": {"repo": "org/name"}, **recipe}
    wanted = Wanted(text="mine", recipe=parse_recipe(data, source="x"), named_recipe=True)
    return run_up(wanted, rooms=rooms.rooms(), reporter=silent)


def test_five_steps_and_one_line() -> None:
    rooms = FakeRooms()
    report = go(rooms)
    assert report.error is None
    data = report.to_data()
    assert [(step["name"], step["status"]) for step in data["steps"]] == [
        ("doctor", "done"),
        ("install", "kept"),
        ("fit", "done"),
        ("fetch", "kept"),
        ("smoke", "done"),
    ]
    assert data["verdict"] == "pass"
    assert data["answer"] == "Paris."
    assert report.line == "PASS  mine · IQ4_XS · CPU · 3/3 known answers · 210 tok/s"
    assert data["model"]["path"] == "/c/m.gguf"


def test_a_model_on_this_machine_is_not_fetched(tmp_path: Path) -> None:
    rooms = FakeRooms()
    report = go(rooms, model={"path": str(tmp_path / "m.gguf")})
    assert "fetch" not in rooms.asked
    assert report.records[3].status == "skipped"


def test_the_first_named_reason_stops_everything_with_its_own_exit_code() -> None:
    rooms = FakeRooms(install=MachineError("no C compiler", code="no-compiler", hint="apt install g++"))
    report = go(rooms)
    assert rooms.asked == ["install"]
    assert report.error is not None
    assert report.error.exit_code == ExitCode.MACHINE
    assert report.verdict is None
    assert report.line == "FAIL  mine · install: no C compiler"
    assert [record.status for record in report.records] == ["done", "failed"]


def test_findings_of_the_doctor_are_told_and_do_not_stop() -> None:
    told: list[Any] = []
    rooms = FakeRooms(errors=["no compiler found"])
    wanted = Wanted(
        text="mine", recipe=parse_recipe({"name": "m", "title": "M", "model": {"repo": "a/b"}}, source="x"), named_recipe=True
    )
    report = run_up(wanted, rooms=rooms.rooms(), reporter=told.append)
    assert report.error is None
    assert any(getattr(event, "message", "") == "no compiler found" for event in told)
    assert "1 finding: provision doctor" in report.records[0].summary


def test_a_failed_smoke_test_names_its_first_failing_check() -> None:
    checks = [
        {"id": "load", "status": "pass", "value": None, "threshold": None, "summary": "", "remedy": None},
        {
            "id": "finite-logits",
            "status": "fail",
            "value": 1,
            "threshold": 0,
            "summary": "NaN in layer 3",
            "remedy": "provision verify x",
        },
    ]
    report = go(FakeRooms(smoke={**SMOKE, "verdict": "fail", "checks": checks}))
    assert report.verdict == "fail"
    assert report.error is not None
    assert report.error.exit_code == ExitCode.SMOKE
    assert report.error.hint == "provision verify x"
    assert report.line == "FAIL  mine · smoke: finite-logits: NaN in layer 3"


def variants(*quants: str, **needs: str) -> list[dict[str, Any]]:
    return [{"quant": quant, "needs": needs} for quant in quants]


def test_a_quant_outside_the_recipe_is_replaced_by_the_largest_that_fits() -> None:
    rooms = FakeRooms()
    report = go(rooms, variants=variants("Q8_0", "Q6_K", "Q4_K_M", "Q4_K_S"))
    assert rooms.fit_quants == [None, "Q4_K_M"]
    assert report.model is not None
    assert report.model["quant"] == "Q4_K_M"


def test_what_fits_partly_is_taken_only_when_nothing_fits() -> None:
    rooms = FakeRooms()
    go(rooms, variants=variants("Q8_0", "Q6_K"))
    assert rooms.fit_quants == [None, "Q6_K"]


def test_a_fixed_quant_goes_straight_to_fit() -> None:
    rooms = FakeRooms()
    go(rooms, select={"quant": "Q8_0"})
    assert rooms.fit_quants == ["Q8_0"]


def test_variants_that_need_more_than_the_machine_has_are_passed_over() -> None:
    rooms = FakeRooms()
    report = go(rooms, variants=variants("Q6_K", ram="64GiB") + variants("Q4_K_S", ram="4GiB"))
    assert rooms.fit_quants == [None, "Q4_K_S"]
    assert report.error is None
    report = go(FakeRooms(), variants=variants("Q6_K", vram="8GiB"))
    assert isinstance(report.error, NotFoundError)


def test_no_allowed_quant_in_the_repository() -> None:
    report = go(FakeRooms(), variants=variants("BF16"))
    assert isinstance(report.error, NotFoundError)
    assert report.error.exit_code == ExitCode.NOT_FOUND


def test_too_little_context_is_said_with_the_number() -> None:
    report = go(FakeRooms(), select={"min_ctx": 32768})
    assert isinstance(report.error, DoesNotFitError)
    assert "4096 tokens of context only, the recipe wants 32768" in report.error.message


def test_nothing_fits() -> None:
    report = go(FakeRooms(fit={"candidates": [], "chosen": None}))
    assert report.error is not None
    assert report.error.exit_code == ExitCode.DOES_NOT_FIT


def test_what_the_recipe_fixes_wins_over_fit() -> None:
    rooms = FakeRooms()
    go(rooms, load={"n_gpu_layers": 7, "n_threads": 3, "flash_attn": True})
    assert rooms.kwargs == {"n_ctx": 4096, "n_gpu_layers": 7, "n_threads": 3, "flash_attn": True}


def test_the_model_of_a_split_is_its_first_shard_and_never_a_projector() -> None:
    files = [{"path": p, "local_path": f"/c/{p}"} for p in ("m-00002-of-00002.gguf", "mmproj-a.gguf", "m-00001-of-00002.gguf")]
    assert model_path({"files": files}) == Path("/c/m-00001-of-00002.gguf")


@pytest.mark.parametrize(
    ("smoke", "line"),
    [
        ({**SMOKE, "verdict": "warn", "device": "NVIDIA H200"}, "WARN  x · NVIDIA H200 · 3/3 known answers · 210 tok/s"),
        ({**SMOKE, "known_answers": None, "generation_tokens_per_s": None, "quant": "Q4_0"}, "PASS  x · Q4_0 · CPU"),
        ({**SMOKE, "device": None, "generation_tokens_per_s": 3.14159}, "PASS  x · 3/3 known answers · 3.1 tok/s"),
    ],
)
def test_the_verdict_line_leaves_out_what_is_unknown(smoke: Mapping[str, Any], line: str) -> None:
    assert verdict_line("x", None, smoke) == line


def test_machine_line() -> None:
    assert machine_line(HOST) == "debian 12, 2 cores, 8.0 GiB RAM, no GPU"
    gpu = Gpu(index=0, name="NVIDIA H200", vendor="nvidia", source="nvml", memory_total_bytes=139 * GIB)
    with_gpu = Host(system=HOST.system, gpus=(gpu,))
    assert machine_line(with_gpu) == "debian 12, NVIDIA H200 139 GiB"
