"""Which files of a listing a wish means. Pure."""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Collection, Iterator, Sequence

from provision.errors import NotFoundError, UsageError
from provision.fetch.types import FetchWish
from provision.hub.addresses import shown
from provision.models import quants
from provision.models.commands import FetchCommand
from provision.models.types import ModelSet, RepoFile, RepoRef, Role


def choose(files: Sequence[RepoFile], *, ref: RepoRef, wish: FetchWish) -> tuple[RepoFile, ...]:
    """The files to fetch, each once, in the order of the listing.

    Names and globs say exactly what is wanted; a quant, or the file of the reference, adds the files of that model. With
    none of them, the repository's only model. `exclude` takes from what globs found; a model it would take from is refused.
    Raises NotFoundError for a name, glob or quant that matches nothing, UsageError when the wish is ambiguous or contradicts
    itself.
    """
    chosen: dict[str, RepoFile] = {}
    command = command_of(ref, wish)
    quant, pattern = asked_quant(ref, wish), ref.file
    model_named = quant is not None or pattern is not None
    for name in wish.names:
        chosen[name] = _by_name(files, name, command)
    if wish.include or (wish.exclude and not wish.names and not model_named):
        for file in _by_globs(files, wish.include or ("*",), wish.exclude, command):
            chosen[file.path] = file
    sets = quants.group(files)
    if model_named or not chosen:
        model = quants.select(sets, quant, command=command, file=pattern)
        _refuse_parts(model, wish.exclude, command)
        chosen.update({file.path: file for file in model.files})
    if wish.with_mmproj:
        chosen.update({file.path: file for file in _projectors(sets, chosen, wish.exclude, command)})
    return tuple(file for file in {file.path: file for file in files}.values() if file.path in chosen)


def command_of(ref: RepoRef, wish: FetchWish) -> FetchCommand:
    """What a hint builds on: the repository, and from where and where to, as it was asked."""
    return FetchCommand(
        repo_id=ref.repo_id,
        revision=wish.revision or ref.revision,
        endpoints=tuple(shown(endpoint) for endpoint in wish.endpoints),
        sources=wish.sources,
        local_dir=str(wish.local_dir) if wish.local_dir is not None else None,
    )


def asked_quant(ref: RepoRef, wish: FetchWish) -> str | None:
    """The one label that the reference or `--quant` names. Raises UsageError (`bad-option`) when they contradict each other."""
    named, option = ref.quant or ref.file, wish.quant
    if option is None or named is None:
        return option or ref.quant
    if (quants.parse_label(named) or named).lower() != (quants.parse_label(option) or option).lower():
        raise UsageError(
            f"{named} or --quant {option}? Both name a model",
            code="bad-option",
            hint=command_of(ref, wish).of(option),
        )
    return option


def _by_name(files: Sequence[RepoFile], name: str, command: FetchCommand) -> RepoFile:
    for file in files:
        if file.path == name:
            return file
    near = difflib.get_close_matches(name, [file.path for file in files], n=3, cutoff=0.5)
    raise NotFoundError(
        f"{command.repo_id} has no file {name!r}" + (f"; near: {', '.join(near)}" if near else ""),
        code="file-not-found",
        hint=command.everything(),
    )


def _by_globs(
    files: Sequence[RepoFile], include: Sequence[str], exclude: Sequence[str], command: FetchCommand
) -> list[RepoFile]:
    found = [file for file in files if _matches(file.path, include) and not _matches(file.path, exclude)]
    if not found:
        raise NotFoundError(
            f"no file of {command.repo_id} matches {', '.join(include)}"
            + (f" without {', '.join(exclude)}" if exclude else ""),
            code="no-match",
            hint=command.everything(),
        )
    return found


def _refuse_parts(model: ModelSet, exclude: Sequence[str], command: FetchCommand) -> None:
    """A model comes whole or not at all."""
    left_out = [file.path for file in model.files if _matches(file.path, exclude)]
    if left_out:
        raise NotFoundError(
            f"--exclude leaves out {left_out[0]}, which belongs to the model that was asked for",
            code="no-match",
            hint=command.everything(),
        )


def _projectors(
    sets: Sequence[ModelSet], chosen: Collection[str], exclude: Sequence[str], command: FetchCommand
) -> Iterator[RepoFile]:
    """The files of the projector of each model among the chosen."""
    models = [one for one in sets if one.role is Role.MODEL and any(file.path in chosen for file in one.files)]
    if not models:
        raise UsageError(
            "--with-mmproj adds a model's projector, and no model is among the files asked for",
            code="no-model",
            hint=command.of(None, "--include", "*mmproj*", "--dry-run"),
        )
    allowed = [one for one in sets if not any(_matches(file.path, exclude) for file in one.files)]
    found = [projector for model in models if (projector := quants.select_mmproj(allowed, model)) is not None]
    if not found:
        raise NotFoundError(
            f"{command.repo_id} has no multimodal projector (mmproj)" + (f" without {', '.join(exclude)}" if exclude else ""),
            code="no-mmproj",
            hint=command.everything(),
        )
    for projector in found:
        yield from projector.files


def _matches(path: str, globs: Sequence[str]) -> bool:
    """As `hf download`: a glob without a slash still sees the whole path, `*` crosses folders, `folder/` means all of it."""
    return any(fnmatch.fnmatchcase(path, glob + "*" if glob.endswith("/") else glob) for glob in globs)
