"""What to ask: questions, passages and profiles, from provision/data/smoke/material.json."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from provision.smoke.types import ProfileName, Question

DEMO_NAME = "Provision Demo"
"""`general.name` of the shipped model: it is asked for its own stories, since prose it never saw tells nothing of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """How much a profile measures. `variants` are further loads of the model with one setting changed."""

    name: ProfileName
    questions: int | None
    passages: int | None
    n_single: int
    single_limit_s: float
    max_logits: int
    answer_limit_s: float
    n_prompt: int
    n_generate: int
    repetitions: int
    speed_limit_s: float | None
    watch_s: float
    """Seconds of generation that a GPU is watched for, at the least; 0: no longer than speed takes to measure."""
    needle_tokens: int
    variants: bool
    base_timeout_s: float
    hash_limit_bytes: int | None
    """Files up to this size are hashed; None: always."""


PROFILES: Mapping[ProfileName, Profile] = {
    "quick": Profile(
        name="quick",
        questions=3, passages=1, n_single=24, single_limit_s=2, max_logits=12_000_000, answer_limit_s=10, n_prompt=128,
        n_generate=32, repetitions=1, speed_limit_s=3, watch_s=0, needle_tokens=0, variants=False,
        base_timeout_s=300, hash_limit_bytes=512 * 1024**2,
    ),
    "full": Profile(
        name="full",
        questions=None, passages=None, n_single=64, single_limit_s=10, max_logits=30_000_000, answer_limit_s=60, n_prompt=512,
        n_generate=64, repetitions=3, speed_limit_s=20, watch_s=2.5, needle_tokens=4096, variants=True,
        base_timeout_s=1200, hash_limit_bytes=None,
    ),
    "deep": Profile(
        name="deep",
        questions=None, passages=None, n_single=192, single_limit_s=60, max_logits=60_000_000, answer_limit_s=180, n_prompt=512,
        n_generate=128, repetitions=5, speed_limit_s=None, watch_s=2.5, needle_tokens=16384, variants=True,
        base_timeout_s=7200, hash_limit_bytes=None,
    ),
}  # fmt: skip


@cache
def _material() -> Mapping[str, Any]:
    text = files("provision").joinpath("data/smoke/material.json").read_text(encoding="utf-8")
    return json.loads(text)  # type: ignore[no-any-return]


def known_questions(profile: Profile) -> tuple[Question, ...]:
    """The shipped questions, the first three for a quick look."""
    asked = _material()["questions"]["general"][: profile.questions]
    return tuple(
        Question(id=one["id"], ask=one["ask"], expect=tuple(one["expect"]), before=tuple(one.get("before", ())))
        for one in asked
    )


def round_trips() -> Sequence[str]:
    """Texts of many scripts and kinds that must survive the tokenizer."""
    texts: Sequence[str] = _material()["round_trips"]
    return texts


def passages(profile: Profile, *, is_demo: bool) -> Sequence[Mapping[str, Any]]:
    """Texts whose likelihood is measured; the demo gets its own."""
    chosen: Sequence[Mapping[str, Any]] = _material()["passages"]["demo" if is_demo else "general"]
    return chosen[: profile.passages]


def measure_request(profile: Profile, questions: Sequence[Question], *, is_demo: bool) -> dict[str, Any]:
    """The part of the child's request that depends on profile and kind of model alone."""
    material = _material()
    request: dict[str, Any] = {
        "stages": ["tokenizer", "speed", "numerics", "behaviour"],
        "round_trips": round_trips(),
        "passages": list(passages(profile, is_demo=is_demo)),
        "n_single": profile.n_single,
        "single_limit_s": profile.single_limit_s,
        "max_logits": profile.max_logits,
        "questions": [{"id": q.id, "ask": q.ask, "before": [dict(turn) for turn in q.before]} for q in questions],
        "answer_limit_s": profile.answer_limit_s,
        "speed": {
            "n_prompt": profile.n_prompt,
            "n_generate": profile.n_generate,
            "repetitions": profile.repetitions,
            "limit_s": profile.speed_limit_s,
        },
    }
    if profile.variants:
        request["repeat"] = True
        request["long_prompt"] = True
        request["long_answer"] = material["long_answer"]["demo" if is_demo else "general"]
        request["needle"] = {**material["needle"], "tokens": profile.needle_tokens}
    return request
