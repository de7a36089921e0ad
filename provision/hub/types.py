"""What servers of models say, as frozen data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from provision.models.types import RepoFile
from provision.units import MAX_BYTES

Source = Literal["hf", "modelscope"]


def listed_size(said: object) -> int | None:
    """A size as a server lists it; None for what no file can have."""
    return said if isinstance(said, int) and not isinstance(said, bool) and 0 <= said <= MAX_BYTES else None


def listed_path(said: object) -> str | None:
    """A path as a server lists it; None for none. Lone surrogates, which no request, file or terminal can carry, are spelt
    out as `\\udcff`: whoever chooses such a file is told that its name is not safe to write."""
    return said.encode("utf-8", "backslashreplace").decode() if isinstance(said, str) and said else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """The files of a repository at one commit."""

    repo_id: str
    revision: str
    """As asked for: a branch, a tag or a commit."""
    commit: str
    """40 hex digits. Of ModelScope, whose revisions are its own, never mix it with one of the Hub."""
    files: tuple[RepoFile, ...]
    endpoint: str
    """The origin that was asked, without a trailing slash."""
    source: Source = "hf"
    offline: bool = False
    """True when it was read from the local cache: sizes and hashes are what the cache knows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolved:
    """Where the bytes of one file are right now, and what they must be."""

    url: str
    """The final address: ranges are asked here, without the Hub. It may be signed: never print or store it, see `origin`."""
    size_bytes: int
    sha256: str | None
    """As promised by the listing, else by this server; None for small files kept in git."""
    git_sha1: str | None = None
    commit: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    """To send with every request for `url`; an Authorization only when `url` is on the origin the token belongs to."""
    expires_at: float | None = None
    """Seconds since the epoch after which a signed `url` is refused; None when it does not say."""
    accepts_ranges: bool | None = None
    """What `Accept-Ranges` said; None when it said nothing."""
    xet_only: bool = False
    """The server names a Xet hash and no plain address."""
    said: tuple[str, ...] = ()
    """Which of the Hub's own headers (lower case) came with the answers on the way to `url`."""
    head_refused: bool = False
    """HEAD was refused on the way, and GET of one byte was not."""

    @property
    def origin(self) -> str:
        """Scheme, host and port of `url`: safe to show."""
        from urllib.parse import urlsplit

        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"

    def __repr__(self) -> str:
        # Signed queries are secrets for as long as they live, and headers may hold a token.
        return f"Resolved(origin={self.origin!r}, size_bytes={self.size_bytes}, sha256={self.sha256!r})"
