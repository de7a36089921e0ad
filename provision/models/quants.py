"""From a listing to the one model a person asked for: splits complete, exact label first, never a silent fallback."""

from __future__ import annotations

import difflib
import fnmatch
import re
import shlex
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import PurePosixPath

from provision.errors import NotFoundError, UsageError
from provision.models.commands import FetchCommand
from provision.models.labels import parse_label
from provision.models.names import ParsedName, parse_name
from provision.models.types import ModelSet, RepoFile, Role

__all__ = ["ParsedName", "group", "labels", "parse_label", "parse_name", "select", "select_mmproj"]

_SHOWN = 12
# The projector llama.cpp itself prefers is the one closest to full precision that everything can run.
_MMPROJ_ORDER = ("F16", "BF16", "Q8_0", "F32")


def group(files: Iterable[RepoFile]) -> tuple[ModelSet, ...]:
    """Every file in exactly one set: the parts of a split together and in order, everything else alone. Sorted by path."""
    parts: dict[tuple[str, int | None, bool], dict[int, tuple[ParsedName, RepoFile]]] = {}
    sets: list[ModelSet] = []
    for file in {file.path: file for file in files}.values():
        name = parse_name(file.path)
        if name.index is None:
            sets.append(ModelSet(role=name.role, quant=name.quant, tail=name.tail, files=(file,)))
        else:
            parts.setdefault((name.stem, name.count, name.byte_split), {})[name.index] = (name, file)
    for (_, count, byte_split), found in parts.items():
        indexes = sorted(found)
        name = found[indexes[0]][0]
        last = count if count is not None else max(2, indexes[-1])
        sets.append(
            ModelSet(
                role=name.role,
                quant=name.quant,
                tail=name.tail,
                files=tuple(found[index][1] for index in indexes),
                complete=len(indexes) == last and indexes[0] == 1 and indexes[-1] == last,
                byte_split=byte_split,
            )
        )
    return tuple(sorted(sets, key=lambda one: one.files[0].path))


def labels(sets: Iterable[ModelSet]) -> tuple[str, ...]:
    """The labels of the models, each once, in the order of the listing; that of a variant with the words behind it."""
    return tuple(dict.fromkeys(_label(one) for one in sets if one.role is Role.MODEL and one.quant is not None))


def select(
    sets: Sequence[ModelSet],
    quant: str | None,
    *,
    repo_id: str = "",
    file: str | None = None,
    command: FetchCommand | None = None,
) -> ModelSet:
    """The one model of label `quant`, in any case; with None, the only model there is. `file` is a path or pattern instead.

    The exact label wins (`Q4_K_M`, `Q4_K_M-mtp` of a variant), then the same label behind `UD-`, only when unique. `command`
    is what hints build on. Raises NotFoundError (`quant-not-found`, `split-incomplete`, `byte-split`, `no-model`) and
    UsageError (`quant-ambiguous`, `quant-required`).
    """
    models = [one for one in sets if one.role is Role.MODEL]
    repo = command or FetchCommand(repo_id=repo_id or "ORG/REPO")
    if not models:
        raise NotFoundError(
            f"{repo.repo_id} holds no GGUF model",
            code="no-model",
            hint="look for a repository whose name ends in -GGUF",
        )
    wanted: str | None
    if file is not None:
        wanted, found = file, _of_file(models, file)
    elif quant is None:
        wanted, found = None, models
    else:
        wanted = parse_label(quant) or quant
        found = _matching(models, wanted)
    if not found:
        raise _no_file(models, file, repo) if file is not None else _not_found(models, quant or "", repo)
    # A split with shards missing cannot be loaded, so it never competes with one that can.
    found = [one for one in found if one.complete] or found
    if len(found) > 1:
        raise _ambiguous(found, wanted, repo)
    return _usable(found[0], repo)


def select_mmproj(sets: Sequence[ModelSet], model: ModelSet) -> ModelSet | None:
    """The projector that belongs to `model`: of its own folder, else of the root; F16 first. None when there is none."""
    folder = _folder(model)
    for place in dict.fromkeys((folder, "", "mmproj", "vision")):
        found = [one for one in sets if one.role is Role.MMPROJ and one.complete and _folder(one) == place]
        if found:
            return min(found, key=lambda one: (_mmproj_rank(one), one.files[0].path))
    return None


def _mmproj_rank(one: ModelSet) -> int:
    return _MMPROJ_ORDER.index(one.quant) if one.quant in _MMPROJ_ORDER else len(_MMPROJ_ORDER)


def _folder(one: ModelSet) -> str:
    return one.files[0].path.rpartition("/")[0]


def _label(one: ModelSet) -> str:
    return f"{one.quant}-{one.tail}" if one.tail else str(one.quant)


def _matching(models: Sequence[ModelSet], wanted: str) -> list[ModelSet]:
    asked = wanted.lower()
    labelled = [one for one in models if one.quant is not None]
    exact = [one for one in labelled if _label(one).lower() == asked]
    return exact or [one for one in labelled if _label(one).lower() == f"ud-{asked}"]


def _of_file(models: Sequence[ModelSet], pattern: str) -> list[ModelSet]:
    """Models with a file whose path, or whose name alone, is `pattern` or matches it; as written first, then in any case."""

    def names(one: ModelSet) -> list[str]:
        return [name for file in one.files for name in (file.path, file.path.rpartition("/")[2])]

    rules: tuple[Callable[[str], bool], ...] = (
        lambda name: name == pattern,
        lambda name: fnmatch.fnmatchcase(name, pattern),
        lambda name: fnmatch.fnmatchcase(name.lower(), pattern.lower()),
    )
    for rule in rules:
        found = [one for one in models if any(map(rule, names(one)))]
        if found:
            return found
    return []


def _no_file(models: Sequence[ModelSet], pattern: str, repo: FetchCommand) -> NotFoundError:
    paths = _first_paths(models)
    usable = {one.files[0].path: one for one in models if _can_be_used(one)}
    near = difflib.get_close_matches(pattern, usable, n=1, cutoff=0.3) or list(usable)
    return NotFoundError(
        f"no model of {repo.repo_id} matches {pattern}; it has {_some(paths)}",
        code="file-not-found",
        hint=repo.of_files(usable[near[0]]) if near else repo.everything(),
    )


def _not_found(models: Sequence[ModelSet], quant: str, repo: FetchCommand) -> NotFoundError:
    there, usable = labels(models), _usable_labels(models)
    if not there:
        one = next(filter(_can_be_used, models), None)
        return NotFoundError(
            f"no file of {repo.repo_id} carries a quant label, so {quant} names none of them: {_some(_first_paths(models))}",
            code="quant-not-found",
            hint=repo.of_files(one) if one else repo.everything(),
        )
    nearest = _nearest(quant, usable)
    return NotFoundError(
        f"{repo.repo_id} has no {quant}; it has {_some(there)}" + (f"; nearest: {', '.join(nearest)}" if nearest else ""),
        code="quant-not-found",
        hint=repo.of(nearest[0]) if nearest else repo.everything(),
    )


def _can_be_used(one: ModelSet) -> bool:
    return one.complete and not one.byte_split


def _usable_labels(models: Sequence[ModelSet]) -> list[str]:
    """The labels that name exactly one model, and one that can be loaded: only those are worth a recommendation."""
    usable = []
    for label in labels(models):
        found = _matching(models, label)
        found = [one for one in found if one.complete] or found
        if len(found) == 1 and _can_be_used(found[0]):
            usable.append(label)
    return usable


def _nearest(quant: str, there: Sequence[str]) -> list[str]:
    """At most three labels, most alike first: the same number of bits counts more than the spelling."""
    asked = quant.upper()
    bits = _bits(asked)

    def likeness(label: str) -> tuple[float, float]:
        spelling = difflib.SequenceMatcher(None, asked, label.upper()).ratio()
        return (-abs(_bits(label) - bits) if bits else 0.0, spelling)

    return sorted(there, key=likeness, reverse=True)[:3]


def _bits(label: str) -> int:
    match = re.search(r"(?:Q|F|FP)(\d{1,2})", label.upper())
    return int(match.group(1)) if match else 0


def _ambiguous(found: Sequence[ModelSet], wanted: str | None, repo: FetchCommand) -> UsageError:
    usable = _usable_labels(found)
    if wanted is None and labels(found):
        return UsageError(
            f"{repo.repo_id} has several models; say which quant: {_some(labels(found))}",
            code="quant-required",
            hint=repo.of(usable[0]) if usable else repo.everything(),
        )
    what = f"{wanted} names" if wanted else "there are"
    one = next(filter(_can_be_used, found), None)
    return UsageError(
        f"in {repo.repo_id}, {what} {len(found)} models: {_some(_first_paths(found))}",
        code="quant-ambiguous",
        hint=repo.of_files(one) if one else repo.everything(),
    )


def _usable(one: ModelSet, repo: FetchCommand) -> ModelSet:
    names = [parse_name(file.path) for file in one.files]
    if not one.complete:
        here = {name.index for name in names}
        last = names[0].count or max(2, *(name.index or 0 for name in names))
        missing = list(islice((f"{index} of {last}" for index in range(1, last + 1) if index not in here), _SHOWN))
        raise NotFoundError(
            f"the split {names[0].stem} is incomplete in {repo.repo_id}: part {', '.join(missing)} is missing",
            code="split-incomplete",
            hint=repo.everything(),
        )
    if one.byte_split:
        stem = names[0].stem
        here_too = replace(repo, local_dir=repo.local_dir or ".")
        pieces = shlex.join(str(PurePosixPath(here_too.local_dir or ".", file.path)) for file in one.files)
        raise NotFoundError(
            f"{stem}.gguf is cut into {len(names)} pieces in {repo.repo_id}; llama.cpp cannot read them before they are joined",
            code="byte-split",
            hint=f"{here_too.of_files(one)} && cat {pieces} > model.gguf",
        )
    return one


def _first_paths(sets: Sequence[ModelSet]) -> list[str]:
    return [one.files[0].path for one in sets]


def _some(words: Sequence[str]) -> str:
    more = f" and {len(words) - _SHOWN} more" if len(words) > _SHOWN else ""
    return ", ".join(words[:_SHOWN]) + more
