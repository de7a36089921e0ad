"""All checks over one Host, and the one line that sums them up. Pure: the same for this machine and for a file."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from provision.errors import UsageError
from provision.host import checks_build, checks_cuda, checks_engine, checks_gpu, checks_machine
from provision.host.checks_cuda import toolkit_name
from provision.host.checks_engine import GPU_BACKENDS
from provision.host.checks_gpu import nvidia_gpus
from provision.host.checks_machine import translated_by_rosetta
from provision.host.findings import WORST_FIRST, Check, Finding
from provision.host.match import cuda_archs, cuda_gpus, judge_toolkits, prebuilt_tags, pypi_toolkits, working_driver
from provision.host.types import Host

CHECKS: tuple[Check, ...] = (
    *checks_machine.CHECKS,
    *checks_gpu.CHECKS,
    *checks_cuda.CHECKS,
    *checks_build.CHECKS,
    *checks_engine.CHECKS,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """`verdict` is one line; `findings` are worst first, and every check that was asked has at least one."""

    verdict: str
    findings: tuple[Finding, ...]

    @property
    def errors(self) -> tuple[Finding, ...]:
        return tuple(finding for finding in self.findings if finding.status == "error")


def diagnose(host: Host, *, only: Iterable[str] = (), checks: Sequence[Check] = CHECKS) -> Diagnosis:
    """Ask every check (or those named in `only`). A check that crashes becomes a finding.

    Raises UsageError (`unknown-check`) for a name in `only` that is none.
    """
    chosen = choose(checks, only)
    findings = [finding for check in chosen for finding in _ask(check, host)]
    rank = {status: place for place, status in enumerate(WORST_FIRST)}
    findings.sort(key=lambda finding: rank[finding.status])
    return Diagnosis(verdict=_safe_verdict(host, findings), findings=tuple(findings))


def choose(checks: Sequence[Check], only: Iterable[str]) -> tuple[Check, ...]:
    """The checks with these ids, in our order; all of them when none is named."""
    wanted = set(only)
    unknown = sorted(wanted - {check.id for check in checks})
    if unknown:
        import difflib

        near = difflib.get_close_matches(unknown[0], [check.id for check in checks], n=1)
        hint = f"perhaps you meant {near[0]}; see: provision doctor --list" if near else "see: provision doctor --list"
        raise UsageError(f"there is no check {unknown[0]!r}", code="unknown-check", hint=hint)
    return tuple(check for check in checks if not wanted or check.id in wanted)


def _ask(check: Check, host: Host) -> list[Finding]:
    try:
        answers = check.judge(host) or [Finding(status="crashed", summary=f"{check.id} gave no answer")]
    except Exception as failure:  # noqa: BLE001 - one wrong check must not take the others' answers away
        answers = [
            Finding(status="crashed", summary=f"the check {check.id} crashed", detail=f"{type(failure).__name__}: {failure}")
        ]
    return [replace(answer, check=check.id) for answer in answers]


def _safe_verdict(host: Host, findings: Sequence[Finding]) -> str:
    try:
        return verdict_of(host, findings)
    except Exception as failure:  # noqa: BLE001 - as above
        return f"unknown: the verdict crashed ({type(failure).__name__}: {failure})"


def verdict_of(host: Host, findings: Sequence[Finding]) -> str:
    """What this machine can do, in one line."""
    errors = [finding for finding in findings if finding.status == "error"]
    if errors:
        more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
        return f"Not ready: {errors[0].summary}{more}"
    engine = host.engine
    if engine is not None and engine.version is not None and engine.loads and engine.problem is None:
        held = [name for name in engine.backends if name in GPU_BACKENDS]
        seen = [device for device in engine.devices if device.kind in ("gpu", "igpu")]
        if held and seen:
            return f"Ready: llama-cpp-python {engine.version} with {held[0].upper()} on {seen[0].description or seen[0].name}"
        if not (cuda_gpus(host) and working_driver(host)):
            return f"Ready: llama-cpp-python {engine.version} on the CPU; {_why_no_cuda(host)}"
    possible = _possible_gpu_build(host)
    if possible is not None:
        return possible
    return f"CPU only: {_why_no_cuda(host)}"


def _possible_gpu_build(host: Host) -> str | None:
    if cuda_gpus(host) and working_driver(host) is not None:
        archs = " ".join(f"sm_{arch}" for arch in cuda_archs(host)) or "an unknown GPU architecture"
        best = next((verdict for verdict in judge_toolkits(host) if verdict.usable), None)
        if best is not None:
            archs = " ".join(f"sm_{arch}" for arch in best.archs) or archs
            return f"CUDA build possible with {best.toolkit.root} for {archs}"
        ready = pypi_toolkits(host)
        if ready:
            return f"CUDA build possible with CUDA {ready[0].name} from PyPI for {archs}"
        tags = prebuilt_tags(host)
        if tags:
            return f"CUDA possible with a prebuilt engine ({tags[0]}) for {archs}; no toolkit here can build one"
        return None
    vendors = {gpu.vendor for gpu in host.gpus}
    if "apple" in vendors and not translated_by_rosetta(host):
        return "Metal build possible (not tried by us)"
    if "amd" in vendors:
        return "Vulkan or ROCm build possible for the AMD GPU (not tried by us)"
    return None


def _why_no_cuda(host: Host) -> str:
    driver = host.driver
    if translated_by_rosetta(host):
        return "this Python runs translated by Rosetta"
    if not nvidia_gpus(host):
        if driver is not None and driver.problem is not None:
            if host.system.container and ("no device nodes" in driver.problem or "no driver library" in driver.problem):
                return "this container was given no GPU"
            return f"the NVIDIA driver does not work ({driver.problem})"
        return "no NVIDIA GPU"
    if driver is None or "not loaded" in (driver.problem or ""):
        return (
            "no NVIDIA driver"
            if driver is None or "bound" in (driver.problem or "")
            else "the NVIDIA kernel module is not loaded"
        )
    if driver.problem is not None:
        if host.system.container and ("no device nodes" in driver.problem or "no driver library" in driver.problem):
            return "this container was given no GPU"
        if "mismatch" in driver.problem:
            return "NVIDIA kernel module and library differ in version until the machine is restarted"
        return f"the NVIDIA driver does not work ({driver.problem})"
    if not cuda_gpus(host):
        if host.environment.get("CUDA_VISIBLE_DEVICES") is not None:
            return "CUDA_VISIBLE_DEVICES hides every GPU"
        return "MIG is on without an instance"
    verdicts = judge_toolkits(host)
    if not verdicts:
        return "no CUDA toolkit, and none from PyPI suits this machine"
    return f"{toolkit_name(verdicts[0].toolkit)} is not usable: {verdicts[0].obstacles[0]}"
