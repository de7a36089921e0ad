"""Speed of one load of a model: tokens/s of every repetition, and where the layers were."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parent))
try:
    import smoke_engine as engine
except Exception as error:
    print("@provision " + json.dumps({"error": f"{type(error).__name__}: {error}", "stage": "import"}), flush=True)
    sys.exit(1)


def main() -> None:
    """Read the request, load, measure, answer."""
    request = json.loads(sys.stdin.readline())
    answer: dict[str, Any] = {"stage": "load", "cpu_flags": engine.cpu_flags(), **engine.environment()}
    engine.snapshot(answer)
    try:
        llm = engine.open_model(request["model"], request["llama_kwargs"])
        answer |= {
            "stage": "speed",
            "devices": engine.devices(),
            "model_bytes": engine.lib.llama_model_size(llm._model.model),
            "n_threads": engine.lib.llama_n_threads(llm._ctx.ctx),
            "n_threads_batch": engine.lib.llama_n_threads_batch(llm._ctx.ctx),
            "log": engine.log_text()[-60_000:],
        }
        engine.snapshot(answer)
        answer |= engine.speed(
            llm, n_prompt=request["n_prompt"], n_generate=request["n_generate"], repetitions=request["repetitions"]
        )
        answer["stage"] = "done"
    except Exception as error:
        answer["error"] = f"{type(error).__name__}: {error}"[:500]
    engine.snapshot(answer)
    os._exit(1 if "error" in answer else 0)


if __name__ == "__main__":
    main()
