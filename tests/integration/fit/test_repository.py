"""A repository is judged from its headers alone: over real HTTP, with few requests, and nothing unfit is ever recommended."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from provision.errors import IntegrityError, NotFoundError
from provision.fit.service import fit
from provision.fit.types import FitResult, FitWish
from provision.settings import read_settings
from provision.units import GIB, MIB
from tests.support.ggufs import Tensor, header_bytes
from tests.support.hub import RunningHub, repo, start_hub
from tests.support.shapes import dense

pytestmark = pytest.mark.integration
REPO = "tester/Model-GGUF"
KINDS = {"Q8_0": ("Q8_0", "Q8_0"), "Q4_K_M": ("Q4_K", "Q6_K"), "Q2_K": ("Q2_K", "Q3_K"), "F16": ("F16", "F16")}


@dataclass(frozen=True)
class HeaderThenHole:
    """A model file of its true size whose weights are zeros. Nobody downloads it, so its hash is made up."""

    header: bytes
    size_bytes: int

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.header).hexdigest()

    def read(self, offset: int, length: int) -> bytes:
        piece = self.header[offset : offset + length]
        return piece + b"\0" * (min(length, self.size_bytes - offset) - len(piece))


def vocabulary() -> dict[str, Any]:
    words = [f"word{index}" for index in range(32_000)]
    return {"tokenizer.ggml.model": "llama", "tokenizer.ggml.tokens": words, "tokenizer.ggml.scores": [0.0] * len(words)}


def model(quant: str) -> tuple[dict[str, Any], tuple[Tensor, ...]]:
    kind, better = KINDS[quant]
    made = dense("m", "llama", layers=16, embd=2048, ff=8192, heads=32, kv_heads=8, vocab=32_000, kind=kind, better=better)
    return made.metadata | vocabulary(), made.tensors


def whole(quant: str) -> HeaderThenHole:
    return HeaderThenHole(*header_bytes(*model(quant)))


def parts(quant: str, count: int) -> list[HeaderThenHole]:
    metadata, tensors = model(quant)
    size = -(-len(tensors) // count)
    pieces = [tensors[index * size : (index + 1) * size] for index in range(count)]
    out = []
    for index, piece in enumerate(pieces):
        pairs = {"split.no": index, "split.count": count, "split.tensors.count": len(tensors)}
        out.append(HeaderThenHole(*header_bytes((metadata if index == 0 else {}) | pairs, piece)))
    return out


@pytest.fixture(scope="module")
def hub() -> Iterator[RunningHub]:
    files: dict[str, Any] = {f"Model-{quant}.gguf": whole(quant) for quant in ("Q8_0", "Q4_K_M", "Q2_K")}
    files |= {f"F16/Model-F16-{i:05d}-of-00003.gguf": part for i, part in enumerate(parts("F16", 3), 1)}
    files |= {
        "Model-Q6_K-00001-of-00002.gguf": parts("Q8_0", 2)[0],  # its second half is missing
        "mmproj-Model-Q4_0.gguf": whole("Q2_K"),
        "Model.imatrix.gguf": whole("Q2_K"),
        "README.md": b"# Model",
    }
    with start_hub(repos=[repo(REPO, files)]) as running:
        yield running


def fitted(hub: RunningHub, tmp_path: Path, target: str = REPO, **wish: Any) -> FitResult:
    settings = read_settings({"HF_ENDPOINT": hub.url, "XDG_CACHE_HOME": str(tmp_path)}, home=tmp_path)
    return fit(target, FitWish(estimator="analytic", **wish), host=None, settings=settings)


def test_every_usable_quant_is_a_candidate_and_nothing_else(hub: RunningHub, tmp_path: Path) -> None:
    found = fitted(hub, tmp_path, vram=(24 * GIB,), ram=64 * GIB)
    assert [one.quant for one in found.candidates] == ["F16", "Q8_0", "Q4_K_M", "Q2_K"]
    assert found.chosen is not None
    assert found.chosen.quant == "F16"
    for one in found.candidates:
        assert one.quality is not None
        assert one.quality.source.startswith("fallback")
        assert one.reason


def test_what_is_judged_by_another_header_says_so_and_is_near_its_own(hub: RunningHub, tmp_path: Path) -> None:
    found = fitted(hub, tmp_path, vram=(2400 * MIB,), ram=64 * GIB)
    assert found.chosen is not None
    for one in found.candidates:
        read = one.quant in (found.chosen.quant, "Q2_K")  # the recommended one and the one every other is scaled from
        assert ("another quant's header" in one.reason) is not read
        own = fitted(hub, tmp_path, f"{REPO}:{one.quant}", vram=(2400 * MIB,), ram=64 * GIB)
        verdict = next(other.verdict for other in own.candidates if other.quant == one.quant)
        assert verdict == one.verdict


def test_a_projector_is_named_and_counted_on_demand(hub: RunningHub, tmp_path: Path) -> None:
    found = fitted(hub, tmp_path, vram=(24 * GIB,), ram=64 * GIB)
    assert found.chosen is not None
    assert any("mmproj-Model-Q4_0.gguf is not counted" in reason for reason in found.chosen.reasons)
    with pytest.raises(IntegrityError, match="no multimodal projector"):  # the file of this hub only has the name of one
        fitted(hub, tmp_path, vram=(24 * GIB,), ram=64 * GIB, mmproj="auto")


def test_less_memory_takes_a_smaller_quant_and_says_why(hub: RunningHub, tmp_path: Path) -> None:
    chosen = [fitted(hub, tmp_path, vram=(size * MIB,), ram=16 * GIB).chosen for size in (24_000, 2400, 1500)]
    assert [one.quant if one else None for one in chosen] == ["F16", "Q8_0", "Q4_K_M"]
    assert chosen[2] is not None
    assert any("policy balanced" in reason for reason in chosen[2].reasons)


def test_nothing_that_fits_is_a_refusal_with_every_candidate(hub: RunningHub, tmp_path: Path) -> None:
    found = fitted(hub, tmp_path, vram=(), ram=600 * MIB)
    assert found.chosen is None
    assert {one.verdict for one in found.candidates} == {"too-big"}
    assert found.refusal


def test_a_quant_that_is_named_is_taken(hub: RunningHub, tmp_path: Path) -> None:
    found = fitted(hub, tmp_path, f"{REPO}:q2_k", vram=(24 * GIB,), ram=64 * GIB)
    assert found.chosen is not None
    assert found.chosen.quant == "Q2_K"
    with pytest.raises(NotFoundError):
        fitted(hub, tmp_path, f"{REPO}:Q5_K_M", vram=(24 * GIB,), ram=64 * GIB)


def test_a_revision_that_is_asked_for_is_the_one_that_is_read(hub: RunningHub, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        fitted(hub, tmp_path, vram=(24 * GIB,), ram=64 * GIB, revision="no-such-branch")


def test_a_split_costs_one_request_more_per_part_and_a_header_at_most_three(hub: RunningHub, tmp_path: Path) -> None:
    before = hub.log.body_bytes()
    fitted(hub, tmp_path, f"{REPO}:Q8_0", vram=(24 * GIB,), ram=64 * GIB)
    one_header = len(whole("Q8_0").header)
    assert hub.log.body_bytes() - before < 2 * one_header + 300_000


def test_an_address_is_fitted_like_a_file(hub: RunningHub, tmp_path: Path) -> None:
    url = f"{hub.url}/{REPO}/resolve/main/Model-Q4_K_M.gguf"
    found = fitted(hub, tmp_path, url, vram=(24 * GIB,), ram=64 * GIB)
    assert found.chosen is not None
    assert found.candidates[0].quant == "Q4_K_M"
    assert found.candidates[0].size_bytes == whole("Q4_K_M").size_bytes
