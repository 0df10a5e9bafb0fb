"""Models of Hugging Face, from a server with the paths of its API."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from fnbuild.runtime.storage.errors import StorageError
from tests.runtime.storage.conftest import Fetch
from tests.runtime.storage.test_fetch import files_in
from tests.storage_servers import FileServer

WEIGHTS = b"weights" * 1000
API = "/api/models/owner/model"
FILES = "/owner/model/resolve/c0ffee"


def add_model(web: FileServer, revision: str = "main", digest: str = "") -> None:
    digest = digest or hashlib.sha256(WEIGHTS).hexdigest()
    tree = [
        {"type": "directory", "path": "onnx"},
        {"type": "file", "path": "config.json", "size": 2, "oid": "b10b"},
        {"type": "file", "path": "README.md", "size": 2, "oid": "b10b"},
    ]
    large = {"type": "file", "path": "onnx/m.onnx", "lfs": {"oid": digest, "size": len(WEIGHTS)}}
    following = f'<{web.url}{API}/tree/c0ffee?cursor=2>; rel="next"'
    web.documents |= {
        f"{API}/revision/{revision}": (200, {}, b'{"sha": "c0ffee"}'),
        f"{API}/tree/c0ffee?recursive=true": (200, {"Link": following}, json.dumps(tree).encode()),
        f"{API}/tree/c0ffee?cursor=2": (200, {}, json.dumps([large]).encode()),
    }
    web.files |= {
        f"{FILES}/config.json": b"{}",
        f"{FILES}/README.md": b"# ",
        f"{FILES}/onnx/m.onnx": WEIGHTS,
    }


def test_all_files_of_a_model(web: FileServer, models: Path, fetch: Fetch) -> None:
    add_model(web)
    web.cuts = 1
    fetch("hf://owner/model", HF_ENDPOINT=web.url)
    files = {"config.json": b"{}", "README.md": b"# ", "onnx/m.onnx": WEIGHTS}
    assert files_in(models) == files
    assert all("Authorization" not in headers for _, _, headers in web.requests)


def test_a_revision_with_a_token_and_patterns(web: FileServer, models: Path, fetch: Fetch) -> None:
    add_model(web, "v1")
    variables = {"STORAGE_ALLOW_PATTERNS": '["*.onnx", "*.md"]', "STORAGE_IGNORE_PATTERNS": "*.md"}
    fetch("hf://owner/model:v1", HF_ENDPOINT=web.url, HF_TOKEN="t0ken\n", **variables)
    assert files_in(models) == {"onnx/m.onnx": WEIGHTS}
    assert {headers["Authorization"] for _, _, headers in web.requests} == {"Bearer t0ken"}
    with pytest.raises(StorageError, match="the patterns select no file of hf://owner/model:v1"):
        fetch("hf://owner/model:v1", HF_ENDPOINT=web.url, STORAGE_ALLOW_PATTERNS="*.pt")


def test_damaged_files_are_not_stored(web: FileServer, models: Path, fetch: Fetch) -> None:
    add_model(web, digest="0" * 64)
    with pytest.raises(StorageError, match=r"onnx/m\.onnx of hf://owner/model is damaged"):
        fetch("hf://owner/model", HF_ENDPOINT=web.url)
    assert not (models / "onnx").exists()


@pytest.mark.parametrize("path", ["../x", "/etc/x", "a//b", ".fnbuild/index"])
def test_paths_outside_of_the_folder_are_refused(path: str, web: FileServer, fetch: Fetch) -> None:
    add_model(web)
    tree = json.dumps([{"type": "file", "path": path, "size": 1, "oid": "1"}]).encode()
    web.documents[f"{API}/tree/c0ffee?recursive=true"] = (200, {}, tree)
    with pytest.raises(StorageError, match="a file that cannot be stored"):
        fetch("hf://owner/model", HF_ENDPOINT=web.url)


def test_missing_and_private_models_name_the_token(web: FileServer, fetch: Fetch) -> None:
    with pytest.raises(StorageError, match="hf://owner/model cannot be read: 404") as raised:
        fetch("hf://owner/model", HF_ENDPOINT=web.url)
    assert "HF_TOKEN" in raised.value.hint
