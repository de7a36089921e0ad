"""`org/name[:QUANT|:FILE][@revision]` as a person writes it, strictly: what is not one is refused with the right form.

FILE is a name that ends in `.gguf`, or a pattern with `*`, `?` or `[`. A pattern may follow a slash as well; a plain name may
not, because `models/llama/x.gguf` is a path.
"""

from __future__ import annotations

import re
import shlex

from provision.errors import UsageError
from provision.models.types import RepoRef

# huggingface_hub 2.4.0 utils/_validators.py: word characters, `-`, `.`, at most 96, no `--`, no `..`, no separator at an end.
_PART = r"(?!.{97})[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?"
_FILE = r"[^@:\s/\\][^@:\\]*"
_IS_FILE = r"(?=[^@]*[*?\[]|:[^@]*\.[gG][gG][uU][fF](?:@|$))[:/]"
_REF = re.compile(
    rf"(?P<org>{_PART})/(?P<name>{_PART})(?:{_IS_FILE}(?P<file>{_FILE})|:(?P<quant>[A-Za-z0-9][A-Za-z0-9_.-]*))?"
    r"(?:@(?P<revision>[^@:]+))?"
)
_REVISION = re.compile(r"(?!.{257})[A-Za-z0-9_][A-Za-z0-9_.+-]*(?:/[A-Za-z0-9_.+-]+)*")
_HOSTS = re.compile(r"(?:https?://)?(?:www\.)?(?:huggingface\.co|hf\.co|hf-mirror\.com)/")
_FILE_PAGE = re.compile(r"(?P<repo>[^/]+/[^/]+)/(?:blob|resolve|tree)/(?P<revision>[^/]+)(?:/(?P<path>[^?#]+))?.*")

_ELSEWHERE = re.compile(
    r"(?:ms://|https?://(?:www\.)?(?P<modelscope>modelscope\.(?:cn|ai))/models/|(?P<endpoint>https?://[^/@\s]+)/)"
    r"(?P<repo>[^/@:?#\s]+/[^/@:?#\s]+)(?P<quant>:[A-Za-z0-9_.-]+)?(?:[/?#].*)?"
)


def is_ref(text: str) -> bool:
    """Whether `text` has the form of a reference, and so is no path of a GGUF file."""
    match = _REF.fullmatch(text)
    return match is not None and (match["file"] is not None or not match["name"].lower().endswith(".gguf"))


def parse_ref(text: str) -> RepoRef:
    """The repository named by `text`. Raises UsageError (`bad-ref`) with the right form in the hint."""
    rest = _HOSTS.sub("", text.strip(), count=1)
    page = _FILE_PAGE.fullmatch(rest)
    if page and _REF.fullmatch(page["repo"]):
        revision = "" if page["revision"] == "main" else f"@{page['revision']}"
        wish = f" --file {shlex.quote(page['path'])}" if page["path"] else ""
        raise UsageError(
            f"that is the address of a page inside a repository: {text!r}",
            code="bad-ref",
            hint=f"provision fetch {page['repo']}{revision}{wish}",
        )
    elsewhere = _ELSEWHERE.fullmatch(rest)
    if elsewhere and _REF.fullmatch(elsewhere["repo"]):
        at = f"--endpoint {elsewhere['endpoint']}" if elsewhere["endpoint"] else "--source modelscope"
        raise UsageError(
            f"where to fetch from is an option, not a part of the name: {text!r}",
            code="bad-ref",
            hint=f"provision fetch {elsewhere['repo']}{elsewhere['quant'] or ''} {at}",
        )
    match = _REF.fullmatch(rest)
    if match is None or _doubled(match["org"]) or _doubled(match["name"]) or ".." in (match["file"] or "").split("/"):
        raise UsageError(
            f"not a repository: {text!r}",
            code="bad-ref",
            hint="write org/repo, org/repo:QUANT, 'org/repo:*PATTERN*.gguf', and @revision after any of them",
        )
    return RepoRef(
        org=match["org"],
        name=match["name"],
        quant=match["quant"],
        file=match["file"],
        revision=check_revision(match["revision"]),
    )


def check_revision(revision: str | None) -> str | None:
    """A branch, tag, `refs/pr/N` or commit, safe in a URL and as a path below `refs/`. Raises UsageError (`bad-revision`)."""
    if revision is None:
        return None
    if not _REVISION.fullmatch(revision) or ".." in revision or any(part in (".", "") for part in revision.split("/")):
        raise UsageError(
            f"not a revision: {revision!r}", code="bad-revision", hint="write a branch, a tag or a 40-digit commit"
        )
    return revision


def _doubled(part: str) -> bool:
    # `--` parts the words of a cache folder's name (models--org--name); `..` climbs.
    return "--" in part or ".." in part
