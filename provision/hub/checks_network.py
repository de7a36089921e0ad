"""Reports about endpoints as doctor's findings. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from provision.host.findings import Finding, Remedy, info, ok, warning
from provision.hub.checkup import EndpointReport
from provision.units import format_rate


def judge_endpoints(reports: Sequence[EndpointReport], *, offline: bool) -> list[Finding]:
    """One finding per endpoint. Nothing here is an error: the shipped demo needs no hub."""
    if offline:
        remedy = Remedy(text="Allow the network again.", commands=("unset HF_HUB_OFFLINE TRANSFORMERS_OFFLINE",))
        return [info("offline by HF_HUB_OFFLINE: no endpoint was asked", remedy=remedy)]
    return [_judge(report) for report in reports]


def _judge(report: EndpointReport) -> Finding:
    name = f"{report.endpoint} ({'ModelScope' if report.source == 'modelscope' else 'Hugging Face protocol'})"
    if report.problem is not None:
        remedy = Remedy(text="What helps:", commands=(report.hint,)) if report.hint else None
        # ModelScope is a second source nobody has to reach.
        finding = info if report.source == "modelscope" else warning
        return finding(f"{name}: {report.problem}", remedy=remedy)
    words = []
    if report.latency_s is not None:
        words.append(f"lists in {report.latency_s:.2f} s")
    words.append("with sha256")
    if report.served_from:
        words.append(f"bytes come from {report.served_from}")
    if not report.ranges:
        remedy = Remedy(
            text="Downloads from it cannot resume; use another mirror.", commands=("export HF_ENDPOINT=https://huggingface.co",)
        )
        return warning(f"{name}: does not serve ranges ({', '.join(words)})", remedy=remedy)
    words.append("ranges served")
    if report.bytes_per_s is not None:
        words.append(f"{format_rate(report.bytes_per_s)} on one connection")
    return ok(f"{name}: {', '.join(words)}")
