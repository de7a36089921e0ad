"""What revisions meant: `refs/` of the shared cache for commits of the Hub, a memory of our own for ModelScope."""

from __future__ import annotations

from pathlib import Path

from provision.errors import ProvisionError
from provision.fetch.disk import disk_errors
from provision.fetch.layout import ref_file, repo_folder
from provision.fetch.store import write_text
from provision.fetch.types import FetchPlan
from provision.hub.http import Asker
from provision.hub.listing import commit_of
from provision.hub.modelscope import remembered_commit
from provision.hub.types import Listing
from provision.settings import Settings


def write_references(plan: FetchPlan, listing: Listing, *, settings: Settings, asker: Asker) -> None:
    """Remember, for offline use, what the revision means; and what `main` is, when llama.cpp has nothing to go by."""
    if listing.source == "modelscope":
        # Its content ids are no commits: in the shared cache another program would take them for the Hub's.
        _write(remembered_commit(plan.repo_id, plan.revision, settings=settings), plan.commit)
        return
    named = ref_file(settings.hf_hub_cache, plan.repo_id, plan.revision)
    if named is not None:
        _write(named, plan.commit)
    main = ref_file(settings.hf_hub_cache, plan.repo_id, "main")
    if main is None or plan.revision == "main" or main.exists():
        return
    try:
        commit = commit_of(listing, "main", settings=settings, asker=asker)
    except ProvisionError:
        return  # The files are here, which is what was asked for; `main` stays unknown.
    if commit == plan.commit or _holds(plan, commit, settings):
        _write(main, commit)


def _holds(plan: FetchPlan, commit: str, settings: Settings) -> bool:
    """Whether the snapshot of `commit` shows every file of the plan: only then is `refs/main` of use to anybody."""
    snapshot = repo_folder(settings.hf_hub_cache, plan.repo_id) / "snapshots" / commit
    return all((snapshot / file.file.path).exists() for file in plan.files)


def _write(place: Path, commit: str) -> None:
    with disk_errors(place):
        write_text(place, commit)
