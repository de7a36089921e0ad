"""Golden fingerprints: likelihoods and best tokens of fixed passages, stored once and compared later, on any machine.

Local damage (noise in one tensor) passes every known answer; only the file's hash and the *values* of logits show it.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from provision.errors import UsageError
from provision.smoke.thresholds import GOLDEN_NLL_OTHER, GOLDEN_NLL_SAME, GOLDEN_OTHER, GOLDEN_QUANTIZED_KV, GOLDEN_SAME
from provision.smoke.types import Check, Status

SCHEMA = 1
MIN_TOP1 = {True: (0.98, 0.90), False: (0.95, 0.85)}
"""Share of equal best tokens that passes, and below which it fails, on the same and on another setting."""


def fingerprint(answer: Mapping[str, Any], *, setting: str, sha256: str | None) -> dict[str, Any]:
    """The fingerprint of one measurement. `setting` names what may change the last digits: device, flash attention, KV type."""
    return {
        "provision_golden": SCHEMA,
        "model": answer.get("metadata", {}).get("general.name"),
        "model_bytes": answer["model_bytes"],
        "sha256": sha256,
        "n_vocab": answer["n_vocab"],
        "engine_version": answer["engine_version"],
        "cpu": hashlib.sha256(" ".join(sorted(answer["cpu_flags"])).encode()).hexdigest()[:16],
        "setting": setting,
        "passages": [
            {"name": one["name"], "tokens": one["tokens"], "nll": round(one["nll"], 5), "top": one["top"]}
            for one in answer["passages"]
            if "nll" in one
        ],
    }


def save(path: Path, golden: Mapping[str, Any]) -> None:
    """Write a fingerprint so that nothing half-written is ever seen."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(golden, file, ensure_ascii=False, indent=1)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o644)  # mkstemp's 0600 is for secrets; this is meant to be carried to other machines
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def load(path: Path) -> Mapping[str, Any]:
    """A stored fingerprint; raises UsageError (`bad-golden`) for anything else."""
    hint = "store one first: provision chat MODEL --smoke --save-golden FILE"
    try:
        golden = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(f"no such fingerprint: {path}", code="bad-golden", hint=hint) from None
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} is not a fingerprint: {error}", code="bad-golden", hint=hint) from None
    if not isinstance(golden, dict) or golden.get("provision_golden") != SCHEMA or not isinstance(golden.get("passages"), list):
        raise UsageError(f"{path} is not a fingerprint of schema {SCHEMA}", code="bad-golden", hint=hint)
    return golden


def compare(golden: Mapping[str, Any], now: Mapping[str, Any]) -> list[Check]:
    """C8: the same passages gave the same likelihoods, best tokens and logit values as when the fingerprint was taken."""
    if golden["n_vocab"] != now["n_vocab"] or golden["model_bytes"] != now["model_bytes"]:
        return [
            Check(
                id="C8-golden",
                status="fail",
                summary=f"the fingerprint is of another model or quant ({golden.get('model')}, {golden['model_bytes']} bytes)",
                value=now["model_bytes"],
                threshold=golden["model_bytes"],
                remedy="store one of this model: provision chat MODEL --smoke --save-golden FILE",
            )
        ]
    same = all(golden.get(key) == now[key] for key in ("setting", "cpu", "engine_version"))
    known = {one["name"]: one for one in golden["passages"]}
    pairs = [(known[one["name"]], one) for one in now["passages"] if one["name"] in known]
    pairs = [(old, new) for old, new in pairs if old["tokens"] == new["tokens"]]
    if not pairs:
        summary = "the passages are tokenized differently now: another tokenizer or template"
        return [Check(id="C8-golden", status="fail", summary=summary, value=0, threshold=1, remedy="provision verify MODEL")]
    figures = [_distance(old, new) for old, new in pairs]
    return [
        _judge(
            figures,
            same=same,
            setting=golden["setting"],
            quantized_kv=not all("KV f16" in one["setting"] for one in (golden, now)),
        )
    ]


def _distance(old: Mapping[str, Any], new: Mapping[str, Any]) -> tuple[float, float, float]:
    """(NMSE over logits known on both sides, difference of NLL, share of equal best tokens)."""
    squared = reference = 0.0
    equal = 0
    for before, after in zip(old["top"], new["top"], strict=True):
        equal += before["ids"][0] == after["ids"][0]
        values = dict(zip(after["ids"], after["logits"], strict=True))
        for token, logit in zip(before["ids"], before["logits"], strict=True):
            reference += logit * logit
            # A token that left the best five lies below the fifth: that is the least it can differ by.
            squared += (values.get(token, min(values.values())) - logit) ** 2
    return squared / max(reference, 1e-30), abs(new["nll"] - old["nll"]), equal / max(1, len(old["top"]))


def _judge(figures: list[tuple[float, float, float]], *, same: bool, setting: str, quantized_kv: bool) -> Check:
    nmse, nll, top1 = max(f[0] for f in figures), max(f[1] for f in figures), min(f[2] for f in figures)
    nll_limit = GOLDEN_NLL_SAME if same else GOLDEN_NLL_OTHER
    limits = GOLDEN_SAME if same else GOLDEN_QUANTIZED_KV if quantized_kv else GOLDEN_OTHER
    top_pass, top_fail = MIN_TOP1[same]
    good = nmse <= limits.warn and nll <= nll_limit and top1 >= top_pass
    bad = nmse > limits.fail or top1 < top_fail or nll > 10 * nll_limit
    status: Status = "pass" if good else "fail" if bad else "warn"
    origin = "same setting" if same else f"from elsewhere: {setting}"
    return Check(
        id="C8-golden",
        status=status,
        summary=f"{'as' if good else 'unlike'} the stored fingerprint ({origin}): "
        f"logits NMSE {nmse:.1e}, likelihood differs by {nll:.4f}, same best token {100 * top1:.0f} %",
        value=float(f"{nmse:.4g}"),
        threshold=limits.warn,
        remedy=None if good else "file or engine changed: provision verify MODEL, then provision doctor",
    )
