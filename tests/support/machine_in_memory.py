"""A machine that exists only as a dictionary: files by path, programs by name with what they answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from provision.host.reader import Reader
from provision.processes import Finished

Answer = tuple[int, str] | tuple[int, str, str]


class MachineInMemory(Reader):
    """Reads `files` (bytes or text, folders implied), asks `programs` (keyed by argv joined by blanks, or the path alone).

    A program without an answer cannot be started; links are written in `links`.
    """

    def __init__(
        self,
        files: Mapping[str, bytes | str] | None = None,
        *,
        programs: Mapping[str, Answer] | None = None,
        links: Mapping[str, str] | None = None,
        environ: Mapping[str, str] | None = None,
        os_name: str = "linux",
        machine: str = "x86_64",
    ) -> None:
        from pathlib import Path

        super().__init__(
            environ={"PATH": "/usr/local/bin:/usr/bin", **(environ or {})},
            root=Path("/nowhere"),
            runner=self._run,
            os_name=os_name,
            machine=machine,
        )
        object.__setattr__(self, "_files", dict(files or {}))
        object.__setattr__(self, "_programs", dict(programs or {}))
        object.__setattr__(self, "_links", dict(links or {}))

    __slots__ = ("_files", "_links", "_programs")
    _files: dict[str, bytes | str]
    _programs: dict[str, Answer]
    _links: dict[str, str]

    def text(self, path: str) -> str | None:
        content = self._files.get(self.real(path))
        return content.decode("utf-8", "replace") if isinstance(content, bytes) else content

    def _paths(self) -> set[str]:
        programs = {key.split(" ")[0] for key in self._programs if key.startswith("/")}
        return {*self._files, *programs, *self._links}

    def exists(self, path: str) -> bool:
        real = self.real(path)
        return real in self._paths() or self.is_dir(real)

    def is_dir(self, path: str) -> bool:
        real = self.real(path).rstrip("/")
        return any(known.startswith(f"{real}/") for known in self._paths())

    def names(self, folder: str) -> tuple[str, ...]:
        inside = f"{self.real(folder).rstrip('/')}/"
        return tuple(sorted({path[len(inside) :].split("/")[0] for path in self._paths() if path.startswith(inside)}))

    def real(self, path: str) -> str:
        for link, target in self._links.items():
            if path == link or path.startswith(f"{link}/"):
                return self.real(target + path[len(link) :])
        return path

    def is_program(self, path: str) -> bool:
        real = self.real(path)
        return real in {key.split(" ")[0] for key in self._programs if key.startswith("/")}

    def _run(self, argv: Sequence[str], timeout_s: float, env: Mapping[str, str]) -> Finished:
        path = self.real(argv[0])
        answer: Any = self._programs.get(" ".join([path, *argv[1:]]), self._programs.get(path))
        if answer is None:
            raise FileNotFoundError(argv[0])
        code, out, err = (*answer, "")[:3]
        return Finished(argv=tuple(argv), returncode=code, stdout=out, stderr=err, elapsed_s=0.0)
