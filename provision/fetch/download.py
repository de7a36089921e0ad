"""One file, from its plan to its final name: reuse what is here, else resume, fill and name it."""

from __future__ import annotations

from provision.events import Note, Progress, ProgressEnded
from provision.fetch.disk import disk_errors, require_space
from provision.fetch.fill import Filling, Means
from provision.fetch.follower import hash_file
from provision.fetch.journal import Identity
from provision.fetch.partial import PartialFile, read_boot_id
from provision.fetch.pieces import piece_size_for
from provision.fetch.sources import Offer, Source
from provision.fetch.store import locked, point
from provision.fetch.types import Action, FetchedFile, PlannedFile

_REPORT_EVERY_BYTES = 64 << 20


def download(planned: PlannedFile, offers: list[Offer], means: Means) -> FetchedFile:
    """Make `planned` be there, verified. Safe in several processes at once: the others wait and find it done."""
    home = planned.home
    if means.attested.knows(home.final, planned.digest):
        # Known and unchanged: no lock, so that a read-only cache serves everybody.
        point(home)
        return _fetched(planned, "kept", {}, 0)
    with locked(home.lock, what=planned.file.path, reporter=means.reporter):
        damaged = False
        if home.final.exists():
            if verified(planned, means):
                point(home)
                # Left behind when a process dies between naming the file and dropping its journal.
                home.partial.unlink(missing_ok=True)
                home.journal.unlink(missing_ok=True)
                return _fetched(planned, "kept", {}, 0)
            damaged = True
            _put_aside(planned, means)
        identity = Identity(
            digest=planned.digest, size_bytes=planned.size_bytes, piece_bytes=piece_size_for(planned.size_bytes)
        )
        partial = PartialFile(home.partial, home.journal, identity, boot_id=read_boot_id())
        try:
            resumed = bool(partial.sources_of)
            require_space(home.partial.parent, max(0, planned.size_bytes - len(partial.sources_of) * identity.piece_bytes))
            filling = Filling(
                path=planned.file.path,
                digest=planned.digest,
                size_bytes=planned.size_bytes,
                partial=partial,
                sources=[Source(offer=offer, patience_s=means.patience_s) for offer in offers],
                means=means,
            )
            filling.run()
            partial.finish(home.final)
        except BaseException:
            if not partial.sources_of:
                # Not one piece: nothing to resume, so nothing is left lying about.
                partial.discard()
            raise
        finally:
            partial.close()
            means.reporter(ProgressEnded(task=f"fetch:{planned.file.path}"))
        means.attested.remember(home.final, planned.digest)
        point(home)
    action: Action = "repaired" if damaged or filling.mended else "resumed" if resumed else "downloaded"
    delivered = {source.origin: source.delivered_bytes for source in filling.sources if source.delivered_bytes}
    return _fetched(planned, action, delivered, filling.transferred_bytes)


def verified(planned: PlannedFile, means: Means) -> bool:
    """Whether the file at its final name is right; hashes it."""
    home = planned.home
    if home.final.stat().st_size != planned.size_bytes:
        return False
    task, done = f"fetch:{planned.file.path}", 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        if done % _REPORT_EVERY_BYTES < count:
            label, total = planned.file.path, planned.size_bytes
            means.reporter(
                Progress(task=task, label=label, done=done, total=total, unit="bytes", note="checking the file that is here")
            )

    with disk_errors(home.final):
        actual = hash_file(home.final, planned.digest, on_bytes=advance)
    means.reporter(ProgressEnded(task=task))
    if actual == planned.digest:
        means.attested.remember(home.final, planned.digest)
    return actual == planned.digest


def _put_aside(planned: PlannedFile, means: Means) -> None:
    """A damaged file must not keep the name that promises its hash. Whoever has it open keeps what they have."""
    means.attested.forget(planned.home.final, planned.digest)
    if planned.home.pointer is None:
        # A plain folder's name promises nothing, and the file may be the user's: it stays until the right one replaces it.
        means.reporter(
            Note(level="warning", message=f"{planned.home.final} differs from the repository's; it will be replaced")
        )
        return
    means.reporter(
        Note(level="warning", message=f"{planned.file.path} is here but damaged (its hash is wrong); fetching it again")
    )
    with disk_errors(planned.home.final):
        planned.home.final.unlink()


def _fetched(planned: PlannedFile, action: Action, sources: dict[str, int], transferred: int) -> FetchedFile:
    return FetchedFile(
        path=planned.file.path,
        local_path=planned.home.local_path,
        size_bytes=planned.size_bytes,
        sha256=planned.file.sha256.lower() if planned.file.sha256 else None,
        action=action,
        transferred_bytes=transferred,
        sources=sources,
    )
