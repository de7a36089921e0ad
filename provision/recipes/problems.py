"""Pydantic's findings in the words of somebody who writes a recipe: where, what, and what was perhaps meant."""

from __future__ import annotations

import difflib
import types
import typing
from collections.abc import Iterable, Sequence

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from provision.errors import UsageError


class RecipeError(UsageError):
    """A recipe or lock that cannot be used; `problems` holds every finding, one sentence each."""

    def __init__(self, source: str, problems: Sequence[str], *, hint: str = "", code: str = "bad-recipe") -> None:
        self.source = source
        self.problems = tuple(problems)
        if len(self.problems) == 1:
            message = f"{source}: {self.problems[0]}"
        else:
            message = f"{source} has {len(self.problems)} problems:\n" + "\n".join(f"  - {p}" for p in self.problems)
        super().__init__(message, code=code, hint=hint)


def explain(error: ValidationError, model: type[BaseModel]) -> tuple[str, ...]:
    """One sentence per finding of `error`, which came from validating `model`."""
    findings = error.errors(include_url=False)
    # An array that is short only because its items are wrong is no second problem.
    deeper = {found["loc"][:depth] for found in findings for depth in range(len(found["loc"]))}
    findings = [found for found in findings if found["type"] != "too_short" or found["loc"] not in deeper]
    by_place: dict[str, list[ErrorDetails]] = {}
    for found in findings:
        by_place.setdefault(_place(_location(found)), []).append(found)
    return tuple(_sentence(same[0], model) if len(same) == 1 else _no_branch(place, same) for place, same in by_place.items())


def suggestion(word: str, known: Iterable[str]) -> str:
    """`; perhaps you meant 'x'` or an empty string."""
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"; perhaps you meant '{near[0]}'" if near else ""


def _location(found: ErrorDetails) -> list[int | str]:
    branchless = [part for part in found["loc"] if not (isinstance(part, str) and _is_union_branch(part))]
    # An unknown key may look like the name of a branch; it is the last part, and it was written by a person.
    last = found["loc"][-1:]
    if found["type"] == "extra_forbidden" and tuple(branchless[-1:]) != last:
        branchless += last
    return branchless


def _no_branch(place: str, branches: Sequence[ErrorDetails]) -> str:
    """A value that fits no branch of a union: say once what would fit."""
    wanted = [found.get("ctx", {}).get("expected") or found["msg"].removeprefix("Input should be ") for found in branches]
    return f"{place}: {branches[0].get('input')!r} is neither {' nor '.join(dict.fromkeys(wanted))}"


def _sentence(found: ErrorDetails, model: type[BaseModel]) -> str:
    location = _location(found)
    place = _place(location)
    value = found.get("input")
    match found["type"]:
        case "extra_forbidden":
            key = str(location[-1])
            known = _fields_at(model, location[:-1])
            where = _place(location[:-1])
            inside = f" in [{where}]" if where else ""
            hint = suggestion(key, known) or f"; known here: {', '.join(known)}"
            return f"unknown key '{key}'{inside}{hint}"
        case "missing":
            return f"{place} is missing"
        case "literal_error":
            expected = found.get("ctx", {}).get("expected", "")
            known = [word.strip("' ") for word in expected.replace(" or ", ", ").split(",")]
            return f"{place}: {value!r} is not one of {expected}" + (suggestion(value, known) if isinstance(value, str) else "")
        case "value_error":
            said = str(found.get("ctx", {}).get("error", found["msg"]))
            return f"{place}: {said}" if place else said
        case "string_pattern_mismatch":
            examples = _examples_at(model, location)
            return f"{place}: {value!r} has the wrong form" + (f"; for example {examples[0]!r}" if examples else "")
        case _:
            said = found["msg"][:1].lower() + found["msg"][1:]
            return f"{place}: {said}, not {value!r}" if not isinstance(value, dict | list) else f"{place}: {said}"


def _is_union_branch(part: str) -> bool:
    # Pydantic puts the name of a union's branch into the location: n_gpu_layers.literal['auto'], n_gpu_layers.constrained-int.
    return "[" in part or part.startswith("constrained-") or part in {"int", "float", "bool", "str"}


def _place(location: Sequence[int | str]) -> str:
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else (f".{part}" if text else part)
    return text


def _fields_at(model: type[BaseModel], location: Sequence[int | str]) -> list[str]:
    inner = _model_at(model, location)
    return [] if inner is None else [field.alias or name for name, field in inner.model_fields.items()]


def _examples_at(model: type[BaseModel], location: Sequence[int | str]) -> list[str]:
    inner = _model_at(model, location[:-1])
    schema = inner.model_json_schema() if inner is not None else {}
    field = schema.get("properties", {}).get(str(location[-1]) if location else "", {})
    candidates = [field, *field.get("anyOf", [])]
    return [example for candidate in candidates for example in candidate.get("examples", [])]


def _model_at(model: type[BaseModel], location: Sequence[int | str]) -> type[BaseModel] | None:
    current: type[BaseModel] | None = model
    for part in location:
        if isinstance(part, int):
            continue
        field = None if current is None else current.model_fields.get(part)
        current = None if field is None else next(iter(_models_in(field.annotation)), None)
    return current


def _models_in(annotation: object) -> Iterable[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    elif typing.get_origin(annotation) in (tuple, list, typing.Union, types.UnionType, typing.Annotated):
        for argument in typing.get_args(annotation):
            yield from _models_in(argument)
