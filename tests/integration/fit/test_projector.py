"""The projector's memory: as libmtmd counts it from a header with a hole, and how far the estimate is from that."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from provision.fit.projector import estimated_compute, read_projector
from provision.gguf.reader import read_header
from provision.gguf.source import BytesSource
from provision.units import MIB
from tests.support.ggufs import header_bytes
from tests.support.projector import projector

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(importlib.util.find_spec("llama_cpp") is None, reason="llama-cpp-python is not installed here"),
]
TOWERS: dict[str, dict[str, Any]] = {
    "ViT-L/14-336": {},
    "SigLIP-So400m-896": {"width": 1152, "ff": 4304, "layers": 27, "image": 896, "out": 2560},
    "ViT-B/16-224": {"width": 768, "ff": 3072, "layers": 12, "heads": 12, "image": 224, "patch": 16, "out": 2048},
}


@pytest.mark.parametrize("name", TOWERS)
def test_the_engine_counts_weights_and_compute_and_the_estimate_is_near(name: str) -> None:
    data, size = header_bytes(*projector(**TOWERS[name]))
    header = read_header(BytesSource(data, size_bytes=size))
    counted = read_projector(header, name, python=Path(sys.executable), env=os.environ)
    assert "as the engine counts them" in counted.note
    compute = counted.size_bytes - header.tensor_bytes
    assert compute > 0
    assert abs(estimated_compute(header) - compute) < max(4 * MIB, compute // 20)
