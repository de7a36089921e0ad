"""The conversation layer may cost at most 2 % of what the bare streaming loop of llama-cpp-python costs."""

from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.integration.chat.conftest import ScriptedModel

SCRIPT = Path(__file__).parents[3] / "scripts" / "bench_chat"


@pytest.mark.integration
@pytest.mark.slow
def test_the_worker_spends_no_more_than_the_bare_loop_on_the_same_tokens(
    scripted_model: "ScriptedModel", monkeypatch: pytest.MonkeyPatch
) -> None:
    """CPU seconds, not the clock: on a busy machine the clock measures the neighbours."""
    monkeypatch.setattr("sys.dont_write_bytecode", True)
    loader = SourceFileLoader("bench_chat", str(SCRIPT))
    spec = spec_from_loader(loader.name, loader)
    assert spec is not None
    bench = module_from_spec(spec)
    loader.exec_module(bench)
    model = scripted_model(["Once", " upon", " a time"], loop=True, layers=24)
    assert bench.measure_worker(model, rounds=40, tokens=24) <= 2.0
