"""The demo model broken in more than thirty ways: each is caught by name; every sound variant raises no alarm."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest

from provision.settings import read_settings
from provision.smoke import golden
from provision.smoke.demo import demo_folder, demo_model_path
from provision.smoke.service import run_smoke
from provision.smoke.types import SmokeResult
from tests.support import demo_variants

llama_cpp = pytest.importorskip("llama_cpp", reason="the engine is not installed here: provision install")
pytestmark = [pytest.mark.integration]

QUICK = ["an ordinary word as EOS", "q and k not permuted", "one NaN", "wrong EOS", "a tensor missing"]
SLOW = [name for name in demo_variants.BROKEN if name not in QUICK]


def smoke(path: Path, **options: Any) -> SmokeResult:
    options.setdefault("llama_kwargs", {"n_ctx": 2048, "n_threads": 1, "n_threads_batch": 1})
    return run_smoke(path, python=Path(sys.executable), settings=read_settings(dict(os.environ), home=Path.home()), **options)


def failures(result: SmokeResult) -> set[str]:
    return {check.id for check in result.failed}


def assert_caught(name: str, tmp_path: Path) -> None:
    bend, expected = demo_variants.BROKEN[name]
    demo = demo_variants.load_demo()
    bend(demo)
    path = demo_variants.write_demo(demo, tmp_path / "broken-F32.gguf", "F32")
    result = smoke(path)
    assert result.verdict == "fail", result.line
    assert failures(result) & expected, f"{failures(result)}: {result.line}"
    assert all(check.remedy for check in result.failed)
    assert not any("MODEL" in (check.remedy or "") for check in result.checks), "a remedy can be pasted"


@pytest.mark.parametrize("name", QUICK)
def test_a_broken_model_is_caught(name: str, tmp_path: Path) -> None:
    assert_caught(name, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW)
def test_every_broken_model_is_caught(name: str, tmp_path: Path) -> None:
    assert_caught(name, tmp_path)


def test_the_shipped_model_passes_with_the_line_of_the_readme() -> None:
    result = smoke(demo_model_path())
    assert result.verdict == "pass", result.to_data()
    assert result.line.startswith("PASS  demo · Q8_0 · CPU · 3/3 known answers · ")
    assert result.line.endswith(" tok/s")
    by_id = {check.id: check for check in result.checks}
    assert by_id["A1-sha256"].status == by_id["C8-golden"].status == "pass"


def test_a_truncated_file_is_caught_before_the_engine_sees_it(tmp_path: Path) -> None:
    path = tmp_path / "cut-Q8_0.gguf"
    path.write_bytes(demo_model_path().read_bytes()[:-1000])
    result = smoke(path)
    assert {"A2-structure", "A3-file-truncated"} <= failures(result), result.line


def test_one_flipped_byte_is_caught_by_the_hash(tmp_path: Path) -> None:
    data = bytearray(demo_model_path().read_bytes())
    data[-5000] ^= 1
    path = tmp_path / demo_model_path().name
    path.write_bytes(data)
    assert "A1-sha256" in failures(smoke(path))


def test_no_gguf_at_all_and_an_unknown_argument(tmp_path: Path) -> None:
    path = tmp_path / "x.gguf"
    path.write_bytes(b"<html>not found</html>" * 1000)
    assert {"A2-structure", "A3-not-gguf"} <= failures(smoke(path))
    result = smoke(demo_model_path(), llama_kwargs={"n_ctx": 512, "rpc_servers": "x:1"})
    assert failures(result) == {"A5-keywords"}


def test_a_gpu_that_is_required_but_not_there_fails() -> None:
    if llama_cpp.llama_supports_gpu_offload():
        pytest.skip("this engine has a GPU backend")
    result = smoke(demo_model_path(), require_gpu=True)
    assert failures(result) == {"B1-device"}


@pytest.mark.slow
def test_local_damage_passes_known_answers_and_is_caught_by_the_fingerprint(tmp_path: Path) -> None:
    demo = demo_variants.load_demo()
    demo_variants.LOCAL_DAMAGE(demo)
    path = demo_variants.write_demo(demo, tmp_path / "damaged-Q8_0.gguf", "Q8_0")
    without = smoke(path)
    shipped = smoke(path, golden=demo_folder() / "provision-demo-Q8_0.golden.json")
    assert without.known_right == without.known_asked
    assert "C8-golden" in failures(shipped), shipped.line


@pytest.mark.slow
def test_a_wrong_quant_scale_is_caught(tmp_path: Path) -> None:
    """One block row of Q8_0 whose scales lost a bit of their exponent, below what float tensors can express."""
    demo = demo_variants.load_demo()
    path = demo_variants.write_demo(demo, tmp_path / "sound-Q8_0.gguf", "Q8_0")
    demo_variants.double_scales(demo, path, "blk.1.ffn_gate.weight")
    result = smoke(
        demo_variants.write_demo(demo, tmp_path / "scale-Q8_0.gguf", "Q8_0"),
        golden=demo_folder() / "provision-demo-Q8_0.golden.json",
    )
    assert result.verdict == "fail", result.line


@pytest.mark.slow
def test_a_missing_pre_tokenizer_only_warns(tmp_path: Path) -> None:
    demo = demo_variants.load_demo()
    demo_variants.NO_PRE_TOKENIZER(demo)
    result = smoke(demo_variants.write_demo(demo, tmp_path / "nopre-F16.gguf", "F16"))
    assert "D3-pre-tokenizer" in {check.id for check in result.warned}


@pytest.mark.slow
@pytest.mark.parametrize("flash_attn", [False, True])
@pytest.mark.parametrize("quant", demo_variants.QUANTS)
def test_sound_variants_raise_no_alarm(quant: str, flash_attn: bool, tmp_path: Path) -> None:
    path = demo_variants.write_variant(tmp_path, quant)
    kinds: list[dict[str, int]] = [{}, {"type_k": 8, "type_v": 8}, {"type_k": 2, "type_v": 2}]
    for kv in kinds if flash_attn else kinds[:1]:
        result = smoke(path, llama_kwargs={"n_ctx": 2048, "n_threads": 1, "n_threads_batch": 1, "flash_attn": flash_attn, **kv})
        bad = [(check.id, check.summary) for check in (*result.failed, *result.warned)]
        assert not bad, f"{kv}: {bad}"


@pytest.mark.slow
def test_the_full_profile_passes_on_the_demo() -> None:
    result = smoke(demo_model_path(), profile="full")
    assert result.verdict == "pass", [(check.id, check.summary) for check in (*result.failed, *result.warned)]
    ids = {check.id for check in result.checks if check.status == "pass"}
    assert {"C6-flash-attention", "C6-kv-q8_0", "C6-kv-q4_0", "E6-needle", "C5-long-prompt", "C9-repeatable"} <= ids


def test_a_fingerprint_taken_here_passes_here_and_tells_quants_apart(tmp_path: Path) -> None:
    stored = tmp_path / "golden.json"
    taken = smoke(demo_model_path(), save_golden=stored)
    assert golden.load(stored) == taken.to_data()["fingerprint"]
    again = smoke(demo_model_path(), golden=stored)
    check = next(check for check in again.checks if check.id == "C8-golden")
    assert check.status == "pass", check.summary
    coarser = smoke(demo_variants.write_variant(tmp_path, "Q4_0"), golden=stored)
    assert "C8-golden" in failures(coarser), coarser.line
    # Not by its size alone: the values say so too.
    assert coarser.fingerprint is not None
    as_big = {**coarser.fingerprint, "model_bytes": golden.load(stored)["model_bytes"]}
    assert golden.compare(golden.load(stored), as_big).status == "fail"


def test_a_fingerprint_does_not_depend_on_context_and_batch_sizes() -> None:
    options = {"n_ctx": 512, "n_threads": 1, "n_threads_batch": 1, "n_batch": 64, "n_ubatch": 64}
    check = next(one for one in smoke(demo_model_path(), llama_kwargs=options).checks if one.id == "C8-golden")
    assert check.status == "pass", check.summary
