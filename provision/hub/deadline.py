"""A limit on the whole of what has limits for its parts only: a server that sends a byte now and then keeps within those."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")


def within(limit_s: float, work: Callable[[], T]) -> T:
    """What `work` returns or raises. Raises TimeoutError after `limit_s`; `work` then goes on in a thread nobody waits for."""
    outcome: Future[T] = Future()

    def run() -> None:
        try:
            outcome.set_result(work())
        except BaseException as error:  # noqa: BLE001 - handed to the caller, whatever it is
            outcome.set_exception(error)

    # Not an executor's: the interpreter would wait for that one at its end.
    threading.Thread(target=run, name="hub-ask", daemon=True).start()
    return outcome.result(limit_s)
