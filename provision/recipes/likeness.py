"""Does the model still say what it said when it was locked? Pure: logits within stated tolerances, the answer byte for byte.

The same CPU, engine and settings give the very same bits; another backend rounds differently, so there the logits may move
within the tolerances the lock states and a greedy answer may take another turn.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from provision.recipes.lockfile import LockedSmoke
from provision.smoke import golden


@dataclass(frozen=True, slots=True, kw_only=True)
class Likeness:
    """`differences` name fields of the lock that do not hold here; `notes` are sentences for people."""

    differences: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def answer_sha256(smoke: Mapping[str, Any]) -> str | None:
    """sha256 of the smoke test's answer; None when there was none."""
    answer = smoke.get("answer")
    return hashlib.sha256(answer.encode()).hexdigest() if isinstance(answer, str) else None


def compare_smoke(locked: LockedSmoke, smoke: Mapping[str, Any]) -> Likeness:
    """`smoke` is the data of a smoke test that was run here with the locked load parameters."""
    same_setting, logits = _compare_logits(locked.golden, smoke.get("fingerprint"))
    if logits.differences or locked.answer_sha256 is None or answer_sha256(smoke) == locked.answer_sha256:
        return logits
    if same_setting:
        return Likeness(differences=("smoke.answer_sha256: the greedy answer is another one than the locked",))
    said = "the greedy answer is another one than the locked, as it may be on another CPU, engine or device"
    return Likeness(notes=(*logits.notes, said))


def _compare_logits(known: Mapping[str, Any] | None, now: Mapping[str, Any] | None) -> tuple[bool, Likeness]:
    """Whether the settings are the same, and what the logits say. A lock without logits counts as the same settings."""
    if known is None:
        return True, Likeness(
            notes=("the lock holds no logits to compare, only the hash of an answer; lock again to add them",)
        )
    if now is None:
        return True, Likeness(differences=("smoke.golden: locked a fingerprint, here no likelihoods could be measured",))
    same = all(known[key] == now[key] for key in ("setting", "cpu", "engine_version"))
    check = golden.compare(known, now)
    if check.status == "fail":
        return same, Likeness(differences=(f"smoke.golden: {check.summary}",))
    return same, Likeness(notes=() if check.status == "pass" else (check.summary,))
