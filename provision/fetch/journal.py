"""The journal beside a partial file: which pieces are here, readable after any crash.

A header line names the content (its hash, size and piece size), then one line per event. Each line carries a checksum chained
to the line before, so a torn or lost line ends the readable part. Two crashes are told apart by the kernel's boot id:

* the process died, the kernel did not: what was written is in the page cache, so every recorded piece counts;
* the machine died: only pieces recorded before a `synced` line count, because that line is written after fdatasync.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field

_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What a journal belongs to. Another hash, size or piece size means another journal."""

    digest: str
    size_bytes: int
    piece_bytes: int


@dataclass(slots=True)
class Replay:
    """What a journal says: pieces to trust with the sources of each, and where its readable part ends."""

    sources_of: dict[int, frozenset[str]] = field(default_factory=dict)
    valid_bytes: int = 0
    chain: int = 0
    records: int = 0
    """How many piece lines were read."""


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


def dropped_line(index: int, *, chain: int) -> tuple[bytes, int]:
    """Piece `index` was wrong and is to be fetched again."""
    return _line({"drop": index}, chain=chain)


def synced_line(records: int, *, chain: int) -> tuple[bytes, int]:
    """The data of the journal's first `records` piece lines is on the medium."""
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
    unsynced: dict[int, tuple[int, frozenset[str]]] = {}
    boot = ""
    count = -(-identity.size_bytes // identity.piece_bytes)
    # The last element is what follows the last newline: empty, or a torn line.
    for raw in lines[1:-1]:
        parsed = _parse(raw, chain=result.chain)
        if parsed is None or not _apply(parsed[0], result, unsynced, count):
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


def _apply(event: dict[str, object], result: Replay, unsynced: dict[int, tuple[int, frozenset[str]]], count: int) -> bool:
    """Fold one event in; False for one that makes no sense, which ends the readable part."""
    match event:
        case {"piece": int(index), "from": list(sources)} if 0 <= index < count:
            result.records += 1
            unsynced[index] = (result.records, frozenset(str(source) for source in sources))
        case {"drop": int(index)}:
            unsynced.pop(index, None)
            result.sources_of.pop(index, None)
        case {"synced": int(records)} if records <= result.records:
            _promote(result, unsynced, upto=records)
        case {"boot": str()}:
            pass
        case _:
            return False
    return True


def _promote(result: Replay, unsynced: dict[int, tuple[int, frozenset[str]]], *, upto: int) -> None:
    for index in [index for index, (record, _) in unsynced.items() if record <= upto]:
        result.sources_of[index] = unsynced.pop(index)[1]


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
