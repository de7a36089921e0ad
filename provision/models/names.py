"""One file name to what it is: role, quant label, place in a split. Parsed once, by anchored rules, in any case."""

from __future__ import annotations

import re
from dataclasses import dataclass

from provision.models.labels import LABEL, canonical
from provision.models.types import Role


@dataclass(frozen=True, slots=True, kw_only=True)
class ParsedName:
    """What a path says. `index` counts from 1, None for a whole file; `count` None means the name does not say."""

    path: str
    role: Role
    quant: str | None = None
    tail: str = ""
    """What follows the label (`mtp` of `x-Q4_K_M-mtp.gguf`): not the plain model of that label, if there is one."""
    stem: str = ""
    """The path without split suffix and extension: equal for all parts of one split."""
    index: int | None = None
    count: int | None = None
    byte_split: bool = False
    """The parts are one file cut anywhere; they must be joined before llama.cpp can read them."""


# No file system takes longer ones, and the rules below take quadratic time on names made to hurt.
_LONGEST_PATH = 1024
_SHARD = re.compile(r"(?P<stem>.+?)(?:-split)?-(?P<index>\d{5})-of-(?P<count>\d{5})\.gguf", re.IGNORECASE)
# TheBloke: .gguf-split-a; mradermacher: .gguf.part1of2; older uploads: .gguf-00001-of-00002 and split(1)'s .gguf.part-aa.
_BYTE_SPLIT = re.compile(
    r"(?P<stem>.+)\.gguf(?:[-.](?:split|part)-?(?P<letters>[a-z]{1,2})"
    r"|\.part-?(?P<part>\d{1,3})of(?P<parts>\d{1,3})"
    r"|[-.](?P<index>\d{5})-of-(?P<count>\d{5}))",
    re.IGNORECASE,
)
_GGUF = re.compile(r"(?P<stem>.+)\.gguf", re.IGNORECASE)

# Leftmost label that reaches the end: `UD-Q4_K_M` keeps its prefix, `x-f16-q8_0` is Q8_0, `x-Q5_K_M-F16-Merged` is nothing.
_QUANT = re.compile(
    rf"(?:.*?[-._])??(?:i1-)?{LABEL}(?P<tail>(?:[-._](?:imat|imatrix|mtp|it|turbo|gguf|big-endian|be))*)",
    re.IGNORECASE | re.VERBOSE,
)
# How the weights were calibrated says nothing about which model it is; the repository's name repeated says nothing at all.
_SILENT_TAILS = {"imat", "imatrix", "gguf", "it"}
_FOREIGN_ENDIAN = re.compile(r".+[-._](?:big-endian|be)", re.IGNORECASE)

_MMPROJ = re.compile(r"(?:.*[-._])?mmproj(?:[-._].*)?", re.IGNORECASE)
_IMATRIX = re.compile(r"imatrix(?:[-._].*)?|.*[-._]imatrix(?:\.(?:dat|gguf|gguf_file))?|.*imat(?:rix)?\.dat", re.IGNORECASE)
_DRAFT = re.compile(r"(?:mtp|dspark|eagle\d*|draft|dflash)[-_].*", re.IGNORECASE)
_FOLDER_ROLES = {
    "mmproj": Role.MMPROJ,
    "vision": Role.MMPROJ,
    "mtp": Role.DRAFT,
    "dspark": Role.DRAFT,
    "eagle": Role.DRAFT,
    "eagle3": Role.DRAFT,
    "draft": Role.DRAFT,
    "drafts": Role.DRAFT,
    "imatrix": Role.IMATRIX,
    "audio": Role.OTHER,
    "tts": Role.OTHER,
}


def parse_name(path: str) -> ParsedName:
    """What a repository's path names. Never fails: what is not understood is `Role.OTHER`, or a model without a label."""
    if len(path) > _LONGEST_PATH:
        return ParsedName(path=path, role=Role.OTHER)
    folder, _, base = path.rpartition("/")
    inside = f"{folder}/" if folder else ""
    match = _SHARD.fullmatch(base)
    if match:
        return _parsed(path, inside, match["stem"], index=int(match["index"]), count=int(match["count"]))
    match = _BYTE_SPLIT.fullmatch(base)
    if match:
        index, count = _byte_part(match)
        return _parsed(path, inside, match["stem"], index=index, count=count, byte_split=True)
    match = _GGUF.fullmatch(base)
    if match:
        return _parsed(path, inside, match["stem"], index=None, count=None)
    return ParsedName(path=path, role=Role.IMATRIX if _IMATRIX.fullmatch(base) else Role.OTHER)


def _parsed(
    path: str, inside: str, base_stem: str, *, index: int | None, count: int | None, byte_split: bool = False
) -> ParsedName:
    quant, tail = _quant_of(base_stem)
    if quant is None:
        quant = _quant_of_folder(inside)
    return ParsedName(
        path=path,
        role=_role_of(inside, base_stem),
        quant=quant,
        tail=tail,
        stem=inside + base_stem,
        index=index,
        count=count,
        byte_split=byte_split,
    )


def _byte_part(match: re.Match[str]) -> tuple[int, int | None]:
    if match["letters"]:
        number = 0
        for letter in match["letters"].lower():
            number = number * 26 + ord(letter) - ord("a")
        return number + 1, None
    return int(match["part"] or match["index"]), int(match["parts"] or match["count"])


def _quant_of(stem: str) -> tuple[str | None, str]:
    match = _QUANT.fullmatch(stem)
    if match is None:
        return None, ""
    words = [word for word in re.split(r"[-._]", match["tail"].lower()) if word and word not in _SILENT_TAILS]
    return canonical(match), "-".join(words)


def _quant_of_folder(inside: str) -> str | None:
    """The label of the innermost folder: `Q4_K_M/` or `<base>-Q4_K_M/`."""
    match = _QUANT.fullmatch(inside.rstrip("/").rpartition("/")[2])
    return canonical(match) if match and not match["tail"] else None


def _role_of(inside: str, stem: str) -> Role:
    if _MMPROJ.fullmatch(stem):
        return Role.MMPROJ
    if _IMATRIX.fullmatch(stem):
        return Role.IMATRIX
    if _DRAFT.fullmatch(stem):
        return Role.DRAFT
    for folder in reversed(inside.lower().split("/")):
        if folder in _FOLDER_ROLES:
            return _FOLDER_ROLES[folder]
    # Weights of the other byte order load nowhere we run.
    return Role.OTHER if _FOREIGN_ENDIAN.fullmatch(stem) else Role.MODEL
