"""The errors every room raises, and the exit codes they end in (docs/reference/exit-codes.md)."""

from __future__ import annotations

from enum import IntEnum
from typing import ClassVar


class ExitCode(IntEnum):
    """What the process ends with. The numbers are part of the command-line contract."""

    OK = 0
    FAILURE = 1
    USAGE = 2
    MACHINE = 3
    BUILD = 4
    NOT_FOUND = 5
    ACCESS = 6
    TRANSFER = 7
    INTEGRITY = 8
    DOES_NOT_FIT = 9
    SMOKE = 10
    BUG = 70
    INTERRUPTED = 130


class ProvisionError(Exception):
    """A failure with a name. `code` is a stable kebab-case id, `hint` says what to do next, ideally a command."""

    exit_code: ClassVar[ExitCode] = ExitCode.FAILURE

    def __init__(self, message: str, *, code: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.hint = hint


class UsageError(ProvisionError):
    """A wrong flag, or an invalid recipe, lock or configuration."""

    exit_code = ExitCode.USAGE


class MachineError(ProvisionError):
    """The machine lacks something: compiler, driver, disk, memory, the GPU asked for."""

    exit_code = ExitCode.MACHINE


class BuildError(ProvisionError):
    """A build or an installation failed; the environment is as it was before."""

    exit_code = ExitCode.BUILD


class NotFoundError(ProvisionError):
    """A repository, revision, file or quant that does not exist."""

    exit_code = ExitCode.NOT_FOUND


class AccessError(ProvisionError):
    """A gated repository, or a missing or wrong token."""

    exit_code = ExitCode.ACCESS


class TransferError(ProvisionError):
    """A transfer gave up; what arrived is kept and the same command resumes."""

    exit_code = ExitCode.TRANSFER


class IntegrityError(ProvisionError):
    """Sha256, size, GGUF structure, bundle or lock differ from what was promised."""

    exit_code = ExitCode.INTEGRITY


class DoesNotFitError(ProvisionError):
    """The model does not fit the memory asked about."""

    exit_code = ExitCode.DOES_NOT_FIT


class SmokeError(ProvisionError):
    """The smoke test says the deployment is wrong."""

    exit_code = ExitCode.SMOKE
