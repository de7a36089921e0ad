"""Speed of one load of a model: tokens/s of every repetition, and where the layers were."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parent))
import smoke_entry as entry

with entry.importing():
    import smoke_engine as engine


def work(request: dict[str, Any], answer: dict[str, Any]) -> None:
    """Load, then measure as often as asked."""
    llm = engine.load(request, answer)
    answer |= {
        "stage": "speed",
        "n_threads": engine.lib.llama_n_threads(llm._ctx.ctx),
        "n_threads_batch": engine.lib.llama_n_threads_batch(llm._ctx.ctx),
        "log": engine.log_text()[-60_000:],
    }
    entry.snapshot(answer)
    answer |= engine.speed(
        llm, n_prompt=request["n_prompt"], n_generate=request["n_generate"], repetitions=request["repetitions"]
    )


if __name__ == "__main__":
    entry.run(work)
