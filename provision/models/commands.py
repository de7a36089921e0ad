"""The commands our hints tell people to type: they work when pasted, and keep what was said already."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

from provision.models.types import ModelSet


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchCommand:
    """`provision fetch` of a repository, with the options that say from where and where to."""

    repo_id: str
    revision: str | None = None
    endpoints: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    local_dir: str | None = None

    def of(self, label: str | None = None, *more: str) -> str:
        """The command for a quant label, or for whatever `more` says."""
        return self._joined(f"{self.repo_id}:{label}" if label else self.repo_id, *more)

    def of_files(self, one: ModelSet, *more: str) -> str:
        """The command for the files of one model, each by its name: what no label can be mistaken for."""
        return self._joined(self.repo_id, *(word for file in one.files for word in ("--file", file.path)), *more)

    def everything(self) -> str:
        """The command that shows all there is."""
        return self.of(None, "--include", "*", "--dry-run")

    def _joined(self, *words: str) -> str:
        options = ["--revision", self.revision] if self.revision else []
        options += [word for endpoint in self.endpoints for word in ("--endpoint", endpoint)]
        options += [word for source in self.sources for word in ("--source", source)]
        options += ["--local-dir", self.local_dir] if self.local_dir else []
        return shlex.join(["provision", "fetch", *words, *options])
