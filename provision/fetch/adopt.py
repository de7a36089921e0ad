"""A damaged file of the cache becomes the partial of its own repair: most of its bytes are right, and none are thrown away."""

from __future__ import annotations

import os
import stat

from provision.fetch.disk import disk_errors, sync_folder
from provision.fetch.journal import Identity, header_line, piece_line, synced_line
from provision.fetch.store import write_text
from provision.fetch.types import FileHome

DAMAGED = "the damaged file"
"""Where the journal says adopted pieces came from. The search for wrong bytes suspects it before anybody who can be asked."""


def adopt(home: FileHome, identity: Identity) -> bool:
    """Move the damaged file from the name that promises its hash to the name of the partial, its pieces journalled.

    False, and nothing is touched, when its bytes are not ours alone: another hard link shares them, or we may not write them.
    Such a file keeps its name until the right one replaces it.
    """
    with disk_errors(home.final):
        found = os.lstat(home.final)
        if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1 or not os.access(home.final, os.W_OK):
            return False
        # The journal first: killed in between, the worst is a partial that starts anew beside a file that nobody moved.
        write_text(home.journal, _journal(identity, found.st_size))
        os.replace(home.final, home.partial)
        if found.st_size != identity.size_bytes:
            os.truncate(home.partial, identity.size_bytes)
        sync_folder(home.partial.parent)
    return True


def _journal(identity: Identity, here_bytes: int) -> str:
    """Every piece that the file has whole is here, and on the medium for long."""
    enough = here_bytes >= identity.size_bytes
    count = -(-identity.size_bytes // identity.piece_bytes) if enough else here_bytes // identity.piece_bytes
    line, chain = header_line(identity)
    text = line
    for index in range(count):
        line, chain = piece_line(index, (DAMAGED,), chain=chain)
        text += line
    line, _ = synced_line(count, chain=chain)
    return (text + line).decode("ascii")
