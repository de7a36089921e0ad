"""Where a file's bytes may come from, and how each place behaves. All sources of one file are bound by one hash."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from provision.errors import ProvisionError, TransferError
from provision.fetch.judge import backoff_s
from provision.fetch.patience import Patience
from provision.fetch.wire import Target
from provision.hub.addresses import FINAL_CODES
from provision.hub.types import Resolved

_FINAL_CODES = ("xet-only", *FINAL_CODES)
"""Asking again would bring the same."""
_MAX_WRONG = 3
_MAX_REFRESHES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """One place that says it has the file. `resolve` asks it for an address that serves bytes; it may raise ProvisionError."""

    origin: str
    resolve: Callable[[], Resolved]


@dataclass(slots=True)
class Source:
    """One offer at work. Shared by all threads of a transfer; every change happens under `lock`."""

    offer: Offer
    patience: Patience
    lock: threading.RLock = field(default_factory=threading.RLock)
    dead: str | None = None
    """Why nothing more is asked of it."""
    error: ProvisionError | None = None
    proven: bool = False
    """It has given one exact answer, so more connections may come."""
    one_stream: bool = False
    troubled: bool = False
    """It was busy or broke off: not the moment to ask more of it at once."""
    waiting_for: str = ""
    """What went wrong since its last byte."""
    active: int = 0
    not_before: float = 0.0
    delivered_bytes: int = 0
    _target: Target | None = None
    _resolving: bool = False
    _generation: int = 0
    _expires_at: float | None = None
    _resolved_s: float = 0.0
    _wrong: int = 0
    _refreshes: int = 0

    @property
    def origin(self) -> str:
        return self.offer.origin

    def engage(self, now: float) -> bool:
        """Take part, if there is something to do here: one more is `active`."""
        with self.lock:
            if self._target is None or not self.usable(now):
                return False
            self.active += 1
            return True

    def wants_address(self, now: float) -> bool:
        """Whether the caller shall call `find_address`, in a thread that nobody waits for: it may take long."""
        with self.lock:
            if self.dead is not None or now < self.not_before or self._resolving:
                return False
            self._resolving = self._target is None or self._soon_expired()
            return self._resolving

    def find_address(self) -> None:
        """Ask for an address that serves bytes; kept until `expired`. Failing is told by `dead` and `not_before`."""
        began_s = time.monotonic()
        try:
            resolved = self.offer.resolve()
        except ProvisionError as error:
            if isinstance(error, TransferError) and error.code not in _FINAL_CODES:
                self.failed(error.message, since_s=began_s)
            else:
                self.give_up(error.message, error)
        else:
            with self.lock:
                self._expires_at, self._resolved_s = resolved.expires_at, time.monotonic()
                self._target = Target(url=resolved.url, headers=resolved.headers)
                self._generation += 1
        finally:
            with self.lock:
                self._resolving = False

    def address(self) -> tuple[Target | None, int]:
        """Where the bytes are, and which of the addresses so far that is; None when it was just refused."""
        with self.lock:
            return self._target, self._generation

    def _soon_expired(self) -> bool:
        """Signed addresses say when they end. A wrong clock must not make us resolve at every request, hence the minute."""
        if self._expires_at is None or time.monotonic() - self._resolved_s < 60.0:
            return False
        return time.time() > self._expires_at - 30.0

    def expired(self, generation: int, reason: str) -> None:
        """The address was refused: forget it, unless another thread already did."""
        with self.lock:
            if generation != self._generation or self._target is None:
                return
            self._target = None
            self._refreshes += 1
            if self._refreshes > _MAX_REFRESHES:
                self.give_up(f"its addresses are refused again and again ({reason})")
            elif self._refreshes > 1:
                self.not_before = time.monotonic() + backoff_s(self._refreshes)

    def progressed(self, count: int) -> None:
        with self.lock:
            self.delivered_bytes += count
            self._wrong = self._refreshes = 0
            self.waiting_for = ""
            self.patience.delivered()

    def failed(self, reason: str, *, wait_s: float | None = None, since_s: float | None = None) -> None:
        """Busy, broken or silent: wait longer each time, and give up when patience ends without a single byte."""
        with self.lock:
            now = time.monotonic()
            self.troubled = True
            if now < self.not_before:
                return
            self.waiting_for = reason
            again_s = self.patience.failed(now, wait_s=wait_s, since_s=since_s)
            if again_s is None:
                waited = f"nothing came for {self.patience.waited_s(now):.0f} s"
                self.give_up(f"{reason}; {waited}" + (", and it asks for more time" if wait_s is not None else ""))
            else:
                self.not_before = again_s

    def lied(self, reason: str) -> None:
        """It answered another question. A server may do that once; not three times without a right byte between."""
        with self.lock:
            self._wrong += 1
            self.not_before = time.monotonic() + backoff_s(self._wrong)
            if self._wrong >= _MAX_WRONG:
                self.give_up(reason)

    def give_up(self, reason: str, error: ProvisionError | None = None) -> None:
        with self.lock:
            if self.dead is None:
                self.dead, self.error = reason, error

    def usable(self, now: float) -> bool:
        if self.dead is not None or now < self.not_before:
            return False
        most = 1 if self.one_stream or not self.proven else None
        return most is None or self.active < most


def no_source_left(path: str, sources: list[Source]) -> ProvisionError:
    """The error of a transfer whose sources are all gone: the first one's own when none of them was a matter of waiting."""
    final = [source.error for source in sources if source.error is not None]
    if len(final) == len(sources) and final:
        return final[0]
    told = "; ".join(f"{source.origin}: {source.dead}" for source in sources)
    return TransferError(
        f"{path}: the transfer gave up; what arrived is kept ({told})",
        code="transfer-gave-up",
        hint="run the same command again; it resumes. Another mirror: --endpoint URL",
    )
