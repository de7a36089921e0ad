"""The projector beside a model: found, recognised, estimated, counted where it will lie."""

from __future__ import annotations

from pathlib import Path

import pytest

from provision.errors import IntegrityError, NotFoundError
from provision.fit.service import fit
from provision.fit.types import FitWish
from provision.settings import Settings, read_settings
from provision.units import GIB, MIB
from tests.support.ggufs import write_sparse
from tests.support.projector import projector
from tests.support.shapes import dense


def made(folder: Path, *, with_projector: bool = True) -> Path:
    model = dense("m", "llama", layers=4, embd=1024, ff=2048, heads=8, kv_heads=8, vocab=4096)
    if with_projector:
        write_sparse(folder / "mmproj-m-F16.gguf", *projector())
    return write_sparse(folder / "m.gguf", model.metadata, model.tensors)


def settings_of(folder: Path) -> Settings:
    return read_settings({"PROVISION_HOME": str(folder / "home")}, home=folder)


def test_it_is_counted_only_when_asked_and_named_when_not(tmp_path: Path) -> None:
    path = made(tmp_path)
    wish = FitWish(vram=(8 * GIB,), ram=16 * GIB, n_ctx=2048)
    plain = fit(str(path), wish, host=None, settings=settings_of(tmp_path)).chosen
    asked = FitWish(vram=(8 * GIB,), ram=16 * GIB, n_ctx=2048, mmproj="auto")
    counted = fit(str(path), asked, host=None, settings=settings_of(tmp_path)).chosen
    assert plain is not None
    assert counted is not None
    assert any("mmproj-m-F16.gguf is not counted" in reason for reason in plain.reasons)
    grown = counted.estimate.devices[0].total_bytes - plain.estimate.devices[0].total_bytes
    weights = sum(tensor.size_bytes for tensor in projector()[1])
    assert weights < grown < weights + 64 * MIB
    assert any("compute buffer is an estimate" in reason for reason in counted.reasons)


def test_without_a_gpu_it_takes_main_memory_that_can_not_be_dropped(tmp_path: Path) -> None:
    path = made(tmp_path)
    found = [
        fit(
            str(path),
            FitWish(vram=(), ram=16 * GIB, n_ctx=2048, mmproj=one, estimator="analytic"),
            host=None,
            settings=settings_of(tmp_path),
        ).chosen
        for one in (None, "auto")
    ]
    plain, counted = found
    assert plain is not None
    assert counted is not None
    assert counted.estimate.host.anonymous_bytes - plain.estimate.host.anonymous_bytes > 500 * MIB


def test_what_is_missing_or_something_else_is_said(tmp_path: Path) -> None:
    path = made(tmp_path, with_projector=False)
    wish = FitWish(vram=(), ram=16 * GIB, mmproj="auto")
    with pytest.raises(NotFoundError, match="no multimodal projector"):
        fit(str(path), wish, host=None, settings=settings_of(tmp_path))
    wrong = FitWish(vram=(), ram=16 * GIB, mmproj=str(path))
    with pytest.raises(IntegrityError, match="no multimodal projector"):
        fit(str(path), wrong, host=None, settings=settings_of(tmp_path))
