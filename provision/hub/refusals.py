"""A hub's refusal to an error with the right exit code: missing, not for you, or not now. Pure."""

from __future__ import annotations

from provision.errors import AccessError, NotFoundError, ProvisionError, TransferError
from provision.hub.http import Answer
from provision.hub.origins import origin_of
from provision.hub.tokens import token_for, withheld_hint
from provision.models.commands import FetchCommand
from provision.settings import OFFICIAL_ENDPOINT, Settings

# The page where terms are accepted is the Hub's, whichever mirror said no.
_SETTINGS_PAGE = f"{OFFICIAL_ENDPOINT}/settings/tokens"


def refusal(answer: Answer, *, repo_id: str, settings: Settings, revision: str = "", path: str = "") -> ProvisionError:
    """The error for an answer that is neither success nor redirect."""
    origin = origin_of(answer.url)
    code = answer.headers.get("x-error-code", "")
    sent = token_for(answer.url, settings) is not None
    withheld = withheld_hint(answer.url, settings)
    page = f"{OFFICIAL_ENDPOINT}/{repo_id}"
    if code == "GatedRepo":
        whom = " by the owner of this token" if sent else ""
        return AccessError(
            f"{repo_id} is gated: its terms must be accepted{whom} at {page}",
            code="gated-repo",
            hint=withheld or f"export HF_TOKEN=hf_...  # made at {_SETTINGS_PAGE}",
        )
    if code == "RevisionNotFound":
        return NotFoundError(
            f"{repo_id} has no revision {revision!r}", code="revision-not-found", hint=f"see its branches at {page}/tree/main"
        )
    if code == "EntryNotFound":
        return NotFoundError(
            f"{repo_id} has no file {path!r} at {revision or 'main'}",
            code="file-not-found",
            hint=FetchCommand(repo_id=repo_id, revision=None if revision == "main" else revision or None).everything(),
        )
    if code == "RepoNotFound" or (answer.status == 404 and not code):
        private = "" if sent else ", or it is private and needs HF_TOKEN"
        return NotFoundError(
            f"{origin} has no repository {repo_id}{private}",
            code="repo-not-found",
            hint=withheld or f"check the name at {page}",
        )
    if answer.status in (401, 403):
        return _denied(answer, repo_id, sent=sent, hint=withheld or _entry(page, sent=sent))
    if answer.status == 404:
        return NotFoundError(
            f"{origin} does not have {path or repo_id}", code="file-not-found", hint=f"check the name at {page}"
        )
    if answer.status == 429:
        return TransferError(
            f"{origin} limits the rate of requests (HTTP 429)",
            code="rate-limited",
            hint="wait five minutes and run the same command again; a token (HF_TOKEN) has a larger budget",
        )
    return TransferError(
        f"{origin} answered HTTP {answer.status}",
        code="hub-down" if answer.status >= 500 else "not-a-hub",
        hint="run the same command again later, or use another mirror: --endpoint URL",
    )


def _entry(page: str, *, sent: bool) -> str:
    return f"look at {page}" if sent else f"export HF_TOKEN=hf_...  # if {page} exists; made at {_SETTINGS_PAGE}"


def _denied(answer: Answer, repo_id: str, *, sent: bool, hint: str) -> AccessError:
    said = _plain(answer.headers.get("x-error-message", ""))
    origin = origin_of(answer.url)
    if answer.status == 401 and sent:
        return AccessError(
            f"{origin} does not know this token" + (f": {said}" if said else ""),
            code="bad-token",
            hint=f"export HF_TOKEN=hf_...  # a new one, made at {_SETTINGS_PAGE}",
        )
    if "disabled" in said.lower():
        return AccessError(f"{repo_id} has been disabled at {origin}", code="repo-disabled", hint=hint)
    if answer.status == 401:
        # What the Hub says to anybody without a token of what is private and of what is not there alike.
        return AccessError(
            f"{origin} answers 401 for {repo_id}: no such repository, or it is private or gated"
            + (f" ({said})" if said else ""),
            code="access-denied",
            hint=hint,
        )
    return AccessError(f"{origin} denies access to {repo_id}" + (f": {said}" if said else ""), code="access-denied", hint=hint)


def _plain(text: str) -> str:
    """At most a line of printable text: servers are strangers."""
    return "".join(letter for letter in text[:200] if letter.isprintable())
