"""A server on this machine that answers as the Hugging Face hub does when a folder is uploaded."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

LARGE = re.compile(r".*\.parquet|.*/c/.*")  # what goes to the store for large files
TOKEN = "hf_notARealTokenForTests"


class SmallHub(ThreadingHTTPServer):
    """Repositories by name, each a mapping of path to content; and what was asked for."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.private: dict[str, bool] = {}
        self.large: dict[str, bytes] = {}
        self.sent_large: dict[str, set[str]] = {}
        self.asked: list[str] = []
        self.flip: str | None = None  # a path whose content is damaged on arrival

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def commit(self, repo: str, lines: list[dict[str, Any]]) -> None:
        files = self.repositories[repo]
        for line in lines:
            value = line["value"]
            if line["key"] == "deletedFile":
                del files[value["path"]]
            elif line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.large[value["oid"]]
            if self.flip and value.get("path") == self.flip:
                files[value["path"]] = bytes(
                    [files[value["path"]][0] ^ 1, *files[value["path"]][1:]]
                )

    def tree(self, repo: str) -> list[dict[str, Any]]:
        rows = []
        for path, content in self.repositories[repo].items():
            blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
            row: dict[str, Any] = {"type": "file", "path": path, "size": len(content), "oid": blob}
            if LARGE.fullmatch(path):
                digest = hashlib.sha256(content).hexdigest()
                row["lfs"] = {"oid": digest, "size": len(content), "pointerSize": 130}
            rows.append(row)
        return rows


class _Answers(BaseHTTPRequestHandler):
    server: SmallHub

    def log_message(self, *_: object) -> None:
        pass

    def answer(self, value: Any, status: int = 200, **headers: str) -> None:
        content = json.dumps(value).encode()
        self.send_response(status)
        for name, text in headers.items():
            self.send_header(name.replace("_", "-"), text)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            parts = []
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def allowed(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def do_GET(self) -> None:
        hub = self.server
        hub.asked.append(f"GET {self.path}")
        found = re.match(r"/api/datasets/([^/]+/[^/?]+)(/tree/main)?", self.path)
        if found is None or found[1] not in hub.repositories:
            self.answer({"error": "not found"}, 404, X_Error_Code="RepoNotFound")
        elif found[2]:
            self.answer(hub.tree(found[1]))
        else:
            rows = [{"rfilename": path} for path in hub.repositories[found[1]]]
            self.answer({"id": found[1], "sha": "0" * 40, "siblings": rows})

    def do_PUT(self) -> None:
        digest = self.path.rpartition("/")[2]
        content = self.body()
        assert hashlib.sha256(content).hexdigest() == digest
        self.server.large[digest] = content
        self.answer({})

    def do_POST(self) -> None:
        hub, content = self.server, self.body()
        hub.asked.append(f"POST {self.path}")
        path = self.path.partition("?")[0]
        if path == "/api/validate-yaml":
            self.answer({"errors": [], "warnings": []})
        elif not self.allowed():
            self.answer({"error": "who are you"}, 401)
        elif path == "/api/repos/create":
            asked = json.loads(content)
            name = f"{asked['organization']}/{asked['name']}"
            exists = name in hub.repositories
            hub.repositories.setdefault(name, {".gitattributes": b"*.parquet filter=lfs\n"})
            hidden = asked.get("private") or asked.get("visibility") == "private"
            hub.private.setdefault(name, bool(hidden))
            url = f"{hub.address}/datasets/{name}"
            self.answer({"url": url, "name": name, "id": name}, 409 if exists else 200)
        elif path.endswith("/preupload/main"):
            names = [one["path"] for one in json.loads(content)["files"]]
            mode = {name: "lfs" if LARGE.fullmatch(name) else "regular" for name in names}
            rows = [{"path": n, "uploadMode": mode[n], "shouldIgnore": False} for n in names]
            self.answer({"files": rows})
        elif path.endswith(".git/info/lfs/objects/batch"):
            rows = []
            for one in json.loads(content)["objects"]:
                upload = {"href": f"{hub.address}/large/{one['oid']}", "header": {}}
                rows.append({**one, "actions": {"upload": upload}})
            self.answer({"transfer": "basic", "objects": rows})
        else:
            found = re.fullmatch(r"/api/datasets/(.+)/commit/main", path)
            assert found is not None, path
            hub.commit(found[1], [json.loads(line) for line in content.splitlines()])
            url = f"{hub.address}/datasets/{found[1]}/commit/1"
            self.answer({"commitUrl": url, "commitOid": "1" * 40, "success": True})


@contextmanager
def small_hub() -> Iterator[SmallHub]:
    with SmallHub() as hub:
        thread = threading.Thread(target=hub.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield hub
        finally:
            hub.shutdown()
            thread.join()
