"""Moves the missing bytes of one file from its sources to its partial, over many connections at once."""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from provision.errors import TransferError
from provision.fetch import growth
from provision.fetch.displaced import Displaced
from provision.fetch.judge import Kind, Verdict, judge
from provision.fetch.limit import RateLimit
from provision.fetch.partial import PartialFile
from provision.fetch.pieces import Span, http_range
from provision.fetch.redirects import MAX_REDIRECTS, next_target
from provision.fetch.sources import Source, no_source_left
from provision.fetch.swarm import Lease, Swarm
from provision.fetch.wire import Connection, Dialer, Target, WireError, lower_headers, origin_of
from provision.units import KIB, MIB

_MIN_CHUNK_BYTES = 16 * KIB
_MAX_CHUNK_BYTES = MIB
_BUFFERS_BYTES = 16 * MIB
"""For all connections together, so that 64 of them stay small too."""
_TICK_S = 0.1
_READ_S = 0.1
"""What one read of a connection should take."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferOptions:
    connections: int | None = None
    """None: as many as help."""
    stall_s: float = 10.0
    limit: RateLimit | None = None

    @property
    def buffer_bytes(self) -> int:
        """Of each connection: the most that is read at once."""
        return min(_MAX_CHUNK_BYTES, _BUFFERS_BYTES // (self.connections or growth.MOST))


class Transfer:
    """One run over the free bytes of `swarm`. With `displaced`, only what differs from the disk is rewritten, the old bytes go
    there, and `changed` tells which pieces differed."""

    def __init__(
        self,
        *,
        path: str,
        swarm: Swarm,
        partial: PartialFile,
        sources: list[Source],
        dialer: Dialer,
        options: TransferOptions,
        displaced: Displaced | None = None,
    ) -> None:
        self.path = path
        self.swarm = swarm
        self.partial = partial
        self.sources = sources
        self.dialer = dialer
        self.options = options
        self.displaced = displaced
        self.changed: set[int] = set()
        self.connections = options.connections or growth.FIRST
        # Under a rate limit more connections bring nothing, and when somebody gave a number, that is the number.
        self._growth = growth.Growth() if options.connections is None and options.limit is None else None
        self._workers: list[_Worker] = []

    def run(self, on_tick: Callable[[], None]) -> None:
        """Until every byte is here. Raises the first fatal error, no_source_left, or what `on_tick` raises (Ctrl-C)."""
        try:
            self._employ(min(self.connections, max(1, -(-self.swarm.ledger.free_bytes // (256 * KIB)))))
            while not self.swarm.over:
                self.swarm.wait(_TICK_S)
                on_tick()
                self.swarm.cut_silent(stall_s=self.options.stall_s)
                if all(source.dead is not None for source in self.sources) and not self.swarm.ledger.complete:
                    raise no_source_left(self.path, self.sources)
                self._grow()
        finally:
            self.swarm.stop()
            for worker in self._workers:
                worker.thread.join()
        if self.swarm.fatal is not None:
            raise self.swarm.fatal

    def _grow(self) -> None:
        if self._growth is None:
            return
        self.connections = self._growth.wanted(
            self.swarm.clock(),
            received_bytes=self.swarm.received_bytes,
            missing_bytes=self.swarm.ledger.size_bytes - self.swarm.written_bytes(),
            hindered=any(source.troubled or source.one_stream for source in self.sources),
        )
        if self.connections > growth.FIRST:
            self._employ(self.connections)

    def _employ(self, count: int) -> None:
        for number in range(len(self._workers), count):
            worker = _Worker(self, number)
            self._workers.append(worker)
            worker.thread.start()

    def find_address(self, source: Source) -> None:
        """In a thread that nobody waits for, so that a hub without an answer holds up neither another source nor the end."""

        def find() -> None:
            try:
                source.find_address()
                with self.swarm.state:
                    self.swarm.state.notify_all()
            except BaseException as error:  # noqa: BLE001 - a bug; Transfer.run raises it where people see it
                self.swarm.stop(error)

        threading.Thread(target=find, name="fetch-resolve", daemon=True).start()


class _Worker:
    """One connection's thread."""

    def __init__(self, transfer: Transfer, number: int) -> None:
        self.t = transfer
        self.number = number
        self.rate = self.latency_s = 0.0
        self.chunk = _MIN_CHUNK_BYTES
        self.connection: Connection | None = None
        self.buffer = memoryview(bytearray(transfer.options.buffer_bytes))
        self.thread = threading.Thread(target=self._work, name=f"fetch-{number}", daemon=True)

    def _work(self) -> None:
        try:
            self.run()
        except BaseException as error:  # noqa: BLE001 - the thread's last word; Transfer.run raises it where people see it
            self.t.swarm.stop(error)
        finally:
            self.close()

    def close(self) -> None:
        if self.connection is not None:
            self.connection.close()
            self.connection = None

    def run(self) -> None:
        while not self.t.swarm.over:
            source = self._pick()
            if source is None:
                self.t.swarm.wait(0.05)
                continue
            try:
                self._serve(source)
            finally:
                with source.lock:
                    source.active -= 1

    def _pick(self) -> Source | None:
        """A usable source; each connection starts its search at another one, so they spread."""
        sources = self.t.sources
        now = time.monotonic()
        for step in range(len(sources)):
            source = sources[(self.number + step) % len(sources)]
            if source.wants_address(now):
                self.t.find_address(source)
            if source.engage(now):
                return source
        return None

    def _serve(self, source: Source) -> None:
        """One request to `source`, read to its end or to the first fault."""
        target, generation = source.address()
        if target is None:
            return
        lease = self.t.swarm.lend(source.origin, rate=self.rate, connections=self.t.connections, latency_s=self.latency_s)
        if lease is None:
            self.t.swarm.wait(0.05)
            return
        try:
            self._request(source, target, generation, lease)
        except ssl.SSLCertVerificationError as error:
            source.give_up(f"its certificate is not trusted ({error.verify_message}); a CA of your own: SSL_CERT_FILE=FILE")
        except TransferError as error:
            self.close()
            source.give_up(error.message, error)
        except WireError as error:
            self.close()
            if not self.t.swarm.over and lease.left > 0:
                source.failed(f"{type(error).__name__}: {error}" if str(error) else type(error).__name__)
        finally:
            lease.connection = None
            self.t.swarm.release(lease)

    def _request(self, source: Source, target: Target, generation: int, lease: Lease) -> None:
        asked = Span(start=lease.start, stop=lease.stop)
        for _ in range(MAX_REDIRECTS):
            connection = self._connect(target.url)
            lease.connection = connection
            began = time.monotonic()
            response = connection.get(target, {"Range": http_range(asked)})
            self.latency_s = time.monotonic() - began
            headers = lower_headers(response)
            verdict = judge(response.status, headers, asked=asked, size_bytes=self.t.swarm.ledger.size_bytes)
            if verdict.kind is not Kind.MOVED:
                break
            self.close()
            target = next_target(target, headers.get("location", ""))
        if verdict.kind is Kind.EXACT:
            self._accept(source)
            self._read(source, lease, response.readinto, asked)
            if not response.isclosed():
                # Chunked: the end mark is still unread, so the connection cannot carry another request.
                self.close()
        elif verdict.kind is Kind.WHOLE:
            self._whole(source, lease, response.readinto)
        else:
            self._refused(source, generation, verdict)

    def _refused(self, source: Source, generation: int, verdict: Verdict) -> None:
        self.close()
        if verdict.kind is Kind.EXPIRED:
            source.expired(generation, verdict.reason)
        elif verdict.kind is Kind.BUSY:
            source.failed(verdict.reason, wait_s=verdict.wait_s)
        else:
            source.lied(verdict.reason)

    def _connect(self, url: str) -> Connection:
        if self.connection is not None and self.connection.origin == origin_of(url):
            return self.connection
        self.close()
        self.connection = self.t.dialer.connect(url)
        return self.connection

    def _accept(self, source: Source) -> None:
        if not source.proven:
            with source.lock:
                source.proven = True
            with self.t.swarm.state:
                self.t.swarm.state.notify_all()

    def _read(self, source: Source, lease: Lease, readinto: Callable[[memoryview], int], asked: Span) -> None:
        """Read exactly the bytes of `lease`; a thief may shorten it meanwhile."""
        began = time.monotonic()
        while lease.left > 0:
            want = min(self._chunk_bytes(), lease.left)
            count = self._timed(readinto, want)
            if count == 0:
                raise OSError(f"the answer ended {lease.stop - lease.pos} bytes early")
            start = lease.pos
            allowed = self.t.swarm.reserve(lease, count)
            self._write(source, start, allowed)
            now = time.monotonic()
            self.rate = (lease.pos - lease.start) / max(0.001, now - began)
        if lease.stop != asked.stop:
            # The rest was stolen, but the server is still sending it here.
            self.close()

    def _write(self, source: Source, start: int, count: int) -> None:
        if not count:
            return
        data = self.buffer[:count]
        span = Span(start=start, stop=start + count)
        if self.t.options.limit is not None:
            self.t.options.limit.take(count)
        if self._is_new(data, span):
            with self.t.dialer.turns:
                self.t.partial.write(data, start)
        self.t.swarm.landed(span, source.origin)
        source.progressed(count)

    def _is_new(self, data: memoryview, span: Span) -> bool:
        """Whether these bytes have to be written."""
        if self.t.displaced is None:
            return True
        old = self.t.partial.read(len(span), span.start)
        if old == data:
            return False
        self.t.displaced.keep(old, span.start)
        piece = self.t.swarm.ledger.piece_bytes
        self.t.changed.update(range(span.start // piece, (span.stop - 1) // piece + 1))
        return True

    def _whole(self, source: Source, lease: Lease, readinto: Callable[[memoryview], int]) -> None:
        """One stream from byte 0: pass over what others have, write what is free."""
        with source.lock:
            first = not source.one_stream
            source.one_stream = source.proven = True
            alone = source.active == 1
        self.t.swarm.release(lease)
        lease.pos = lease.stop
        if not alone and not first:
            self.close()
            return
        stream = self.t.swarm.lend_stream(source.origin)
        stream.connection = lease.connection
        try:
            self._sweep(source, stream, readinto)
        finally:
            self.t.swarm.release(stream)
            self.close()

    def _sweep(self, source: Source, stream: Lease, readinto: Callable[[memoryview], int]) -> None:
        offset, size = 0, self.t.swarm.ledger.size_bytes
        while offset < size and not self.t.swarm.over:
            count = self._timed(readinto, min(size - offset, self._chunk_bytes(256 * KIB)))
            if count == 0:
                raise OSError(f"the answer ended {size - offset} bytes early")
            stream.landed_s = self.t.swarm.clock()
            for span in self.t.swarm.claim(Span(start=offset, stop=offset + count)):
                piece = self.buffer[span.start - offset : span.stop - offset]
                if self.t.options.limit is not None:
                    self.t.options.limit.take(len(piece))
                if self._is_new(piece, span):
                    with self.t.dialer.turns:
                        self.t.partial.write(piece, span.start)
                self.t.swarm.landed(span, source.origin)
                source.progressed(len(piece))
            offset += count

    def _timed(self, readinto: Callable[[memoryview], int], want: int) -> int:
        """Read up to `want` bytes, and learn how much to ask for next time.

        A read returns when all of it is here. What waits in the kernel when an answer begins comes at once, whatever the line
        gives, so the size is found by doubling and not from a rate: bytes in a buffer are in no journal and look like silence.
        """
        began = time.monotonic()
        count = readinto(self.buffer[:want])
        took = time.monotonic() - began
        if took < _READ_S:
            self.chunk = min(len(self.buffer), 2 * self.chunk)
        elif took > 2 * _READ_S:
            self.chunk = max(_MIN_CHUNK_BYTES, self.chunk // 2)
        return count

    def _chunk_bytes(self, least: int = _MIN_CHUNK_BYTES) -> int:
        """A tenth of a second's worth, so that a slow connection is seen to move, and how fast; a fast one costs few calls."""
        limit = self.t.options.limit
        most = min(len(self.buffer), limit.chunk_bytes) if limit is not None else len(self.buffer)
        return max(min(least, most), min(most, self.chunk))
