"""One file, from its plan to its final name: reuse what is here, else resume, fill and name it."""

from __future__ import annotations

import contextlib

from provision.events import Note, ProgressEnded
from provision.fetch.adopt import adopt
from provision.fetch.at_rest import as_fetched, is_right, kept, look
from provision.fetch.disk import require_space
from provision.fetch.fill import Filling, Means
from provision.fetch.journal import Identity
from provision.fetch.partial import PartialFile, read_boot_id
from provision.fetch.patience import Patience
from provision.fetch.pieces import piece_size_for
from provision.fetch.sources import Offer, Source
from provision.fetch.store import lock_now, locked, point
from provision.fetch.twin import copy_twin
from provision.fetch.types import Action, FetchedFile, FileHome, PlannedFile


def download(planned: PlannedFile, offers: list[Offer], means: Means) -> FetchedFile:
    """Make `planned` be there, verified. Safe in several processes at once: the others wait and find it done."""
    home = planned.home
    seen = look(home)
    if seen is not None and is_right(planned, means):
        _clear_leftovers(home)
        return kept(planned)
    with locked(home.lock, what=planned.file.path, reporter=means.reporter):
        now = look(home)
        # Whoever held the lock may have brought it meanwhile.
        if now is not None and now != seen and is_right(planned, means):
            return kept(planned)
        damaged = now is not None
        identity = Identity(
            digest=planned.digest, size_bytes=planned.size_bytes, piece_bytes=piece_size_for(planned.size_bytes)
        )
        if damaged:
            _set_aside(planned, identity, means)
        if copy_twin(planned, means):
            return as_fetched(planned, "repaired" if damaged else "kept", {}, 0)
        partial = PartialFile(home.partial, home.journal, identity, boot_id=read_boot_id())
        try:
            resumed = partial.written_bytes > 0
            require_space(home.partial.parent, planned.size_bytes - partial.written_bytes)
            filling = Filling(
                path=planned.file.path,
                digest=planned.digest,
                size_bytes=planned.size_bytes,
                partial=partial,
                sources=[Source(offer=offer, patience=Patience(means.patience_s)) for offer in offers],
                means=means,
            )
            filling.run()
            partial.finish(home.final)
        except BaseException:
            partial.close()
            if not partial.written_bytes:
                # Not one byte: nothing to resume, so nothing is left lying about.
                partial.discard()
            raise
        finally:
            partial.close()
            means.reporter(ProgressEnded(task=f"fetch:{planned.file.path}"))
        means.attested.remember(home.final, planned.digest)
        point(home)
    action: Action = "repaired" if damaged or filling.mended else "resumed" if resumed else "downloaded"
    delivered = {source.origin: source.delivered_bytes for source in filling.sources if source.delivered_bytes}
    return as_fetched(planned, action, delivered, filling.transferred_bytes)


def _clear_leftovers(home: FileHome) -> None:
    """What stays behind when a process dies between naming the file and dropping its journal."""
    if home.partial.exists() or home.journal.exists():
        with lock_now(home.lock) as ours, contextlib.suppress(OSError):
            if ours:
                home.partial.unlink(missing_ok=True)
                home.journal.unlink(missing_ok=True)


def _set_aside(planned: PlannedFile, identity: Identity, means: Means) -> None:
    """A damaged file must not keep the name that promises its hash, and must not be lost before the right one is here.

    A plain folder's name promises nothing, and the file may be the user's: it stays until the right one replaces it.
    """
    home = planned.home
    means.attested.forget(home.final, planned.digest)
    if home.pointer is None:
        told = f"{home.final} differs from the repository's; it will be replaced"
    elif adopt(home, identity):
        told = f"{planned.file.path} is here but damaged; what differs from its source is replaced"
    else:
        told = f"{planned.file.path} is here but damaged; it stays until the right one is here"
    means.reporter(Note(level="warning", message=told))
