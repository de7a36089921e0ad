"""What a build may change by itself after a known failure. Pure: a plan and a finding become another plan."""

from __future__ import annotations

import dataclasses

from provision.engine.explain import Explanation
from provision.engine.flags import cmake_args_text
from provision.engine.types import BuildPlan

MOST_RETRIES = 2


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """The changed plan, whether the build folder starts afresh, and the sentence that announces it."""

    plan: BuildPlan
    fresh: bool
    say: str


def next_try(plan: BuildPlan, found: tuple[Explanation, ...]) -> Retry | None:
    """The first known-safe change that is one, or None: then the failure stands."""
    for one in found:
        rule = one.signature.retry
        if rule is None:
            continue
        changed = _change(plan, rule)
        if changed != plan or rule.get("fresh"):
            return Retry(plan=changed, fresh=bool(rule.get("fresh")), say=f"{rule['say']} ({one.evidence})")
    return None


def _change(plan: BuildPlan, rule: object) -> BuildPlan:
    assert isinstance(rule, dict)
    env = dict(plan.env)
    jobs, arguments, requires = plan.jobs, plan.cmake_args, plan.build_requires
    if rule.get("jobs") == "halve" and jobs > 1:
        jobs //= 2
        env["CMAKE_BUILD_PARALLEL_LEVEL"] = str(jobs)
    for name, value in rule.get("define", {}).items():
        kept = tuple(argument for argument in arguments if not argument.startswith(f"-D{name}="))
        arguments = (*kept, f"-D{name}={value}")
        env["CMAKE_ARGS"] = cmake_args_text(arguments)
    if (wanted := rule.get("require")) is not None:
        name = wanted.partition(">")[0]
        requires = (*(one for one in requires if one.partition(">")[0] != name), wanted)
    return dataclasses.replace(plan, env=env, jobs=jobs, cmake_args=arguments, build_requires=requires)
