"""How every measuring child begins and ends: imports that may fail, one request, an answer that grows, no tear-down.

Standard library only, so that it works where the engine or numpy does not.
"""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

MARK = "@provision "
Answer = dict[str, Any]


def snapshot(answer: Answer) -> None:
    """Say all that is known so far. The parent reads the last line, so a later death leaves this much."""
    print(MARK + json.dumps(_finite(answer), allow_nan=False), flush=True)


@contextmanager
def importing() -> Iterator[None]:
    """Imports of the engine and what it needs: a failure is the answer."""
    try:
        yield
    except Exception as error:
        snapshot({"error": f"{type(error).__name__}: {error}", "stage": "import"})
        sys.exit(1)


def run(work: Callable[[Answer, Answer], None]) -> NoReturn:
    """Read the request from stdin, let `work(request, answer)` fill the answer, print it whatever happens."""
    request = json.loads(sys.stdin.readline())
    answer: Answer = {"stage": "start", "pid": os.getpid()}
    try:
        work(request, answer)
        answer["stage"] = "done"
    except Exception as error:
        answer["error"] = f"{type(error).__name__}: {error}"[:500]
    snapshot(answer)
    # Tearing the engine down can crash after everything is measured; closing is what the OS does well.
    sys.stdout.flush()
    os._exit(1 if "error" in answer else 0)


def _finite(value: Any) -> Any:
    """NaN and infinity as None: JSON has no word for them."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list) else value
