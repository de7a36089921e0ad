"""One result, two voices: the JSON envelope scripts rely on, and the data a command's renderer speaks from."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from provision.errors import ExitCode, ProvisionError
from provision.terminal import DIRECTION_MARKS

ENVELOPE_VERSION = "1"
_OTHER_CONTROLS = re.compile(rf"[\x7f-\x9f{DIRECTION_MARKS}]")


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorItem:
    """One error of the envelope; `code` is stable, `message` is for people, `hint` says what to do next."""

    code: str
    message: str
    hint: str = ""

    @classmethod
    def of(cls, error: ProvisionError) -> ErrorItem:
        return cls(code=error.code, message=error.message, hint=error.hint)


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What a command ends with. `data` holds plain JSON values only; bytes are integers, times seconds, unknown None."""

    command: str
    data: Mapping[str, Any] = field(default_factory=dict)
    exit_code: ExitCode = ExitCode.OK
    status: Literal["ok", "partial", "error"] = "ok"
    errors: Sequence[ErrorItem] = ()

    def envelope(self) -> dict[str, Any]:
        """The one JSON object of `--json`."""
        return {
            "provision": ENVELOPE_VERSION,
            "command": self.command,
            "status": self.status,
            "exit_code": int(self.exit_code),
            "data": dict(self.data),
            "errors": [{"code": e.code, "message": e.message, "hint": e.hint} for e in self.errors],
        }


def json_text(value: Any, *, indent: int | None = None) -> str:
    """`value` as JSON that is safe to show: DEL, the C1 controls (terminals obey U+009B) and direction marks are escaped too.

    JSON itself demands escapes for the first 32 control characters only; other people's text is printed as it is otherwise.
    """
    text = json.dumps(value, ensure_ascii=False, indent=indent)
    return _OTHER_CONTROLS.sub(lambda match: f"\\u{ord(match.group()):04x}", text)


def failed(command: str, error: ProvisionError, data: Mapping[str, Any] | None = None) -> Result:
    """The result of a command that ended in `error`."""
    return Result(command=command, data=data or {}, exit_code=error.exit_code, status="error", errors=(ErrorItem.of(error),))
