"""What the Hub, its CDN and ModelScope answer."""

from __future__ import annotations

import hashlib
import hmac
import time
from urllib.parse import parse_qs, quote, unquote, urlencode

from tests.support.hub.content import Literal
from tests.support.hub.faults import Kind
from tests.support.hub.repos import HubFile, Repo
from tests.support.hub.wire import Handler, WireServer


class World:
    """What all faces share: the repositories, the tokens the Hub knows, and the signing secret of the CDN."""

    def __init__(
        self, repos: list[Repo], *, tokens: frozenset[str], page_size: int, signature_ttl_s: int, modelscope_cap: int
    ) -> None:
        self.repos = {repo.repo_id: repo for repo in repos}
        self.tokens = tokens
        self.page_size = page_size
        self.signature_ttl_s = signature_ttl_s
        self.modelscope_cap = modelscope_cap
        self.cdn_url = ""
        self.secret = 0

    def signed(self, repo: Repo, file: HubFile) -> str:
        """An address of `file` at the CDN, good for `signature_ttl_s`."""
        path = f"/{quote(repo.repo_id)}/{file.content.sha256}/{quote(file.path)}"
        date = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        query = {"X-Amz-Algorithm": "AWS4-HMAC-SHA256", "X-Amz-Date": date, "X-Amz-Expires": str(self.signature_ttl_s)}
        query["X-Amz-Signature"] = self._signature(path, date, self.signature_ttl_s)
        return f"{self.cdn_url}{path}?{urlencode(query)}"

    def signature_holds(self, path: str, query: str) -> bool:
        said = {name: values[0] for name, values in parse_qs(query).items()}
        try:
            date, ttl_s = said["X-Amz-Date"], int(said["X-Amz-Expires"])
            made = time.mktime(time.strptime(date, "%Y%m%dT%H%M%SZ")) - time.timezone
        except (KeyError, ValueError):
            return False
        expected = self._signature(path, date, ttl_s)
        return hmac.compare_digest(expected, said.get("X-Amz-Signature", "")) and time.time() < made + ttl_s

    def _signature(self, path: str, date: str, ttl_s: int) -> str:
        return hmac.new(str(self.secret).encode(), f"{path}\n{date}\n{ttl_s}".encode(), hashlib.sha256).hexdigest()


class FaceServer(WireServer):
    world: World


class HubFace(Handler):
    """huggingface.co: the API of models, and /resolve/."""

    server: FaceServer

    def name(self, path: str) -> tuple[str, str]:
        words = path.split("/")
        if path.startswith("/api/resolve-cache/models/"):
            return "resolve-cache", unquote("/".join(words[7:]))
        if path.startswith("/api/models/") and len(words) >= 5:
            return {"revision": "info", "": "info"}.get(
                words[5] if len(words) > 5 else "", words[5] if len(words) > 5 else ""
            ), ""
        if len(words) > 4 and words[3] == "resolve":
            return "resolve", unquote("/".join(words[5:]))
        if len(words) > 4 and words[3] == "raw":
            return "raw", unquote("/".join(words[5:]))
        return "api", ""

    def route(self, path: str) -> None:
        where, file_path = self.name(path)
        words = [unquote(word) for word in path.split("/")]
        if where == "api":
            self._other(path)
            return
        id_at = {"resolve": 1, "raw": 1, "resolve-cache": 4}.get(where, 3)
        repo_id = "/".join(words[id_at : id_at + 2])
        repo = self.server.world.repos.get(repo_id)
        if repo and repo.renamed_to:
            self.send_redirect(self.path.replace(quote(repo_id), quote(repo.renamed_to), 1), status=307)
        elif repo is None or not self._may_see(repo):
            self._refuse(missing=True)
        elif repo.disabled:
            self.send_json({"error": "This repository has been disabled."}, status=403, headers={"X-Error-Message": "disabled"})
        elif where in ("resolve", "resolve-cache"):
            self._resolve(repo, words[6 if where == "resolve-cache" else 4], file_path)
        elif where == "raw":
            self._raw(repo, words[4], file_path)
        else:
            self._api(repo, where, words)

    # -- access

    def _token(self) -> str | None:
        scheme, _, token = (self.headers.get("Authorization") or "").partition(" ")
        return token if scheme.lower() == "bearer" and token else None

    def _may_see(self, repo: Repo) -> bool:
        return not repo.private or self._token() in repo.access

    def _refuse(self, *, missing: bool = False) -> None:
        token = self._token()
        if token is not None and token not in self.server.world.tokens:
            message = "Invalid credentials in Authorization header"
            self.send_json({"error": message}, status=401, headers={"X-Error-Message": message})
        elif missing:
            headers = {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"}
            self.send_json({"error": "Repository not found"}, status=404 if token else 401, headers=headers)
        else:
            message = "Access to this model is restricted. You must be authenticated to access it."
            headers = {"X-Error-Code": "GatedRepo", "X-Error-Message": message}
            self.send_json({"error": message}, status=403 if token else 401, headers=headers)

    # -- the API

    def _other(self, path: str) -> None:
        if path == "/api/whoami-v2" and self._token() in self.server.world.tokens:
            self.send_json({"type": "user", "name": "tester", "auth": {"accessToken": {"role": "read"}}})
        else:
            self.send_json({"error": "Sorry, we can't find the page you are looking for."}, status=404)

    def _api(self, repo: Repo, where: str, words: list[str]) -> None:
        query = {name: values[-1] for name, values in parse_qs(self.query).items()}
        if where == "refs":
            self.send_json(
                {
                    "branches": _refs("heads", repo.branches),
                    "tags": _refs("tags", repo.tags),
                    "converts": [],
                }
            )
            return
        revision = "main" if len(words) < 7 else words[6]
        commit = repo.resolve(revision)
        if commit is None:
            message = f"Invalid rev id: {revision}"
            headers = {"X-Error-Code": "RevisionNotFound", "X-Error-Message": message}
            self.send_json({"error": message}, status=404, headers=headers)
        elif where == "info":
            self.send_json(self._info(repo, commit, blobs=query.get("blobs") == "true"))
        elif where == "tree":
            self._tree(repo, commit, folder="/".join(words[7:]), query=query)
        elif where == "paths-info":
            asked = parse_qs(self.body_sent.decode()).get("paths", [])
            if self.headers.get("Content-Type", "").startswith("application/json"):
                import json

                asked = json.loads(self.body_sent).get("paths", [])
            self.send_json([self._entry(repo.commits[commit][path]) for path in asked if path in repo.commits[commit]])
        else:
            self.send_json({"error": "not found"}, status=404)

    def _info(self, repo: Repo, commit: str, *, blobs: bool) -> dict[str, object]:
        siblings = []
        for file in repo.commits[commit].values():
            sibling: dict[str, object] = {"rfilename": file.path}
            if blobs:
                sibling |= {"size": file.content.size_bytes, "blobId": file.git_oid}
                if file.lfs:
                    sibling["lfs"] = {
                        "sha256": file.content.sha256,
                        "size": file.content.size_bytes,
                        "pointerSize": len(file.pointer),
                    }
            siblings.append(sibling)
        gated = "manual" if repo.gated else False
        shown = {"id": repo.repo_id, "modelId": repo.repo_id, "sha": commit, "private": repo.private, "gated": gated}
        return shown | {"disabled": False, "downloads": 0, "likes": 0, "tags": ["gguf"], "siblings": siblings}

    def _tree(self, repo: Repo, commit: str, *, folder: str, query: dict[str, str]) -> None:
        entries = self._tree_entries(repo.commits[commit], folder, recursive=query.get("recursive", "").lower() == "true")
        first = int(query.get("cursor", "0"))
        limit = min(self.server.world.page_size, 50 if query.get("expand", "").lower() == "true" else 1000)
        headers = {}
        if first + limit < len(entries):
            base = elsewhere.text if (elsewhere := self.fault(Kind.LINK_ELSEWHERE)) else self.server.url
            more = urlencode({**query, "cursor": str(first + limit)})
            headers["Link"] = f'<{base}{self.path.partition("?")[0]}?{more}>; rel="next"'
        self.send_json(entries[first : first + limit], headers=headers)

    def _tree_entries(self, tree: dict[str, HubFile], folder: str, *, recursive: bool) -> list[dict[str, object]]:
        inside = f"{folder}/" if folder else ""
        entries: dict[str, dict[str, object]] = {}
        for path, file in sorted(tree.items()):
            if not path.startswith(inside):
                continue
            words = path[len(inside) :].split("/")
            depth = len(words) if recursive else 1
            for count in range(1, min(depth, len(words) - 1) + 1):
                directory = inside + "/".join(words[:count])
                oid = hashlib.sha1(directory.encode(), usedforsecurity=False).hexdigest()
                entries.setdefault(directory, {"type": "directory", "oid": oid, "size": 0, "path": directory})
            if recursive or len(words) == 1:
                entries[path] = self._entry(file)
        return list(entries.values())

    def _entry(self, file: HubFile) -> dict[str, object]:
        entry: dict[str, object] = {"type": "file", "oid": file.git_oid, "size": file.content.size_bytes, "path": file.path}
        if file.lfs and not self.fault(Kind.NO_LFS):
            sha = file.content.sha256.upper() if self.fault(Kind.UPPER_SHA) else file.content.sha256
            entry["lfs"] = {"oid": sha, "size": file.content.size_bytes, "pointerSize": len(file.pointer)}
        if file.xet_hash:
            entry["xetHash"] = file.xet_hash
        return entry

    # -- files

    def _raw(self, repo: Repo, revision: str, path: str) -> None:
        """What git itself stores: the pointer of an LFS file. ramalama reads the sha256 from it."""
        file = repo.commits.get(repo.resolve(revision) or "", {}).get(path)
        if file is None or (repo.gated and self._token() not in repo.access):
            self._refuse(missing=True)
        else:
            self.send_content(Literal(file.pointer) if file.lfs else file.content, headers={})

    def _resolve(self, repo: Repo, revision: str, path: str) -> None:
        if repo.gated and self._token() not in repo.access:
            self._refuse()
            return
        commit = repo.resolve(revision)
        if commit is None:
            self.send_json({"error": "Revision not found"}, status=404, headers={"X-Error-Code": "RevisionNotFound"})
            return
        headers = {} if self.fault(Kind.NO_COMMIT) else {"X-Repo-Commit": commit}
        file = repo.commits[commit].get(path)
        if file is None:
            self.send_json({"error": "Entry not found"}, status=404, headers={**headers, "X-Error-Code": "EntryNotFound"})
            return
        etag = file.etag.upper() if self.fault(Kind.UPPER_SHA) else file.etag
        if not file.lfs:
            headers["ETag"] = f'"{etag}"'
            if self.fault(Kind.RELATIVE_REDIRECT) and "resolve-cache" not in self.path:
                self.send_redirect(
                    f"/api/resolve-cache/models/{quote(repo.repo_id)}/{commit}/{quote(path)}", status=307, headers=headers
                )
            else:
                self.send_content(file.content, headers=headers)
            return
        if not self.fault(Kind.NO_LINKED):
            headers |= {"X-Linked-Size": str(file.content.size_bytes), "X-Linked-ETag": f'"{etag}"'}
        xet_only = self.fault(Kind.XET_ONLY)
        if file.xet_hash or xet_only:
            headers["X-Xet-Hash"] = file.xet_hash or hashlib.blake2s(file.path.encode()).hexdigest()
            headers["Link"] = f'<{self.server.url}/api/models/{repo.repo_id}/xet-read-token/{commit}>; rel="xet-auth"'
        if xet_only:
            self.send_whole(b"", headers=headers)
        else:
            self.send_redirect(self.server.world.signed(repo, file), headers={"Accept-Ranges": "bytes", **headers})


class CdnFace(Handler):
    """The storage behind signed addresses. Like S3 it refuses a request that is authorized twice."""

    server: FaceServer

    def name(self, path: str) -> tuple[str, str]:
        return "cdn", unquote("/".join(path.split("/")[4:]))

    def route(self, path: str) -> None:
        if self.headers.get("Authorization"):
            self.send_whole(
                b"<Error><Code>InvalidArgument</Code><Message>Only one auth mechanism allowed</Message></Error>", status=400
            )
            return
        if not self.server.world.signature_holds(path, self.query):
            self.send_whole(b"<Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>", status=403)
            return
        words = [unquote(word) for word in path.split("/")]
        repo = self.server.world.repos.get("/".join(words[1:3]))
        trees = list(repo.commits.values()) if repo else []
        for tree in trees:
            for file in tree.values():
                if file.content.sha256 == words[3]:
                    self.send_content(file.content, headers={"ETag": f'"{words[3]}"'})
                    return
        self.send_whole(b"<Error><Code>NoSuchKey</Code></Error>", status=404)


class ModelScopeFace(Handler):
    """modelscope.cn, as far as its own client uses it for models."""

    server: FaceServer

    def name(self, path: str) -> tuple[str, str]:
        words = path.split("/")
        if len(words) > 4 and words[3] == "resolve":
            return "modelscope", unquote("/".join(words[5:]))
        return "modelscope", parse_qs(self.query).get("FilePath", [""])[0]

    def route(self, path: str) -> None:
        words = [unquote(word) for word in path.split("/")]
        query = {name: values[-1] for name, values in parse_qs(self.query).items()}
        if path.startswith("/api/v1/models/") and len(words) >= 6:
            repo, what = self.server.world.repos.get("/".join(words[4:6])), "/".join(words[6:])
        else:
            repo, what = self.server.world.repos.get("/".join(words[1:3])), "resolve"
            query = {"Revision": words[4], "FilePath": "/".join(words[5:])} if len(words) > 4 else {}
        if repo is None or (repo.private and self._session() not in repo.access):
            self.send_json({"Code": 10010205001, "Message": "model not found", "Success": False}, status=404)
            return
        revision = query.get("Revision", "master")
        commit = repo.resolve("main" if revision == "master" else revision)
        if what == "revisions":
            branches = [{"Revision": "master" if name == "main" else name} for name in repo.branches]
            data = {"RevisionMap": {"Branches": branches, "Tags": [{"Revision": name} for name in repo.tags]}}
            self.send_json({"Code": 200, "Data": data, "Success": True})
        elif commit is None:
            self.send_json({"Code": 10990101017, "Message": f"revision {revision} not found", "Success": False}, status=404)
        elif what == "repo/files":
            files = self._files(repo, commit, root=query.get("Root", ""), recursive=query.get("Recursive") == "True")
            data = {"Files": files[: self.server.world.modelscope_cap], "LatestCommitter": {"Revision": commit}}
            self.send_json({"Code": 200, "Data": data, "Success": True})
        else:
            self._file(repo, commit, query.get("FilePath", ""))

    def _session(self) -> str | None:
        for cookie in (self.headers.get("Cookie") or "").split(";"):
            name, _, value = cookie.strip().partition("=")
            if name == "m_session_id":
                return value
        return None

    def _files(self, repo: Repo, commit: str, *, root: str, recursive: bool) -> list[dict[str, object]]:
        inside = f"{root.strip('/')}/" if root.strip("/") else ""
        folders: dict[str, dict[str, object]] = {}
        files = []
        for path, file in sorted(repo.commits[commit].items()):
            if not path.startswith(inside):
                continue
            words = path[len(inside) :].split("/")
            for count in range(1, len(words) if recursive else min(2, len(words))):
                folder = inside + "/".join(words[:count])
                folders[folder] = {"Name": words[count - 1], "Path": folder, "Type": "tree", "Size": 0, "Sha256": ""}
            if recursive or len(words) == 1:
                sha = file.content.sha256.upper() if self.fault(Kind.UPPER_SHA) else file.content.sha256
                shown = {"Name": words[-1], "Path": path, "Type": "blob", "Size": file.content.size_bytes, "Sha256": sha}
                files.append(shown | {"IsLFS": file.lfs, "Revision": commit})
        return [*folders.values(), *files]

    def _file(self, repo: Repo, commit: str, path: str) -> None:
        file = repo.commits[commit].get(path)
        if file is None:
            self.send_json({"Code": 10990101001, "Message": "file not found", "Success": False}, status=404)
        elif file.lfs:
            linked = {"X-Linked-ETag": f'"{file.content.sha256}"', "X-Linked-Size": str(file.content.size_bytes)}
            self.send_redirect(self.server.world.signed(repo, file), headers=linked)
        else:
            # Small text is sent at once, and Range is ignored.
            self.send_whole(bytes(file.content.read(0, file.content.size_bytes)), content_type="application/octet-stream")


def _refs(kind: str, named: dict[str, str]) -> list[dict[str, str]]:
    return [{"name": name, "ref": f"refs/{kind}/{name}", "targetCommit": commit} for name, commit in named.items()]
