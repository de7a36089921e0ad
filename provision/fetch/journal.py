"""The journal beside a partial file: which pieces are here, and what of the others, readable after any crash.

A header line names the content (its hash, size and piece size), then one line per event. Each line carries a checksum chained
to the line before, so a torn or lost line ends the readable part. Two crashes are told apart by the kernel's boot id:

* the process died, the kernel did not: what was written is in the page cache, so every record counts;
* the machine died: only what was recorded before a `synced` line counts, because that line is written after fdatasync.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from provision.fetch.pieces import Part, Span, merge, piece_count, piece_span

_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What a journal belongs to. Another hash, size or piece size means another journal."""

    digest: str
    size_bytes: int
    piece_bytes: int


@dataclass(slots=True)
class Replay:
    """What a journal says: bytes to trust with their sources, and where its readable part ends."""

    sources_of: dict[int, frozenset[str]] = field(default_factory=dict)
    """Whole pieces."""
    parts: dict[int, Part] = field(default_factory=dict)
    """What is here of other pieces."""
    valid_bytes: int = 0
    chain: int = 0
    records: int = 0
    """How many lines about bytes were read."""

    def trusted_bytes(self, identity: Identity) -> int:
        """How many bytes need not be fetched."""
        return bytes_of(self.sources_of, self.parts, identity)


def bytes_of(whole: Iterable[int], parts: Mapping[int, Part], identity: Identity) -> int:
    """How many bytes these pieces and parts of pieces are."""
    pieces = (piece_span(index, size_bytes=identity.size_bytes, piece_bytes=identity.piece_bytes) for index in whole)
    return sum(len(span) for span in pieces) + sum(len(part) for part in parts.values())


def header_line(identity: Identity) -> tuple[bytes, int]:
    """The first line and the checksum the next line is chained to."""
    return _line(
        {"v": _VERSION, "digest": identity.digest, "size": identity.size_bytes, "piece": identity.piece_bytes}, chain=0
    )


def boot_line(boot_id: str | None, *, chain: int) -> tuple[bytes, int]:
    """A process begins to write under this boot of the machine."""
    return _line({"boot": boot_id or ""}, chain=chain)


def piece_line(index: int, sources: Iterable[str], *, chain: int) -> tuple[bytes, int]:
    """Piece `index` is written, not necessarily on the medium yet; `sources` delivered its bytes."""
    return _line({"piece": index, "from": sorted(sources)}, chain=chain)


def part_line(index: int, part: Part, *, chain: int) -> tuple[bytes, int]:
    """Of piece `index`, not whole yet, this much is written: all of it, so that a later line replaces an earlier one."""
    spans = [[span.start, span.stop] for span in part.spans]
    return _line({"part": index, "spans": spans, "from": sorted(part.sources)}, chain=chain)


def dropped_line(index: int, *, chain: int) -> tuple[bytes, int]:
    """Piece `index` was wrong and is to be fetched again."""
    return _line({"drop": index}, chain=chain)


def synced_line(records: int, *, chain: int) -> tuple[bytes, int]:
    """The data of the journal's first `records` piece and part lines is on the medium."""
    return _line({"synced": records}, chain=chain)


def replay(content: bytes, identity: Identity, *, boot_id: str | None) -> Replay | None:
    """Read a journal; None when it belongs to other content or is not ours. A damaged end is cut off, never guessed at."""
    lines = content.split(b"\n")
    head = _parse(lines[0], chain=0) if len(lines) > 1 else None
    if head is None:
        return None
    event, chain = head
    wanted = {"v": _VERSION, "digest": identity.digest, "size": identity.size_bytes, "piece": identity.piece_bytes}
    if event != wanted:
        return None
    result = Replay(valid_bytes=len(lines[0]) + 1, chain=chain)
    unsynced: list[_Record] = []
    boot = ""
    # The last element is what follows the last newline: empty, or a torn line.
    for raw in lines[1:-1]:
        parsed = _parse(raw, chain=result.chain)
        if parsed is None or not _apply(parsed[0], result, unsynced, identity):
            break
        if "boot" in parsed[0]:
            if parsed[0]["boot"] != boot or not boot:
                unsynced.clear()
            boot = str(parsed[0]["boot"])
        result.chain = parsed[1]
        result.valid_bytes += len(raw) + 1
    if boot and boot == boot_id:
        _promote(result, unsynced, upto=result.records)
    return result


@dataclass(frozen=True, slots=True, kw_only=True)
class _Record:
    """One line about bytes. `part` is None when the piece is whole."""

    number: int
    index: int
    sources: frozenset[str]
    part: Part | None = None


def _apply(event: dict[str, object], result: Replay, unsynced: list[_Record], identity: Identity) -> bool:
    """Fold one event in; False for one that makes no sense, which ends the readable part."""
    count = piece_count(identity.size_bytes, identity.piece_bytes)
    match event:
        case {"piece": int(index), "from": list(sources)} if 0 <= index < count:
            result.records += 1
            unsynced.append(_Record(number=result.records, index=index, sources=_names(sources)))
        case {"part": int(index), "spans": list(spans), "from": list(sources)} if 0 <= index < count:
            part = _part(spans, sources, piece_span(index, size_bytes=identity.size_bytes, piece_bytes=identity.piece_bytes))
            if part is None:
                return False
            result.records += 1
            unsynced.append(_Record(number=result.records, index=index, sources=part.sources, part=part))
        case {"drop": int(index)}:
            unsynced[:] = [record for record in unsynced if record.index != index]
            result.sources_of.pop(index, None)
            result.parts.pop(index, None)
        case {"synced": int(records)} if records <= result.records:
            _promote(result, unsynced, upto=records)
        case {"boot": str()}:
            pass
        case _:
            return False
    return True


def _part(spans: list[object], sources: list[object], piece: Span) -> Part | None:
    """The spans as they were written: sorted, disjoint, inside their piece and less than all of it. None for anything else."""
    read = []
    for pair in spans:
        match pair:
            case [int(start), int(stop)] if piece.start <= start < stop <= piece.stop:
                read.append(Span(start=start, stop=stop))
            case _:
                return None
    return Part(spans=tuple(read), sources=_names(sources)) if read and read == merge(read) != [piece] else None


def _names(sources: list[object]) -> frozenset[str]:
    return frozenset(str(source) for source in sources)


def _promote(result: Replay, unsynced: list[_Record], *, upto: int) -> None:
    for record in unsynced:
        if record.number > upto:
            continue
        if record.part is None:
            result.sources_of[record.index] = record.sources
            result.parts.pop(record.index, None)
        elif record.index not in result.sources_of:
            result.parts[record.index] = record.part
    unsynced[:] = [record for record in unsynced if record.number > upto]


def _line(event: dict[str, object], *, chain: int) -> tuple[bytes, int]:
    body = json.dumps(event, separators=(",", ":"), sort_keys=True).encode()
    checksum = zlib.crc32(body, chain)
    return b"%08x %s\n" % (checksum, body), checksum


def _parse(raw: bytes, *, chain: int) -> tuple[dict[str, object], int] | None:
    checksum = zlib.crc32(raw[9:], chain)
    if raw[:9] != b"%08x " % checksum:
        return None
    try:
        event = json.loads(raw[9:])
    except ValueError:
        return None
    return (event, checksum) if isinstance(event, dict) else None
