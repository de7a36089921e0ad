"""What a log means: known failures with cause, evidence and remedy, from provision/data/failure-signatures.json."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from provision.errors import UsageError

_LOG_LIMIT_BYTES = 64 * 1024 * 1024
_EVIDENCE_CHARS = 240
# Root causes come before what follows from them: a configure failure explains a build that never began.
_PHASES = ("download", "configure", "build", "install", "import", "doctor", "run", "verify")
_INDENT = re.compile(r"^[\s│|]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """One known failure."""

    id: str
    phase: str
    pattern: re.Pattern[str]
    cause: str
    remedy: str
    retry: Mapping[str, Any] | None
    sources: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """A signature and the line of the log that shows it (counted from 1)."""

    signature: Signature
    line: int
    evidence: str

    def to_data(self) -> dict[str, Any]:
        return {
            "id": self.signature.id,
            "cause": self.signature.cause,
            "remedy": self.signature.remedy,
            "line": self.line,
            "evidence": self.evidence,
            "sources": list(self.signature.sources),
        }


@cache
def signatures() -> tuple[Signature, ...]:
    """Every known failure."""
    table = json.loads((files("provision") / "data" / "failure-signatures.json").read_text(encoding="utf-8"))
    return tuple(
        Signature(
            id=row["id"],
            phase=row["phase"],
            pattern=re.compile(row["pattern"]),
            cause=row["cause"],
            remedy=row["remedy"],
            retry=row["retry"],
            sources=tuple(row["sources"]),
        )
        for row in table["signatures"]
    )


def explain(text: str) -> tuple[Explanation, ...]:
    """Every known failure in a log, causes before consequences, each once at its first line."""
    lines = text.splitlines()
    found = []
    for signature in signatures():
        for number, line in enumerate(lines):
            # Compilers break some messages in two; pip and uv indent what they pass on.
            pair = f"{line}\n{_INDENT.sub('', lines[number + 1])}" if number + 1 < len(lines) else line
            match = signature.pattern.search(pair)
            if match is not None and match.start() <= len(line):
                found.append(Explanation(signature=signature, line=number + 1, evidence=line.strip()[:_EVIDENCE_CHARS]))
                break
    return tuple(sorted(found, key=lambda one: (_PHASES.index(one.signature.phase), one.line)))


def explain_log(path: Path) -> dict[str, Any]:
    """The `data` of `provision install --explain`; UsageError (`no-log`) when the file cannot be read."""
    try:
        with path.open("rb") as stream:
            text = stream.read(_LOG_LIMIT_BYTES).decode("utf-8", "replace")
    except OSError as error:
        raise UsageError(
            f"{path} cannot be read: {error.strerror}", code="no-log", hint="provision install --explain LOG"
        ) from error
    return {
        "log": str(path),
        "findings": [one.to_data() for one in explain(text)],
        "signatures": len(signatures()),
    }
