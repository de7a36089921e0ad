"""`fetch`: list and pin, choose, plan, download. The entry point of this room."""

from __future__ import annotations

import contextlib
import shlex
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial as bind
from pathlib import Path
from urllib.parse import urlsplit

from provision.errors import MachineError, NotFoundError, ProvisionError, TransferError, UsageError
from provision.events import Note, Reporter, silent
from provision.fetch import growth
from provision.fetch.adopt import DAMAGED
from provision.fetch.at_rest import keep, look
from provision.fetch.choose import choose, command_of
from provision.fetch.disk import free_bytes, require_place, require_space
from provision.fetch.download import download
from provision.fetch.fill import Means
from provision.fetch.journal import Identity, Replay, bytes_of, replay
from provision.fetch.layout import cache_home, check_names, local_home, ref_file, repo_folder
from provision.fetch.limit import RateLimit
from provision.fetch.origins import Origin, remember_origin, remembered_listing
from provision.fetch.partial import read_boot_id
from provision.fetch.pieces import piece_size_for
from provision.fetch.placed import note_placed
from provision.fetch.references import write_references
from provision.fetch.several import fetch_all, one_at_a_time
from provision.fetch.sources import Offer
from provision.fetch.store import Attested, write_text
from provision.fetch.types import (
    MAX_CONNECTIONS,
    FetchedFile,
    FetchPlan,
    FetchResult,
    FetchWish,
    FileHome,
    PlanAction,
    PlannedFile,
)
from provision.fetch.wire import Dialer, origin_of
from provision.hub.addresses import endpoint_of
from provision.hub.http import Asker
from provision.hub.listing import list_repo
from provision.hub.offline import tree_text
from provision.hub.resolve import resolve
from provision.hub.types import Listing, Resolved
from provision.hub.types import Source as Kind
from provision.models.types import RepoFile, RepoRef
from provision.settings import Settings

# The Hub refuses larger files in git itself (huggingface.co/docs/hub/repositories-getting-started).
_LARGEST_IN_GIT_BYTES = 10_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class _Prepared:
    plan: FetchPlan
    listings: tuple[Listing, ...]


def plan_fetch(ref: RepoRef, wish: FetchWish, *, settings: Settings, reporter: Reporter = silent) -> FetchPlan:
    """What `fetch` would do. Asks the servers for names, sizes and hashes; changes nothing."""
    with Asker(settings, reporter=reporter) as asker:
        return _prepare(ref, wish, settings, reporter, asker).plan


def fetch(ref: RepoRef, wish: FetchWish, *, settings: Settings, reporter: Reporter = silent) -> FetchResult:
    """Bring the wished files here, verified. Raises NotFoundError, AccessError, MachineError, TransferError, IntegrityError.

    A failed or interrupted run keeps what arrived, and the same call resumes.
    """
    started = time.monotonic()
    reporter = one_at_a_time(reporter)
    # One for all questions: listing and resolving share connections, and TLS is set up once.
    with Asker(settings, reporter=reporter) as asker:
        prepared = _prepare(ref, wish, settings, reporter, asker)
        plan = prepared.plan
        offline = wish.offline or settings.offline
        if offline:
            absent = [file.file.path for file in plan.files if file.action in ("download", "resume")]
            if absent:
                raise NotFoundError(
                    f"offline, and not in the cache: {', '.join(absent)}",
                    code="not-cached",
                    hint=_online(ref, wish, absent, settings),
                )
        else:
            # A repair happens in the place the file has; when that is not enough, download() says so.
            needed = sum(file.missing_bytes for file in plan.files if file.action != "repair")
            require_space(wish.local_dir or settings.hf_hub_cache, needed)
        done = _download_all(ref, prepared, wish, settings, reporter, asker)
        if wish.local_dir is None and not offline:
            try:
                write_references(plan, prepared.listings[0], settings=settings, asker=asker)
            except MachineError as error:
                # Where nobody may write, what is there still serves; only its name is not remembered for offline use.
                if any(file.action != "kept" for file in done):
                    raise
                reporter(Note(level="info", message=f"{plan.revision} is not remembered for offline use: {error.message}"))
            _write_tree(prepared.listings[0], settings)
    return FetchResult(
        repo_id=plan.repo_id,
        revision=plan.revision,
        commit=plan.commit,
        files=done,
        elapsed_s=time.monotonic() - started,
    )


def _download_all(
    ref: RepoRef, prepared: _Prepared, wish: FetchWish, settings: Settings, reporter: Reporter, asker: Asker
) -> tuple[FetchedFile, ...]:
    means = Means(
        dialer=Dialer(settings.environ),
        attested=Attested(settings.provision_home / "verified"),
        reporter=reporter,
        connections=wish.connections,
        patience_s=wish.patience_s,
        stall_s=wish.stall_s,
        limit=RateLimit(wish.limit_bytes_per_s) if wish.limit_bytes_per_s else None,
    )

    def fetch_one(planned: PlannedFile) -> FetchedFile:
        if wish.offline or settings.offline:
            return keep(planned, means, online=_online(ref, wish, [planned.file.path], settings))
        offers = _offers(planned.file, prepared.listings, settings, asker)
        trusted = [offer for offer in offers if offer.origin not in means.distrusted]
        fetched = download(planned, trusted or offers, means)
        if wish.local_dir is None and fetched.sha256 is not None and fetched.action != "kept":
            note_placed(settings, sha256=fetched.sha256, path=planned.home.final)
        if wish.local_dir is not None:
            first = prepared.listings[0]
            remember_origin(
                Origin(
                    folder=wish.local_dir,
                    repo_id=first.repo_id,
                    revision=first.revision,
                    commit=first.commit,
                    source=first.source,
                    file=planned.file,
                )
            )
        return fetched

    return fetch_all(prepared.plan.files, fetch_one, together=wish.connections or growth.FIRST, cancel=means.cancel)


def _prepare(ref: RepoRef, wish: FetchWish, settings: Settings, reporter: Reporter, asker: Asker) -> _Prepared:
    _check(wish)
    if wish.offline:
        settings = replace(settings, offline=True)
    if wish.revision:
        ref = replace(ref, revision=wish.revision)
    listings = _listings(ref, wish, settings, reporter, asker)
    first = listings[0]
    chosen = choose(first.files, ref=ref, wish=wish)
    check_names(chosen)
    if wish.local_dir is None and first.source == "hf" and not first.offline:
        _require_ref(first, ref, wish, settings)
    files = tuple(_planned(first, file, wish, settings, asker) for file in chosen)
    root = wish.local_dir or settings.hf_hub_cache
    plan = FetchPlan(
        repo_id=first.repo_id,
        revision=first.revision,
        commit=first.commit,
        files=files,
        sources=_labels(listings),
        free_bytes=free_bytes(root),
    )
    return _Prepared(plan=plan, listings=listings)


def _require_ref(listing: Listing, ref: RepoRef, wish: FetchWish, settings: Settings) -> None:
    """What the cache could not remember in the end is refused in the beginning, with the commit that does instead."""
    try:
        ref_file(settings.hf_hub_cache, listing.repo_id, listing.revision)
    except UsageError as error:
        pinned = replace(wish, revision=listing.commit)
        error.hint = command_of(ref, pinned).of(
            wish.quant or ref.quant or ref.file, *(x for name in wish.names for x in ("--file", name))
        )
        raise


def _check(wish: FetchWish) -> None:
    if wish.connections is not None and not 1 <= wish.connections <= MAX_CONNECTIONS:
        raise UsageError(
            f"--connections {wish.connections} is not between 1 and {MAX_CONNECTIONS}",
            code="bad-option",
            hint=f"leave it out for {growth.FIRST}, and up to {growth.MOST} where that helps",
        )
    for endpoint in wish.endpoints:
        endpoint_of(endpoint)
    unknown = [source for source in wish.sources if source not in ("hf", "modelscope")]
    if unknown:
        raise UsageError(
            f"--source {unknown[0]!r} is neither hf nor modelscope",
            code="bad-option",
            hint="--source modelscope; leave it out for hf",
        )


def _listings(ref: RepoRef, wish: FetchWish, settings: Settings, reporter: Reporter, asker: Asker) -> tuple[Listing, ...]:
    """The first that answers pins commit and hashes. Further ones only say where the same bytes also are; they may fail."""
    if settings.offline and wish.local_dir is not None:
        return (_offline_listing(ref, wish.local_dir, wish, settings),)
    wanted: list[tuple[Kind, str | None]] = []
    for name in wish.sources or ("hf",):
        source: Kind = "modelscope" if name == "modelscope" else "hf"
        endpoints = dict.fromkeys(endpoint_of(endpoint) for endpoint in wish.endpoints)
        wanted += [(source, endpoint) for endpoint in endpoints or (None,)] if source == "hf" else [(source, None)]
    wanted = list(dict.fromkeys(wanted))
    while True:
        source, endpoint = wanted.pop(0)
        try:
            first = list_repo(ref, settings=settings, endpoint=endpoint, source=source, reporter=reporter, asker=asker)
            break
        except TransferError as error:
            if not wanted:
                raise
            reporter(Note(level="warning", message=f"the next one lists instead: {error.message}"))
    listings = [first]
    if first.offline:
        return (first,)
    for source, endpoint in wanted:
        if source == "hf" and first.source == "hf" and endpoint:
            # Same repository, same commit: what it must deliver is known, so nothing needs to be listed there.
            listings.append(replace(first, endpoint=endpoint))
            continue
        try:
            listings.append(list_repo(ref, settings=settings, endpoint=endpoint, source=source, reporter=reporter, asker=asker))
        except ProvisionError as error:
            reporter(Note(level="warning", message=f"source left out: {error.message}"))
    return tuple(listings)


def _offline_listing(ref: RepoRef, folder: Path, wish: FetchWish, settings: Settings) -> Listing:
    """What a plain folder remembers of itself, and what the cache has of the same commit."""
    source: Kind = "modelscope" if wish.sources[:1] == ("modelscope",) else "hf"
    remembered = bind(remembered_listing, folder, ref, endpoint=settings.endpoint)
    try:
        cached = list_repo(ref, settings=settings, source=source)
    except NotFoundError:
        here = remembered(prefer=None)
        if here is None:
            raise
        return here
    here = remembered(prefer=cached.commit)
    if here is None or here.commit != cached.commit:
        return here or cached
    known = {file.path for file in here.files}
    return replace(here, files=(*here.files, *(file for file in cached.files if file.path not in known)))


def _planned(listing: Listing, file: RepoFile, wish: FetchWish, settings: Settings, asker: Asker) -> PlannedFile:
    if not listing.offline and (file.size_bytes is None or _lacks_its_hash(file)):
        resolved = resolve(listing, file, settings=settings, asker=asker)
        file = replace(
            file,
            size_bytes=resolved.size_bytes,
            sha256=file.sha256 or resolved.sha256,
            git_sha1=None if resolved.sha256 else file.git_sha1 or resolved.git_sha1,
        )
    size_bytes = file.size_bytes or 0
    if wish.local_dir is not None:
        home = local_home(wish.local_dir, file)
    else:
        home = cache_home(settings.hf_hub_cache, listing.repo_id, listing.commit, file)
    require_place(home.final)
    require_place(home.local_path)
    found = look(home)
    action, missing = _action(home, found[0] if found else None, size_bytes, settings)
    twin = _twin(settings, listing.repo_id, home, size_bytes) if wish.local_dir is not None else None
    if twin is not None and action not in ("keep", "check"):
        action, missing = "copy", 0
    return PlannedFile(file=file, home=home, size_bytes=size_bytes, action=action, missing_bytes=missing, twin=twin)


def _twin(settings: Settings, repo_id: str, home: FileHome, size_bytes: int) -> Path | None:
    blob = repo_folder(settings.hf_hub_cache, repo_id) / "blobs" / home.digest
    with contextlib.suppress(OSError):
        if blob.is_file() and blob.stat().st_size == size_bytes:
            return blob
    return None


def _action(home: FileHome, here_bytes: int | None, size_bytes: int, settings: Settings) -> tuple[PlanAction, int]:
    """What to do with a file of which so many bytes have the final name, and the most that has to be fetched for it."""
    if here_bytes == size_bytes:
        # Planning hashes nothing.
        verified = Attested(settings.provision_home / "verified").knows(home.final, home.digest)
        return "keep" if verified else "check", 0
    if here_bytes is not None:
        return "repair", size_bytes
    identity = Identity(digest=home.digest, size_bytes=size_bytes, piece_bytes=piece_size_for(size_bytes))
    known = _journalled(home.journal, home.partial, identity)
    if known is None or not known.trusted_bytes(identity):
        return "download", size_bytes
    doubted = [index for index, sources in known.sources_of.items() if DAMAGED in sources]
    missing = size_bytes - known.trusted_bytes(identity) + bytes_of(doubted, {}, identity)
    return "repair" if doubted else "resume", missing


def _online(ref: RepoRef, wish: FetchWish, names: Sequence[str], settings: Settings) -> str:
    """The command that fetches these files with a network."""
    again = command_of(ref, wish).of(None, *(word for name in names for word in ("--file", name)))
    # What is set in the environment must not keep the command from working.
    return ("HF_HUB_OFFLINE=0 " if settings.offline else "") + again


def _lacks_its_hash(file: RepoFile) -> bool:
    """A model without sha256: the listing left out LFS, and the git hash it gives may be that of the pointer."""
    return file.sha256 is None and (file.path.lower().endswith(".gguf") or (file.size_bytes or 0) > _LARGEST_IN_GIT_BYTES)


def _journalled(journal: Path, partial: Path, identity: Identity) -> Replay | None:
    """What an earlier run left beside the final name; None for nothing."""
    try:
        return replay(journal.read_bytes(), identity, boot_id=read_boot_id()) if partial.exists() else None
    except OSError:
        return None


def _offers(file: RepoFile, listings: Sequence[Listing], settings: Settings, asker: Asker) -> list[Offer]:
    """Every place that has this very file: by path on Hub-compatible servers, by hash elsewhere."""
    offers: list[Offer] = []
    for listing, label in zip(listings, _labels(listings), strict=True):
        same = file if listing.source == listings[0].source else _by_hash(listing, file)
        if same is not None:
            ask: Callable[[], Resolved] = bind(_resolved, listing, same, settings, asker)
            offers.append(Offer(origin=label, resolve=ask))
    return offers


def _labels(listings: Sequence[Listing]) -> tuple[str, ...]:
    """What each source is called: its origin, and the path too where several mirrors share one server."""
    origins = [origin_of(listing.endpoint) for listing in listings]
    return tuple(
        origin if origins.count(origin) == 1 else origin + urlsplit(listing.endpoint).path
        for origin, listing in zip(origins, listings, strict=True)
    )


def _by_hash(listing: Listing, file: RepoFile) -> RepoFile | None:
    if not file.sha256:
        return None
    return next((one for one in listing.files if (one.sha256 or "").lower() == file.sha256.lower()), None)


def _resolved(listing: Listing, file: RepoFile, settings: Settings, asker: Asker) -> Resolved:
    resolved = resolve(listing, file, settings=settings, asker=asker)
    if resolved.xet_only:
        command = ["hf", "download", listing.repo_id, file.path, "--revision", listing.commit]
        raise TransferError(
            f"{origin_of(listing.endpoint)} offers {file.path} through Xet storage only, which provision does not speak",
            code="xet-only",
            # Into the same cache, unverified; hence the second command.
            hint=f"{shlex.join(command)} && provision verify {listing.repo_id}",
        )
    return resolved


def _write_tree(listing: Listing, settings: Settings) -> None:
    """What the commit holds, so that offline huggingface_hub 2.x and `provision verify` know what belongs there."""
    text = tree_text(listing.files) if listing.source == "hf" else None
    place = repo_folder(settings.hf_hub_cache, listing.repo_id) / "trees" / f"{listing.commit}.json"
    # Only an addition: the files are here and named, so a full disk is no reason to fail now.
    with contextlib.suppress(OSError):
        if text is not None and not place.exists():
            write_text(place, text)
