"""The install plan of every machine in tests/support/machines, as reviewed text.

After a change that is meant: `python -m tests.support.plans` writes the file anew; read the difference before committing it.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from provision.engine.plan import PlanFacts, build_plan
from provision.engine.types import InstallWish, plan_to_data
from provision.engine.vulkan import VulkanSdk
from provision.errors import ProvisionError
from provision.host.serial import host_from_data
from provision.host.types import Host

MACHINES = Path(__file__).parent / "machines"
REVIEWED = Path(__file__).parents[1] / "data" / "install-plans.json"


@cache
def machines() -> dict[str, Host]:
    """Every described machine by name."""
    return {path.stem: host_from_data(json.loads(path.read_text())["host"]) for path in sorted(MACHINES.glob("*.json"))}


def planned(host: Host, wish: InstallWish) -> dict[str, Any]:
    """The whole plan as plain data, or the error with its code, sentence and hint."""
    facts = PlanFacts(
        provision_home="/home/ana/.local/share/provision",
        python="/home/ana/.venv/bin/python",
        cmake_args=host.environment.get("CMAKE_ARGS", ""),
        environ=host.environment,
        vulkan=VulkanSdk(),
    )
    try:
        plan = build_plan(host, wish, facts)
    except ProvisionError as error:
        return {"error": error.code, "exit_code": int(error.exit_code), "message": error.message, "hint": error.hint}
    data = plan_to_data(plan, ())
    toolkit = f"{plan.toolkit.kind} {plan.toolkit.root}" if plan.toolkit else None
    del data["argv"]
    return {
        "backend": plan.backend,
        "toolkit": toolkit,
        "runtime_packages": list(plan.runtime_packages),
        "build_requires": list(plan.build_requires),
        "files": dict(plan.files),
        **data,
    }


def all_plans() -> dict[str, dict[str, Any]]:
    """`NAME auto` for every machine, `NAME cuda` for those with an NVIDIA GPU."""
    plans = {}
    for name, host in machines().items():
        plans[f"{name} auto"] = planned(host, InstallWish())
        if any(gpu.vendor == "nvidia" for gpu in host.gpus):
            plans[f"{name} cuda"] = planned(host, InstallWish(backend="cuda"))
    return plans


if __name__ == "__main__":
    REVIEWED.write_text(json.dumps(all_plans(), indent=1, ensure_ascii=False) + "\n")
