"""How many connections a transfer uses when nobody said: a few first, and more while each addition brings its share. Pure.

Many mirrors limit each connection, and there more of them are all that helps. Where the line, this machine or the server is the
limit, more only cost; so the addition that brings too little is the last one.
"""

from __future__ import annotations

from dataclasses import dataclass

FIRST = 8
STEP = 4
MOST = 16
SETTLE_S = 1.0
"""Connections need that long to reach their speed, and servers let some of each through faster at its beginning."""
MEASURE_S = 1.0
WORTH_S = 4.0
"""With less than this to go, new connections would hardly pay for their handshakes."""
ENOUGH = 0.5
"""What part of its share an addition must bring. Half of it is beyond what a steady line varies by."""


@dataclass(slots=True)
class Growth:
    """Tell it now and then how far the transfer is; it answers with the number of connections there should be."""

    connections: int = FIRST
    over: bool = False
    """The answer stays what it is."""
    _before: float | None = None
    """Bytes per second with the connections before the last addition."""
    _settled_s: float | None = None
    _began: tuple[float, int] | None = None

    def wanted(self, now: float, *, received_bytes: int, missing_bytes: int, hindered: bool) -> int:
        """`hindered`: a source was busy, broke off, or has but one stream to give. Never less than the answer before."""
        if hindered:
            self.over = True
        if self.over or not received_bytes:
            return self.connections
        if self._settled_s is None:
            self._settled_s = now + SETTLE_S
        if now < self._settled_s:
            return self.connections
        if self._began is None:
            self._began = (now, received_bytes)
        began_s, had = self._began
        if now - began_s >= MEASURE_S:
            self._judge((received_bytes - had) / (now - began_s), missing_bytes)
        return self.connections

    def _judge(self, rate: float, missing_bytes: int) -> None:
        self._began = None
        if not rate:
            # Everything stands still: that says nothing about the number, so it is measured again.
            return
        if self._before is not None:
            share = self._before * STEP / (self.connections - STEP)
            self.over = rate - self._before < ENOUGH * share
        if self.connections + STEP > MOST or missing_bytes <= rate * WORTH_S:
            self.over = True
        if not self.over:
            self._before, self._settled_s = rate, None
            self.connections += STEP
