"""Repositories the test hub serves: commits of files, branches and tags, and who may read them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.hub.content import Content, Literal, OnDisk, git_sha1

_LFS_SUFFIXES = (".gguf", ".safetensors", ".bin", ".dat", ".gguf_file")
_LFS_FROM_BYTES = 10 * 1024 * 1024


@dataclass(frozen=True)
class HubFile:
    path: str
    content: Content
    lfs: bool
    xet_hash: str | None = None

    @property
    def git_oid(self) -> str:
        """The sha1 git knows it by: of the pointer file when the content lies in LFS."""
        return git_sha1(Literal(self.pointer)) if self.lfs else git_sha1(self.content)

    @property
    def pointer(self) -> bytes:
        return (
            f"version https://git-lfs.github.com/spec/v1\noid sha256:{self.content.sha256}\nsize {self.content.size_bytes}\n"
        ).encode()

    @property
    def etag(self) -> str:
        return self.content.sha256 if self.lfs else self.git_oid


@dataclass
class Repo:
    """One model repository. `push` makes a commit; `gated` and `private` close it to all but the tokens in `access`."""

    repo_id: str
    gated: bool = False
    private: bool = False
    disabled: bool = False
    access: frozenset[str] = frozenset()
    renamed_to: str | None = None
    commits: dict[str, dict[str, HubFile]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)

    def push(
        self, files: Mapping[str, bytes | Content | Path], *, branch: str = "main", lfs: Iterable[str] | None = None
    ) -> str:
        """A new commit of exactly `files` on `branch`; returns its 40 digits. `lfs` overrules the usual choice."""
        named = None if lfs is None else set(lfs)
        tree: dict[str, HubFile] = {}
        for path, what in files.items():
            content: Content = Literal(what) if isinstance(what, bytes) else OnDisk(what) if isinstance(what, Path) else what
            large = content.size_bytes >= _LFS_FROM_BYTES or path.lower().endswith(_LFS_SUFFIXES)
            tree[path] = HubFile(path=path, content=content, lfs=large if named is None else path in named)
        seed = f"{self.repo_id} {branch} {len(self.commits)} {sorted(tree)}"
        commit = hashlib.sha1(seed.encode(), usedforsecurity=False).hexdigest()
        self.commits[commit] = tree
        self.branches[branch] = commit
        return commit

    def resolve(self, revision: str) -> str | None:
        """The commit of a branch, tag or (abbreviated) commit."""
        for known in (self.branches, self.tags):
            if revision in known:
                return known[revision]
        short = revision.removeprefix("refs/heads/")
        if short in self.branches:
            return self.branches[short]
        found = [commit for commit in self.commits if len(revision) >= 7 and commit.startswith(revision)]
        return found[0] if len(found) == 1 else None

    @property
    def head(self) -> str:
        return self.branches["main"]


def repo(repo_id: str, files: Mapping[str, bytes | Content | Path], **options: object) -> Repo:
    """A repository with one commit on main."""
    made = Repo(repo_id=repo_id, **options)  # type: ignore[arg-type]
    made.push(files)
    return made


def repos_below(root: Path) -> list[Repo]:
    """Every `root/org/name/` as a repository with one commit on main."""
    found = []
    for folder in sorted(path for path in root.glob("*/*") if path.is_dir()):
        files = {file.relative_to(folder).as_posix(): file for file in sorted(folder.rglob("*")) if file.is_file()}
        found.append(repo(f"{folder.parent.name}/{folder.name}", files))
    return found
