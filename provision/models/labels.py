"""Quant labels: one grammar, anchored at the end of a name, so that BF16 never matches F16 and Q4_K never matches Q4_K_M.

Sources: llama.cpp `tools/quantize/quantize.cpp` (b9964) for the plain labels, `GGUF_QUANT_RE` of @huggingface/gguf for the UD-
prefix, and names seen in public repositories (tests/data/gguf-listings.json) for the rest.
"""

from __future__ import annotations

import re

_PLAIN = r"""
    (?:BF16|F16|F32|F64|FP16|FP32)
  | (?:TQ[12]_0)
  | (?:MXFP[468](?:_MOE)?|NVFP4)
  | (?:IQ[1-4]_(?:XXS|XS|S|M|L|XL|NL))
  | (?:P?Q[1-8]_[01](?:_(?:4_4|4_8|8_8|G\d{2,3}|S|M|L|XL))?)
  | (?:Q[2-8]_K(?:_(?:XXS|XS|S|M|L|XL|XXL|P))?)
  | (?:Q[2-8])
"""
# UD: Unsloth Dynamic. AD: the same idea by AtomicChat.
_PREFIX = r"(?:UD|AD)-"
# mudler's APEX mixes are published under tier names instead of a quant.
_APEX = r"APEX(?:-MTP)?(?:-(?P<imatrix>I))?(?:-(?P<tier>Quality|Balanced|Compact|Mini|Nano))?"

LABEL = rf"(?:(?P<prefix>{_PREFIX})?(?P<plain>{_PLAIN})|(?P<apex>{_APEX}))"
_WHOLE = re.compile(LABEL, re.IGNORECASE | re.VERBOSE)
_ALIASES = {"FP16": "F16", "FP32": "F32"}
_HAS_PREFIX = re.compile(_PREFIX, re.IGNORECASE)


def parse_label(text: str) -> str | None:
    """The canonical form of a quant label in any case (`ud-q4_k_xl` is `UD-Q4_K_XL`, `fp16` is `F16`), or None."""
    match = _WHOLE.fullmatch(text)
    return canonical(match) if match else None


def canonical(match: re.Match[str]) -> str:
    """The label of a match of `LABEL` as llama.cpp and the publishers write it."""
    if match.group("apex"):
        tier = match.group("tier")
        words = ["APEX", "I" if match.group("imatrix") else "", tier.capitalize() if tier else ""]
        return "-".join(word for word in words if word)
    plain = match.group("plain").upper().replace("_G", "_g")
    return (match.group("prefix") or "").upper() + _ALIASES.get(plain, plain)


def without_prefix(label: str) -> str | None:
    """`Q4_K_M` of `UD-Q4_K_M`; None when the label has no prefix."""
    match = _HAS_PREFIX.match(label)
    return label[match.end() :] if match else None
