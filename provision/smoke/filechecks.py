"""The file itself: is it what was promised (A1), and is everything in it that its header says (A2)."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from provision.errors import IntegrityError
from provision.events import Progress, ProgressEnded, Reporter
from provision.gguf.header import GgufHeader, joined
from provision.gguf.reader import read_header
from provision.gguf.source import FileSource
from provision.models.names import parse_name
from provision.smoke.holes import check_holes
from provision.smoke.types import Check
from provision.units import format_bytes

_SHA256 = re.compile(r"[0-9a-f]{64}")
_CHUNK = 4 * 1024 * 1024
REFETCH = "provision fetch ORG/REPO (only what is wrong is transferred again)"


@dataclass(frozen=True, slots=True, kw_only=True)
class FileFacts:
    """What the files of a model say without an engine."""

    checks: tuple[Check, ...]
    name: str | None = None
    size_bytes: int = 0
    sha256: str | None = None
    """Of the first (or only) file, when it was hashed."""
    header: GgufHeader | None = None
    """Of all files: metadata of the first, tensors of every one."""


def shards(model: Path) -> tuple[Path, ...]:
    """All files of a split model in order, or the file itself."""
    parsed = parse_name(model.name)
    if parsed.index is None or parsed.count is None:
        return (model,)
    width = f"{parsed.index:05d}-of-{parsed.count:05d}"
    return tuple(
        model.with_name(model.name.replace(width, f"{index:05d}-of-{parsed.count:05d}")) for index in range(1, parsed.count + 1)
    )


def promised_sha256(path: Path) -> str | None:
    """The hash the Hub's cache gave this file: its blob is named after it (huggingface_hub, LFS files)."""
    name = path.resolve().name
    return name if _SHA256.fullmatch(name) and path.resolve().parent.name == "blobs" else None


def check_files(model: Path, *, expected_sha256: str | None, hash_limit_bytes: int | None, reporter: Reporter) -> FileFacts:
    """Read every shard's header and, up to the limit, its whole content."""
    files = shards(model)
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        what = f"{len(missing)} of {len(files)} files are missing, first: {missing[0]}"
        return FileFacts(checks=(_bad("A2-structure", what, value=len(missing), threshold=0),))
    size = sum(file.stat().st_size for file in files)
    headers: list[GgufHeader] = []
    for file in files:
        try:
            headers.append(read_header(FileSource(file)))
        except (IntegrityError, OSError) as error:
            return FileFacts(
                checks=(_bad("A2-structure", f"{file.name}: {error}", value="unreadable", threshold="sound GGUF"),)
            )
    whole = f"{len(files)} files" if len(files) > 1 else "the file"
    structure = Check(
        id="A2-structure",
        status="pass",
        summary=f"{whole} hold every tensor" if len(files) > 1 else f"{whole} holds every tensor",
    )
    hashes, digest = _hash_checks(files, size, expected_sha256, hash_limit_bytes, reporter)
    holes = check_holes(list(zip(files, headers, strict=True)), read_limit_bytes=hash_limit_bytes)
    name = headers[0].text("general.name")
    return FileFacts(checks=(*hashes, structure, holes), name=name, size_bytes=size, sha256=digest, header=joined(headers))


def _hash_checks(
    files: tuple[Path, ...], size: int, expected: str | None, limit: int | None, reporter: Reporter
) -> tuple[list[Check], str | None]:
    promised = [(file, expected if expected and len(files) == 1 else promised_sha256(file)) for file in files]
    known = [(file, sha) for file, sha in promised if sha]
    if not known:
        summary = "nobody promised a sha256 for this file"
        return [Check(id="A1-sha256", status="skip", summary=summary)], None
    if limit is not None and size > limit:
        summary = f"{format_bytes(size)} not hashed in this profile; --profile full does"
        return [Check(id="A1-sha256", status="skip", summary=summary)], None
    digest = None
    for file, sha in known:
        found = sha256_of(file, reporter)
        digest = digest or found
        if found != sha:
            return [_bad("A1-sha256", f"{file.name} is not the file that was promised", value=found, threshold=sha)], digest
    return [Check(id="A1-sha256", status="pass", summary="sha256 as promised", value=digest, threshold=known[0][1])], digest


def sha256_of(path: Path, reporter: Reporter) -> str:
    """Lower-case hex sha256 of a file, with progress."""
    digest, total, done = hashlib.sha256(), path.stat().st_size, 0
    for chunk in _chunks(path):
        digest.update(chunk)
        done += len(chunk)
        reporter(Progress(task="smoke-hash", label="sha256", done=done, total=total, unit="bytes"))
    reporter(ProgressEnded(task="smoke-hash"))
    return digest.hexdigest()


def _chunks(path: Path) -> Iterable[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            yield chunk


def _bad(check_id: str, summary: str, *, value: str | int, threshold: str | int) -> Check:
    return Check(id=check_id, status="fail", summary=summary, value=value, threshold=threshold, remedy=REFETCH)
