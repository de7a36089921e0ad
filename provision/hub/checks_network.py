"""Reports about endpoints as doctor's findings. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from provision.host.findings import Finding, Remedy, info, ok, warning
from provision.hub.checkup import EndpointReport, Lack
from provision.units import format_rate

_MIRROR, _HUB = "https://hf-mirror.com", "https://huggingface.co"
# Per lack: how grave, what it means, what helps.
_LACKS: dict[Lack, tuple[Literal["info", "warning"], str, str]] = {
    "sha256": (
        "warning",
        "lists files without their sha256, so nothing that comes from it can be verified by its listing",
        "Use an endpoint that promises hashes.",
    ),
    "ranges": (
        "warning",
        "does not serve ranges as they are asked for: downloads cannot resume and use one connection",
        "Use another mirror for large files.",
    ),
    "identity": (
        "warning",
        "compresses files although they were asked for as they are; caches that do so ignore ranges",
        "Use another mirror for large files.",
    ),
    "xet-only": ("warning", "names a Xet hash and no plain address: large files cannot be had from it", "Use another mirror."),
    "commit-header": (
        "info",
        "does not send X-Repo-Commit: provision takes the commit from the listing, huggingface_hub refuses to download",
        "For programs that use huggingface_hub, name another endpoint.",
    ),
    "linked-hash": (
        "info",
        "does not send X-Linked-ETag: the hash of a file is in the listing only, nothing confirms it at the file",
        "",
    ),
    "head": ("info", "refuses HEAD: provision asks for one byte instead, other programs may fail", ""),
    "off-origin": (
        "info",
        "sends files from {served_from}: a firewall must let that through, and a mirror does not speed it up",
        "",
    ),
}


def judge_endpoints(reports: Sequence[EndpointReport], *, offline: bool) -> list[Finding]:
    """One finding per endpoint and one per lack. Nothing here is an error: the shipped demo needs no hub."""
    if offline:
        remedy = Remedy(text="Allow the network again.", commands=("unset HF_HUB_OFFLINE TRANSFORMERS_OFFLINE",))
        return [info("offline by HF_HUB_OFFLINE: no endpoint was asked", remedy=remedy)]
    return [finding for report in reports for finding in (_judge(report), *(_about(lack, report) for lack in report.lacks))]


def _judge(report: EndpointReport) -> Finding:
    if report.problem is not None:
        # ModelScope is a second source nobody has to reach.
        finding = info if report.source == "modelscope" else warning
        return finding(f"{_name(report)}: {report.problem}", remedy=_elsewhere(report, report.hint or "Use another mirror."))
    words = ["reachable"]
    if report.latency_s is not None:
        words.append(f"lists in {report.latency_s:.2f} s")
    if report.hashes:
        words.append("with sha256")
    if report.served_from:
        words.append(f"bytes come from {report.served_from}")
    if report.ranges:
        words.append("ranges served")
    if report.bytes_per_s is not None:
        words.append(f"{format_rate(report.bytes_per_s)} on one connection")
    return ok(f"{_name(report)}: {', '.join(words)}")


def _about(lack: Lack, report: EndpointReport) -> Finding:
    status, means, helps = _LACKS[lack]
    # A second source that lacks something is passed over by fetch.
    finding = info if status == "info" or report.source == "modelscope" else warning
    words = means.format(served_from=report.served_from)
    return finding(f"{_name(report)}: {words}", remedy=_elsewhere(report, helps) if helps else None)


def _name(report: EndpointReport) -> str:
    return f"{report.endpoint} ({'ModelScope' if report.source == 'modelscope' else 'Hugging Face protocol'})"


def _elsewhere(report: EndpointReport, text: str) -> Remedy:
    """Another endpoint than the one reported on; ModelScope has no other."""
    if report.source == "modelscope":
        return Remedy(text=text)
    return Remedy(text=text, commands=(f"export HF_ENDPOINT={_HUB if report.endpoint == _MIRROR else _MIRROR}",))
