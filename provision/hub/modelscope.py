"""ModelScope's own API, as its client 1.40.2 uses it: a second place for the same LFS objects, bound by the same sha256.

Tried against the test hub only; nobody here could reach modelscope.cn.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from provision.errors import NotFoundError, TransferError
from provision.events import Reporter
from provision.hub import offline
from provision.hub.addresses import endpoint_of
from provision.hub.http import Asker, HeadersFor, asking
from provision.hub.origins import origin_of
from provision.hub.refusals import refusal
from provision.hub.tokens import modelscope_headers
from provision.hub.types import Listing, listed_path, listed_size
from provision.models.types import RepoFile, RepoRef
from provision.settings import Settings

DEFAULT_ENDPOINT = "https://www.modelscope.cn"
_SHA256 = re.compile(r"[0-9a-f]{64}")
_MAX_FOLDERS = 2000


def default_endpoint(settings: Settings) -> str:
    """`MODELSCOPE_DOMAIN` as ModelScope's own client reads it, else www.modelscope.cn."""
    domain = settings.environ.get("MODELSCOPE_DOMAIN", "").strip().rstrip("/")
    if not domain:
        return DEFAULT_ENDPOINT
    return domain if "://" in domain else f"https://{domain}"


def headers_for(settings: Settings) -> HeadersFor:
    return lambda address: modelscope_headers(address, settings)


def list_repo(
    ref: RepoRef, *, settings: Settings, endpoint: str | None, reporter: Reporter, asker: Asker | None = None
) -> Listing:
    """The files of `ref` at a revision of ModelScope's (default `master`). Raises as `listing.list_repo` does."""
    base = endpoint_of(endpoint or default_endpoint(settings))
    revision = _revision(ref.revision)
    files: dict[str, RepoFile] = {}
    folders, seen = [""], {""}
    with asking(asker, settings, reporter=reporter) as open_asker:
        # A recursive listing is cut at a size nobody documents, so every folder is asked for by itself.
        while folders:
            for entry in _entries(open_asker, base, ref.repo_id, revision, folders.pop(), settings):
                path, kind = listed_path(entry.get("Path")), entry.get("Type")
                if path is None:
                    continue
                if kind == "tree" and path == entry["Path"] and path not in seen and len(seen) < _MAX_FOLDERS:
                    seen.add(path)
                    folders.append(path)
                elif kind == "blob":
                    files[path] = _file(path, entry)
    listed = tuple(files[path] for path in sorted(files))
    return Listing(
        repo_id=ref.repo_id, revision=revision, commit=_content_id(listed), files=listed, endpoint=base, source="modelscope"
    )


def remembered_commit(repo_id: str, revision: str | None, *, settings: Settings) -> Path:
    """Where we remember which content id a revision had. Its snapshot lies in the shared cache, where no ref names it."""
    folder = settings.provision_home / "modelscope" / f"models--{repo_id.replace('/', '--')}"
    return folder.joinpath("refs", *_revision(revision).split("/"))


def cached_listing(ref: RepoRef, *, settings: Settings) -> Listing | None:
    """What the cache has of `ref` from ModelScope; None when nothing was fetched from there."""
    try:
        commit = remembered_commit(ref.repo_id, ref.revision, settings=settings).read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return None
    pinned = replace(ref, revision=commit)
    if not offline.is_cached(pinned, settings=settings):
        return None
    return replace(offline.cached_listing(pinned, settings=settings), revision=_revision(ref.revision), source="modelscope")


def _revision(asked: str | None) -> str:
    return "master" if asked in (None, "main") else str(asked)


def file_url(listing: Listing, file: RepoFile) -> str:
    """Where ModelScope redirects from to the storage of `file`."""
    query = urlencode({"Revision": listing.revision, "FilePath": file.path})
    return f"{listing.endpoint}/api/v1/models/{quote(listing.repo_id)}/repo?{query}"


def _entries(asker: Asker, base: str, repo_id: str, revision: str, folder: str, settings: Settings) -> list[Mapping[str, Any]]:
    query = {"Revision": revision, "Recursive": "False", **({"Root": folder} if folder else {})}
    url = f"{base}/api/v1/models/{quote(repo_id)}/repo/files?{urlencode(query)}"
    answer = asker.ask(url, headers_for=headers_for(settings))
    if answer.status == 404:
        raise NotFoundError(
            f"{origin_of(base)} has no {repo_id}@{revision}, or it is private",
            code="repo-not-found",
            hint=f"check the name at {origin_of(base)}/models/{repo_id}",
        )
    if answer.status != 200:
        raise refusal(answer, repo_id=repo_id, settings=settings, revision=revision)
    said = answer.json()
    data = said.get("Data") if isinstance(said, dict) else None
    found = data.get("Files") if isinstance(data, dict) else None
    if not isinstance(found, list):
        raise TransferError(
            f"{origin_of(base)} sends no list of files for {repo_id}", code="not-a-hub", hint="leave out --source modelscope"
        )
    return [entry for entry in found if isinstance(entry, dict)]


def _file(path: str, entry: Mapping[str, Any]) -> RepoFile:
    sha256 = str(entry.get("Sha256") or "").lower()
    return RepoFile(
        path=path,
        size_bytes=listed_size(entry.get("Size")),
        sha256=sha256 if _SHA256.fullmatch(sha256) else None,
    )


def _content_id(files: tuple[RepoFile, ...]) -> str:
    """40 hex digits that follow from what is listed: ModelScope names branches and tags, no commits."""
    digest = hashlib.sha1(usedforsecurity=False)
    for file in files:
        digest.update(f"{file.path}\0{file.size_bytes}\0{file.sha256}\n".encode())
    return digest.hexdigest()
