"""The bytes of one file: transfer what is missing, hash while they come, and mend what came wrong."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from provision.errors import IntegrityError, TransferError
from provision.events import Note, Progress, Reporter
from provision.fetch.disk import disk_errors
from provision.fetch.displaced import Displaced
from provision.fetch.follower import Follower, Recheck, hash_of
from provision.fetch.limit import RateLimit
from provision.fetch.partial import PartialFile
from provision.fetch.pieces import Ledger, Part
from provision.fetch.sources import Source
from provision.fetch.speed import Speedometer
from provision.fetch.store import Attested
from provision.fetch.swarm import Swarm
from provision.fetch.transfer import Transfer, TransferOptions
from provision.fetch.wire import Dialer
from provision.fetch.words import sources_in_words

_REPORT_EVERY_S = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """What every file of one fetch shares."""

    dialer: Dialer
    attested: Attested
    reporter: Reporter
    connections: int | None
    patience_s: float
    stall_s: float
    limit: RateLimit | None = None
    clock: Callable[[], float] = time.monotonic
    cancel: threading.Event = field(default_factory=threading.Event)
    """Set when the whole fetch ends early; transfers in other threads stop at their next tick."""
    distrusted: set[str] = field(default_factory=set)
    """Origins that delivered wrong bytes; they get no further file of this fetch."""


@dataclass(slots=True, kw_only=True)
class Filling:
    """One file's bytes on their way."""

    path: str
    digest: str
    size_bytes: int
    partial: PartialFile
    sources: list[Source]
    means: Means
    transferred_bytes: int = 0
    mended: bool = False
    _resumed: frozenset[int] = frozenset()
    """Pieces of which an earlier run left anything."""
    _changed: set[int] = field(default_factory=set)
    """Pieces that were replaced, and in the last transfer."""
    _differed: set[int] = field(default_factory=set)
    _speed: Speedometer = field(default_factory=Speedometer)
    _reported_s: float = 0.0

    def run(self) -> None:
        """Until the partial holds the right bytes. Raises IntegrityError, TransferError, MachineError, KeyboardInterrupt."""
        whole, parts = set(self.partial.sources_of), dict(self.partial.parts)
        self._resumed = frozenset({*whole, *parts})
        actual = self._transfer(self.sources, whole, parts)
        if actual != self.digest:
            self._say(f"{self.path} arrived whole but its hash is wrong; looking for the bad bytes")
            self._mend()
            self.mended = True

    def _transfer(
        self, sources: list[Source], have: set[int], parts: Mapping[int, Part], *, displaced: Displaced | None = None
    ) -> str:
        """Move the pieces that are not in `have`, apart from `parts`; returns the hash of the whole file.

        With `displaced`, what is on disk is compared and kept where it is the same, what differs goes there, and all ends as
        soon as the hash is right.
        """
        partial, means = self.partial, self.means
        begun = [span for part in parts.values() for span in part.spans]
        ledger = Ledger(size_bytes=self.size_bytes, piece_bytes=partial.identity.piece_bytes, have=have, begun=begun)
        follower: Follower | None = None

        def on_piece(index: int, origins: frozenset[str]) -> None:
            partial.record(index, origins)
            if index in transfer.changed:
                recheck.nudge()
            if follower is not None:
                follower.nudge()

        touched = {index: set(part.sources) for index, part in parts.items()}
        swarm = Swarm(ledger=ledger, clock=means.clock, on_piece=on_piece, touched=touched, in_order=displaced is not None)
        partial.follow(swarm.parts)
        follower = Follower(partial.fd, size_bytes=self.size_bytes, digest=self.digest, front=swarm.front)
        transfer = Transfer(
            path=self.path,
            swarm=swarm,
            partial=partial,
            sources=sources,
            dialer=means.dialer,
            options=TransferOptions(connections=means.connections, stall_s=means.stall_s, limit=means.limit),
            displaced=displaced,
        )
        recheck = Recheck(partial.fd, size_bytes=self.size_bytes, digest=self.digest, on_match=swarm.stop)
        try:
            if not ledger.complete:
                transfer.run(lambda: self._report(swarm.written_bytes(), *sources_in_words(sources), moving=True))
            if recheck.matched:
                # Once more, now that nobody writes: a source might just have replaced a right piece by a wrong one.
                with disk_errors(partial.path):
                    return hash_of(partial.fd, self.digest, self.size_bytes)
            while not follower.join(0.02):
                self._report(follower.hashed_bytes, "checking", moving=False)
            with disk_errors(partial.path):
                return follower.hexdigest()
        finally:
            recheck.stop()
            follower.stop()
            self._differed = transfer.changed
            self._changed |= transfer.changed
            self.transferred_bytes += swarm.received_bytes

    def _mend(self) -> None:
        """Fetch again what may be wrong, from one source at a time, and keep what differs until the hash is right.

        Only the whole file has a known hash, so a bad piece is found by comparing it with a second delivery. What a source
        replaced without making the hash right is put back before the next one is asked: a second liar must not spoil what the
        first left whole. The search ends with the piece that makes the hash right: with one source and one bad piece, after
        half the file on average.
        """
        before = dict(self.partial.sources_of)
        displaced = Displaced(
            self.partial.path.parent, size_bytes=self.size_bytes, piece_bytes=self.partial.identity.piece_bytes
        )
        try:
            if self._found(before, displaced):
                return
        finally:
            displaced.close()
        self._leave_what_was_here(before)
        told = ", ".join(one.origin for one in self.sources)
        raise IntegrityError(
            f"{self.path} as delivered by {told} does not have the promised hash {self.digest}",
            code="hash-mismatch",
            hint="fetch it from another mirror: --endpoint URL",
        )

    def _found(self, before: dict[int, frozenset[str]], displaced: Displaced) -> bool:
        """Whether one source made the hash right: asked first for what others may have spoilt, then for all it did not give.

        Raises the TransferError of a source that stopped answering when no other one helped.
        """
        everything = frozenset(range(-(-self.size_bytes // self.partial.identity.piece_bytes)))
        alone = len(self.sources) == 1
        agreed = {source.origin: set() if alone else self._given_by(source.origin, before) for source in self.sources}
        failure: TransferError | None = None
        for groups in (self._suspects(before), [(None, everything)]):
            for source in self.sources:
                if source.dead is not None:
                    continue
                asked = set(agreed[source.origin])
                try:
                    for suspect, suspected in groups:
                        indices = suspected - asked
                        if suspect == source.origin or not indices:
                            continue
                        asked |= indices
                        actual = self._transfer([source], set(everything - indices), {}, displaced=displaced)
                        if actual == self.digest:
                            self._blame(before, suspect)
                            return True
                        # Alone, it is not asked for anything a third time, and nobody else's bytes have to come back.
                        agreed[source.origin] |= indices if alone else indices - self._differed
                except TransferError as error:
                    failure = error
                if not alone:
                    self._put_back(before, displaced)
        self._put_back(before, displaced)
        if failure is not None:
            raise failure
        return False

    def _given_by(self, origin: str, before: dict[int, frozenset[str]]) -> set[int]:
        """Pieces that came in this run, and from this source alone."""
        return {index for index, origins in before.items() if origins == {origin} and index not in self._resumed}

    def _put_back(self, before: dict[int, frozenset[str]], displaced: Displaced) -> None:
        if displaced.restore(self.partial.write):
            self._changed = set()
            for index, origins in before.items():
                if self.partial.sources_of.get(index) != origins:
                    self.partial.record(index, origins)

    def _leave_what_was_here(self, before: dict[int, frozenset[str]]) -> None:
        """Nobody who was asked has the right bytes. What an earlier run left may be right for somebody else's."""
        if self._resumed:
            self.partial.forget(index for index in before if index not in self._resumed)
        else:
            self.partial.discard()

    def _suspects(self, before: dict[int, frozenset[str]]) -> list[tuple[str | None, frozenset[int]]]:
        """Whom to doubt and which pieces, in this order: origins of former runs, then all that former runs left (a disk may
        have lost it), mirrors, the first source.
        """
        present = [one.origin for one in self.sources]
        gone = sorted({origin for origins in before.values() for origin in origins} - set(present))
        named = [*gone, *(reversed(present) if len(present) > 1 else [])]
        groups: list[tuple[str | None, frozenset[int]]] = [
            (origin, frozenset(index for index, origins in before.items() if origin in origins)) for origin in named
        ]
        groups.insert(len(gone), (None, self._resumed))
        return groups

    def _blame(self, before: dict[int, frozenset[str]], suspect: str | None) -> None:
        """Name who delivered what had to be replaced, and ask it no more when there is somebody else.

        `suspect` is who was not asked again. Without one, it is who had a hand in every wrong piece: a piece may be of several
        sources, and the honest ones among them must not be blamed. Nor is anybody for what an earlier run left: a disk loses
        bytes too.
        """
        count = len(self._changed)
        told = f"{count} wrong piece{'s' if count != 1 else ''} of {self.path} replaced"
        if self._changed & self._resumed:
            self._say(f"{told}; {'they were' if count != 1 else 'it was'} here from before")
            return
        hands = [before.get(index, frozenset()) for index in self._changed]
        liars = {suspect} if suspect is not None else frozenset.intersection(*hands) if hands else frozenset()
        self._say(f"{told}; {'they' if count != 1 else 'it'} came from {' or '.join(sorted(liars)) or 'several places'}")
        if len(self.sources) > 1 and len(liars) == 1:
            self.means.distrusted.update(liars)

    def _say(self, message: str) -> None:
        self.means.reporter(Note(level="warning", message=message))

    def _report(self, done: int, note: str, brief: str = "", *, moving: bool) -> None:
        if self.means.cancel.is_set():
            raise KeyboardInterrupt
        now = self.means.clock()
        if now - self._reported_s < _REPORT_EVERY_S:
            return
        self._reported_s = now
        per_s = self._speed.per_s(done, now) if moving else None
        self.means.reporter(
            Progress(
                task=f"fetch:{self.path}",
                label=self.path,
                done=done,
                total=self.size_bytes,
                unit="bytes",
                per_s=per_s,
                left_s=(self.size_bytes - done) / per_s if per_s else None,
                note=note,
                brief=brief,
            )
        )
