"""The multimodal projector beside a model: its weights and its compute buffer, counted into the first GPU or main memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from provision.errors import IntegrityError, NotFoundError
from provision.fit.engine import CHILD, HeaderOnDisk, outcome_problem
from provision.gguf.header import GgufHeader
from provision.models.names import parse_name
from provision.models.types import Role
from provision.processes import run_child
from provision.units import format_bytes

_SECONDS = 60.0
_F32 = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Projector:
    """What a projector takes, and one sentence on where the number is from."""

    size_bytes: int
    note: str


def read_projector(header: GgufHeader, name: str, *, python: Path | None, env: Mapping[str, str]) -> Projector:
    """Bytes of the projector behind `header`: asked of the engine of `python`, estimated from its shape without one.

    Raises IntegrityError (`gguf-no-projector`) when the file is something else.
    """
    if header.architecture != "clip":
        raise IntegrityError(
            f"{name} is no multimodal projector (its architecture is {header.architecture or 'not named'})",
            code="gguf-no-projector",
            hint="name the mmproj file of the model, or --mmproj auto",
        )
    if python is not None:
        counted = _by_engine(header, python, env)
        if isinstance(counted, int):
            return Projector(
                size_bytes=counted,
                note=f"projector {name}: {format_bytes(counted)}, weights and compute as the engine counts them",
            )
    size = header.tensor_bytes + estimated_compute(header)
    why = "its weights are exact, its compute buffer is an estimate for one image of its own size"
    return Projector(size_bytes=size, note=f"projector {name}: {format_bytes(size)}; {why}")


def estimated_compute(header: GgufHeader) -> int:
    """Bytes of the widest moment of a vision tower for one image: the stream and its copies beside the feed-forward part."""
    key = "clip.vision."
    image, patch = header.integer(key + "image_size") or 336, header.integer(key + "patch_size") or 14
    width, wide = header.integer(key + "embedding_length") or 1024, header.integer(key + "feed_forward_length") or 4096
    patches = (image // max(patch, 1)) ** 2 + 1
    return _F32 * patches * (4 * width + wide) + _F32 * 3 * image * image


def find_projector(model: Path) -> Path | None:
    """The projector in the folder of a local model; the first by name when there are several."""
    files = sorted(model.parent.glob("*.gguf"))
    return next((path for path in files if path != model and parse_name(path.name).role is Role.MMPROJ), None)


def no_projector(asked: str) -> NotFoundError:
    """Nothing to count where one was asked for."""
    what = "no multimodal projector (mmproj) lies beside this model" if asked == "auto" else f"no such file: {asked}"
    return NotFoundError(what, code="no-mmproj", hint="name its file with --mmproj FILE, or leave --mmproj out")


def _by_engine(header: GgufHeader, python: Path, env: Mapping[str, str]) -> int | None:
    try:
        with HeaderOnDisk([header]) as path:
            outcome = run_child(python, CHILD, {"projector": str(path)}, timeout_s=_SECONDS, env=env)
    except OSError:
        return None
    if outcome_problem(outcome):
        return None
    return sum(int(row["bytes"]) for row in outcome.answer.get("projector", ())) or None
