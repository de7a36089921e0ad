"""From measured figures to checks: pure. What was not measured is skipped with a reason, never passed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from provision.smoke.deaths import Death
from provision.smoke.thresholds import (
    MAX_SPEED_CV,
    PLAN_SPEED_SHARE,
)
from provision.smoke.types import Check, Prediction, Verdict

Answer = Mapping[str, Any]
REINSTALL = "provision install --from-source --no-cache"
REFETCH = "provision verify MODEL, then provision fetch ORG/REPO"


def verdict_of(checks: Sequence[Check]) -> Verdict:
    """The worst status that says anything."""
    statuses = {check.status for check in checks}
    return "fail" if "fail" in statuses else "warn" if "warn" in statuses else "pass"


def judge_load(answer: Answer, death: Death | None) -> list[Check]:
    """A3 the child lived, A5 every keyword reached the engine."""
    if death is not None:
        checks = [
            Check(
                id=f"A3-{death.name}",
                status="fail",
                summary=death.summary,
                value=death.name,
                threshold="ok",
                remedy=death.remedy,
            )
        ]
    else:
        seconds = float(answer.get("load_s") or 0.0)
        checks = [Check(id="A3-loads", status="pass", summary=f"loads in {seconds:.1f} s and answers", value=round(seconds, 3))]
    unknown = answer.get("unknown_keywords")
    if unknown:
        checks.append(
            Check(
                id="A5-keywords",
                status="fail",
                summary=f"Llama() would silently ignore: {', '.join(unknown)}",
                value=", ".join(unknown),
                threshold="every keyword known",
                remedy="remove them from the recipe; see: provision fit MODEL",
            )
        )
    elif unknown is not None:
        checks.append(Check(id="A5-keywords", status="pass", summary="every argument is known to the engine"))
    used, taught = answer.get("n_ctx"), answer.get("n_ctx_train")
    if used and taught:
        beyond = used > taught
        checks.append(
            Check(
                id="A5-context",
                status="warn" if beyond else "pass",
                summary=f"n_ctx {used} "
                + (f"is more than the {taught} tokens" if beyond else f"of the {taught} tokens")
                + " the model was trained on",
                value=used,
                threshold=taught,
                remedy=f"provision chat MODEL --smoke --ctx {taught}" if beyond else None,
            )
        )
    return checks


def judge_speed(answer: Answer, prediction: Prediction) -> list[Check]:
    """F1 prompt and generation speed, and how much they vary; F2 against the plan's forecast."""
    speed = answer.get("speed")
    if not speed:
        return [Check(id="F1-speed", status="skip", summary="speed was not measured")]
    prompt, generation = _mean(speed["pp"]), _mean(speed["tg"])
    spread = _cv(speed["tg"])
    steady = spread is None or spread <= MAX_SPEED_CV
    # A busy machine is no fault of the deployment, so an unsteady clock only ever warns, and only where it was measured.
    checks = [
        Check(
            id="F1-speed",
            status="pass",
            summary=f"pp{speed['n_prompt']} {prompt:.0f} tok/s, tg{speed['n_generate']} {generation:.1f} tok/s"
            + ("" if steady else f", varying by {100 * (spread or 0):.0f} % (is the machine busy?)"),
            value=round(generation, 2),
        )
    ]
    low = prediction.tokens_per_s_low
    if low:
        slow = generation < PLAN_SPEED_SHARE * low
        checks.append(
            Check(
                id="F2-forecast",
                status="warn" if slow else "pass",
                summary=f"{generation:.1f} tok/s, forecast at least {low:.1f}",
                value=round(generation, 2),
                threshold=round(PLAN_SPEED_SHARE * low, 2),
                remedy="provision bench MODEL" if slow else None,
            )
        )
    return checks


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def _cv(values: Sequence[float]) -> float | None:
    if len(values) < 2:
        return None
    mean = _mean(values)
    return float((sum((value - mean) ** 2 for value in values) / (len(values) - 1)) ** 0.5 / mean) if mean else None
