"""Golden fingerprints: likelihoods and best tokens of fixed passages, stored once and compared later, on any machine.

Local damage (noise in one tensor) passes every known answer; only the file's hash and the *values* of logits show it.
A fingerprint is a small dictionary of plain values, at home in JSON and in TOML: `fingerprint` takes it from a measurement,
`compare` judges another one by it with the tolerances it states, `save` and `load` keep it in a file of its own.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from provision.errors import UsageError
from provision.smoke.thresholds import GOLDEN, GOLDEN_TIE, GoldenLimit
from provision.smoke.types import Check, Status

SCHEMA = 2
_HINT = "store one first: provision chat MODEL --smoke --save-golden FILE"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Passage:
    """One passage: mean negative log likelihood in nats per token over `tokens` ids, and raw logits `best[position][id]`."""

    name: str
    tokens: int
    ids_sha256: str
    nll: float
    best: tuple[dict[int, float], ...]


def fingerprint(answer: Mapping[str, Any], *, setting: str, sha256: str | None) -> dict[str, Any] | None:
    """The fingerprint of what the measuring child answered; None when its logits were not finite or its texts too short.

    `setting` names what may change the last digits: device, flash attention, KV type. Plain strings, numbers and lists only,
    no None, so that it can be stored as TOML as it is; the same measurement gives the same bytes.
    """
    passages = [one for one in answer.get("passages") or () if "fingerprint" in one]
    if not passages or len(passages) < len(answer["passages"]):
        return None
    return {
        "schema": SCHEMA,
        "model_bytes": answer["model_bytes"],
        "n_vocab": answer["n_vocab"],
        **({"sha256": sha256} if sha256 else {}),
        "engine_version": answer["engine_version"],
        "cpu": hashlib.sha256(" ".join(sorted(answer["cpu_flags"])).encode()).hexdigest()[:16],
        "setting": setting,
        "passages": [_passage_data(one["name"], one["fingerprint"]) for one in passages],
        "tolerances": {name: limit.to_data() for name, limit in GOLDEN.items()},
    }


def _passage_data(name: str, facts: Mapping[str, Any]) -> dict[str, Any]:
    ids = " ".join(str(token) for token in facts["ids"])
    return {
        "name": name,
        "tokens": len(facts["ids"]),
        "ids_sha256": hashlib.sha256(ids.encode()).hexdigest()[:16],
        "nll": round(facts["nll"], 5),
        # One position per line, `token=logit` from the best downwards: short enough to read in a lock file.
        "best": [
            " ".join(f"{token}={logit:.4f}" for token, logit in zip(one["ids"], one["logits"], strict=True))
            for one in facts["best"]
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
    try:
        golden = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(f"no such fingerprint: {path}", code="bad-golden", hint=_HINT) from None
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} is not a fingerprint: {error}", code="bad-golden", hint=_HINT) from None
    if not isinstance(golden, dict):
        raise UsageError(f"{path} is not a fingerprint", code="bad-golden", hint=_HINT)
    check_shape(golden, where=str(path))
    return golden


def check_shape(golden: Mapping[str, Any], *, where: str) -> None:
    """Refuse what is not a fingerprint of this schema, `where` it was found: UsageError (`bad-golden`)."""
    try:
        if golden["schema"] != SCHEMA:
            raise ValueError(f"its schema is {golden['schema']!r}, not {SCHEMA}")
        for key, kind in (("model_bytes", int), ("n_vocab", int), ("engine_version", str), ("cpu", str), ("setting", str)):
            if not isinstance(golden[key], kind):
                raise TypeError(f"{key} is {golden[key]!r}")
        if not _passages(golden):
            raise ValueError("it has no passages")
        for name in GOLDEN:
            if name != "processor" or name in golden["tolerances"]:
                GoldenLimit.from_data(golden["tolerances"][name])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        what = f"{error.args[0]} is missing" if isinstance(error, KeyError) else str(error)
        raise UsageError(f"{where} is not a fingerprint: {what}", code="bad-golden", hint=_HINT) from None


def compare(known: Mapping[str, Any], now: Mapping[str, Any]) -> Check:
    """C8: the same passages give the same likelihoods, best tokens and logit values as when `known` was taken.

    Strict when device, settings, CPU and engine are the same; otherwise within the tolerances that `known` states. Both are
    fingerprints; raises UsageError (`bad-golden`) for anything else.
    """
    check_shape(known, where="the stored fingerprint")
    if known["n_vocab"] != now["n_vocab"] or known["model_bytes"] != now["model_bytes"]:
        return Check(
            id="C8-golden",
            status="fail",
            summary=f"the fingerprint is of another model or quant ({known['model_bytes']} bytes of weights)",
            value=now["model_bytes"],
            threshold=known["model_bytes"],
            remedy=_HINT,
        )
    before = {one.name: one for one in _passages(known)}
    pairs = [(before[one.name], one) for one in _passages(now) if one.name in before]
    pairs = [(old, new) for old, new in pairs if old.tokens == new.tokens]
    if not pairs:
        return Check(id="C8-golden", status="skip", summary="the fingerprint holds no passage measured here: other contexts")
    if any(old.ids_sha256 != new.ids_sha256 for old, new in pairs):
        summary = "the passages are tokenized differently now: another tokenizer or template"
        return Check(id="C8-golden", status="fail", summary=summary, value=0, threshold=1, remedy="provision verify MODEL")
    figures = [_distance(old, new) for old, new in pairs]
    kind = _kind(known, now)
    origins = {"same": "same setting", "processor": "taken on another processor, same setting"}
    origin = origins.get(kind, f"taken on {known['setting']}, engine {known['engine_version']}")
    return _judge(figures, GoldenLimit.from_data(known["tolerances"][kind]), origin=origin)


def _kind(known: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Which of the stored tolerances holds between two fingerprints."""
    if all(known[key] == now[key] for key in ("setting", "engine_version")):
        if known["cpu"] == now["cpu"]:
            return "same"
        # Fingerprints of earlier versions do not have it.
        if known["setting"].startswith("CPU,") and "KV f16" in known["setting"] and "processor" in known["tolerances"]:
            return "processor"
    return "other" if all("KV f16" in one["setting"] for one in (known, now)) else "quantized_kv"


def not_compared() -> Check:
    """C8 where there is nothing to compare: logits that are not numbers, or passages too short for this tokenizer."""
    return Check(id="C8-golden", status="skip", summary="not compared: no likelihoods could be measured")


def _passages(golden: Mapping[str, Any]) -> list[_Passage]:
    return [
        _Passage(
            name=str(one["name"]),
            tokens=int(one["tokens"]),
            ids_sha256=str(one["ids_sha256"]),
            nll=float(one["nll"]),
            best=tuple(_best(line) for line in one["best"]),
        )
        for one in golden["passages"]
    ]


def _best(line: str) -> dict[int, float]:
    found = {int(token): float(logit) for token, _, logit in (pair.partition("=") for pair in line.split())}
    if len(found) < 2 or not all(math.isfinite(logit) for logit in found.values()):
        raise ValueError(f"{line!r} does not name two tokens and their logits")
    return found


def _distance(old: _Passage, new: _Passage) -> tuple[float, float, float]:
    """(NMSE over logits known on both sides, difference of NLL, share of equal best tokens where one stood out)."""
    squared = reference = 0.0
    clear = equal = 0
    for before, after in zip(old.best, new.best, strict=False):
        first, second = sorted(before.values(), reverse=True)[:2]
        if first - second >= GOLDEN_TIE:
            clear += 1
            equal += max(before, key=before.__getitem__) == max(after, key=after.__getitem__)
        for token, logit in before.items():
            reference += logit * logit
            # A token that left the best ones lies below the last of them: that is the least it can differ by.
            squared += (after.get(token, min(after.values())) - logit) ** 2
    return squared / max(reference, 1e-30), abs(new.nll - old.nll), equal / clear if clear else 1.0


def _judge(figures: Sequence[tuple[float, float, float]], limit: GoldenLimit, *, origin: str) -> Check:
    nmse, nll, top1 = max(f[0] for f in figures), max(f[1] for f in figures), min(f[2] for f in figures)
    good = nmse <= limit.nmse and nll <= limit.nll and top1 >= limit.top1
    bad = nmse > limit.nmse_fail or nll > limit.nll_fail or top1 < limit.top1_fail
    status: Status = "fail" if bad else "pass" if good else "warn"
    return Check(
        id="C8-golden",
        status=status,
        summary=f"{'as' if status == 'pass' else 'unlike'} the stored fingerprint ({origin}): "
        f"logits NMSE {nmse:.1e}, likelihood differs by {nll:.4f}, same best token {100 * top1:.0f} %",
        value=float(f"{nmse:.4g}"),
        threshold=limit.nmse,
        remedy=None if status == "pass" else "file or engine changed: provision verify MODEL, then provision doctor",
    )
