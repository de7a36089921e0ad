"""The files of a repository at one commit, from the Hub, a mirror, ModelScope, or the cache on disk."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import parse_qs, quote, urlencode

from provision.errors import NotFoundError, ProvisionError, TransferError
from provision.events import Reporter, silent
from provision.hub import modelscope, offline
from provision.hub.addresses import endpoint_of
from provision.hub.http import Answer, Asker, asking
from provision.hub.origins import origin_of
from provision.hub.refusals import refusal
from provision.hub.tokens import auth_headers
from provision.hub.types import Listing, Source, listed_path, listed_size
from provision.models.refs import check_revision
from provision.models.types import RepoFile, RepoRef
from provision.settings import Settings

_COMMIT = re.compile(r"[0-9a-f]{40}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_NEXT = re.compile(r'<([^>]*)>\s*;[^,]*\brel="?next"?', re.IGNORECASE)
_MAX_PAGES = 1000
# The Hub advises against more than 100,000 files in a repository (huggingface.co/docs/hub/storage-limits).
_MAX_FILES = 200_000


def list_repo(
    ref: RepoRef,
    *,
    settings: Settings,
    endpoint: str | None = None,
    source: Source = "hf",
    reporter: Reporter = silent,
    asker: Asker | None = None,
) -> Listing:
    """Everything in the repository `ref` names, pinned to a commit.

    `endpoint` overrules `HF_ENDPOINT`; the caller's `asker` keeps its connections. Offline, the cache on disk answers.
    Raises NotFoundError (repository, revision), AccessError (gated, private, wrong token) or TransferError (unreachable, busy,
    not a hub).
    """
    check_revision(ref.revision)
    if settings.offline:
        # Whoever fetched from ModelScope alone finds it again without saying so, but what is known of the Hub goes first.
        known = None
        if source == "modelscope" or not offline.is_cached(ref, settings=settings):
            known = modelscope.cached_listing(ref, settings=settings)
        return known or offline.cached_listing(ref, settings=settings)
    if source == "modelscope":
        return modelscope.list_repo(ref, settings=settings, endpoint=endpoint, reporter=reporter, asker=asker)
    base = endpoint_of(endpoint or settings.endpoint)
    with asking(asker, settings, reporter=reporter) as open_asker:
        try:
            return _HubListing(open_asker, base, ref.repo_id, settings).at(ref.revision or "main")
        except TransferError as error:
            if error.code == "hub-unreachable" and offline.is_cached(ref, settings=settings):
                error.hint = (
                    f"a copy is on disk; use it with HF_HUB_OFFLINE=1, or name a mirror with --endpoint URL ({error.hint})"
                )
            raise


def commit_of(listing: Listing, revision: str, *, settings: Settings, asker: Asker) -> str:
    """What another revision of the repository of `listing` means now. One request; raises as `list_repo` does."""
    return _HubListing(asker, listing.endpoint, listing.repo_id, settings).commit_of(revision)


class _HubListing:
    def __init__(self, asker: Asker, base: str, repo_id: str, settings: Settings) -> None:
        self._asker = asker
        self._base = base
        self._repo_id = repo_id
        self._settings = settings
        self._api = f"{base}/api/models/{quote(repo_id)}"

    def at(self, revision: str) -> Listing:
        commit = revision if _COMMIT.fullmatch(revision) else self.commit_of(revision)
        try:
            files = tuple(self._tree(commit, revision))
        except NotFoundError as error:
            if error.code != "repo-not-found":
                raise
            # Some mirrors know a repository's info and not its tree.
            files = self._siblings(commit, revision, error)
        return Listing(repo_id=self._repo_id, revision=revision, commit=commit, files=files, endpoint=self._base, source="hf")

    def commit_of(self, revision: str) -> str:
        said = self._ask(f"{self._api}/revision/{quote(revision, safe='')}", revision).json()
        commit = str(said.get("sha", "")).lower() if isinstance(said, dict) else ""
        if not _COMMIT.fullmatch(commit):
            raise self._nonsense("names no commit")
        return commit

    def _tree(self, commit: str, revision: str) -> Iterator[RepoFile]:
        seen: set[str] = set()
        listed = 0
        query = {"recursive": "true", "expand": "false"}
        for _ in range(_MAX_PAGES):
            answer = self._ask(f"{self._api}/tree/{commit}?{urlencode(query)}", revision)
            entries = answer.json()
            if not isinstance(entries, list):
                raise self._nonsense("sends a tree that is no list")
            listed += len(entries)
            if listed > _MAX_FILES:
                raise self._nonsense(f"lists more than {_MAX_FILES} files")
            for entry in entries:
                if isinstance(entry, dict) and entry.get("type") == "file":
                    yield self._file(entry)
            cursor = _next_cursor(answer.headers)
            if cursor is None:
                return
            if cursor in seen:
                raise self._nonsense("sends the same page of its tree again and again")
            seen.add(cursor)
            # Only the cursor is taken from the link: mirrors pass on links to the Hub itself, and we stay with the mirror.
            query["cursor"] = cursor
        raise self._nonsense(f"sends more than {_MAX_PAGES} pages of its tree")

    def _siblings(self, commit: str, revision: str, error: ProvisionError) -> tuple[RepoFile, ...]:
        said = self._ask(f"{self._api}/revision/{commit}?blobs=true", revision).json()
        siblings = said.get("siblings") if isinstance(said, dict) else None
        if not isinstance(siblings, list):
            raise error
        files = []
        for sibling in siblings:
            if isinstance(sibling, dict):
                lfs = sibling.get("lfs")
                said_lfs = {"oid": lfs.get("sha256"), "size": lfs.get("size")} if isinstance(lfs, dict) else None
                entry = {
                    "path": sibling.get("rfilename"),
                    "size": sibling.get("size"),
                    "oid": sibling.get("blobId"),
                    "lfs": said_lfs,
                }
                files.append(self._file(entry))
        return tuple(files)

    def _ask(self, url: str, revision: str) -> Answer:
        answer = self._asker.ask(url, headers_for=lambda address: auth_headers(address, self._settings))
        if answer.status != 200:
            raise refusal(answer, repo_id=self._repo_id, settings=self._settings, revision=revision)
        return answer

    def _file(self, entry: Mapping[str, Any]) -> RepoFile:
        path, lfs = listed_path(entry.get("path")), entry.get("lfs")
        if path is None:
            raise self._nonsense("lists a file without a name")
        linked = lfs if isinstance(lfs, dict) else {}
        xet = entry.get("xetHash")
        return RepoFile(
            path=path,
            size_bytes=listed_size(linked.get("size", entry.get("size"))),
            sha256=_hex(linked.get("oid"), _SHA256),
            git_sha1=None if linked else _hex(entry.get("oid"), _COMMIT),
            git_oid=_hex(entry.get("oid"), _COMMIT),
            xet_hash=xet if isinstance(xet, str) else None,
        )

    def _nonsense(self, what: str) -> TransferError:
        return TransferError(
            f"{origin_of(self._base)} {what} ({self._repo_id})", code="not-a-hub", hint="use another mirror: --endpoint URL"
        )


def _hex(value: object, form: re.Pattern[str]) -> str | None:
    return value.lower() if isinstance(value, str) and form.fullmatch(value.lower()) else None


def _next_cursor(headers: Mapping[str, str]) -> str | None:
    match = _NEXT.search(headers.get("link", ""))
    if match is None:
        return None
    values = parse_qs(match.group(1).partition("?")[2].partition("#")[0]).get("cursor")
    return values[0] if values else None
