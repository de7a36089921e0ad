"""How much a quant loses, with its evidence: measured for this very file, or read off another model's curve and called that.

Never an invented penalty: every number comes from provision/data/quant-quality.json, which names source and date.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from itertools import pairwise
from typing import Any

from provision.models.labels import without_prefix

_CURVE_MODEL = "Llama-3-8B"
# Block formats that lose more than the curve of their size; these are looked up by name.
_LEGACY = frozenset({"Q4_0", "Q4_1", "Q5_0", "Q5_1"})
# Weights that were trained in this format lose nothing by being stored in it; how they compare is not known here.
_NATIVE = ("MXFP4", "NVFP4")


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """Mean KLD in nats, where it was measured, and whether that was another model (`fallback`)."""

    mean_kld: float
    source: str
    fallback: bool


def judge_quality(
    *, quant: str | None, model: str, uploader: str, bits_per_weight: float | None, imatrix: bool | None
) -> Quality | None:
    """The best evidence there is for a file; None when there is none.

    `model`, `uploader`: names as in a repository; `imatrix`: what the header says, None when it is not known.
    """
    measured = _measured(quant, model, uploader)
    if measured is not None:
        return measured
    label = (without_prefix(quant) or quant) if quant else None
    if label is not None and label.startswith(_NATIVE):
        return None
    if label in _LEGACY:
        return _by_label(label)
    return _by_curve(bits_per_weight, imatrix) if bits_per_weight else None


def _measured(quant: str | None, model: str, uploader: str) -> Quality | None:
    wanted = _plain(model)
    for row in _table()["files"]:
        if row["quant"] == quant and row["uploader"] == uploader.lower() and _plain(row["model"]) in wanted:
            return Quality(mean_kld=row["mean_kld"], source=f"measured for this file: {_name(row['source'])}", fallback=False)
    return None


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _by_label(label: str | None) -> Quality | None:
    for row in _table()["rows"]:
        if row["model"] == _CURVE_MODEL and row["quant"] == label:
            return Quality(
                mean_kld=row["mean_kld"], source=f"fallback: {_CURVE_MODEL} {label}, {_name(row['source'])}", fallback=True
            )
    return None


def _by_curve(bits: float, imatrix: bool | None) -> Quality:
    points = _curve(bool(imatrix))
    kind = "with imatrix" if imatrix else "without imatrix"
    return Quality(
        mean_kld=round(_interpolated(points, bits), 6),
        source=f"fallback: {_CURVE_MODEL} curve {kind} at {bits:.2f} bits per weight, {_name('lcpp-ppl')}",
        fallback=True,
    )


def _interpolated(points: Sequence[tuple[float, float]], bits: float) -> float:
    """Straight lines between logarithms; constant beyond both ends, where nothing was measured."""
    if bits <= points[0][0]:
        return points[0][1]
    for (left, upper), (right, lower) in pairwise(points):
        if bits <= right:
            share = (bits - left) / (right - left)
            return math.exp(math.log(upper) + share * (math.log(lower) - math.log(upper)))
    return points[-1][1]


@cache
def _curve(imatrix: bool) -> tuple[tuple[float, float], ...]:
    """(bits per weight, KLD), falling. Without imatrix the rows with one fill in only below what was measured without."""
    rows = [
        row
        for row in _table()["rows"]
        if row["model"] == _CURVE_MODEL and row["quant"] not in _LEGACY and row["bits_per_weight"] is not None
    ]
    plain = [row for row in rows if row["imatrix"] is not True]
    lowest = min(row["bits_per_weight"] for row in plain)
    if imatrix:
        used = [row for row in rows if row["imatrix"] is not False or row["bits_per_weight"] > 5]
    else:
        used = plain + [row for row in rows if row["imatrix"] is True and row["bits_per_weight"] < lowest]
    points: list[tuple[float, float]] = []
    for row in sorted(used, key=lambda row: (-row["bits_per_weight"], row["mean_kld"])):
        # More bits never lose more on a curve; a row above it is a format off the curve.
        if not points or (row["bits_per_weight"] < points[-1][0] and row["mean_kld"] > points[-1][1]):
            points.append((row["bits_per_weight"], row["mean_kld"]))
    return tuple(reversed(points))


def _name(source: str) -> str:
    entry = _table()["sources"][source]
    revision = f" {entry['revision']}" if entry["revision"] else ""
    return f"{entry['name']}{revision} ({entry['date']})"


@cache
def _table() -> Mapping[str, Any]:
    text = files("provision.data").joinpath("quant-quality.json").read_text(encoding="utf-8")
    table: Mapping[str, Any] = json.loads(text)
    return table
