"""`fnbuild model pull`, `load`, `list` and `prune`, with a web server and a hub on this machine."""

from __future__ import annotations

import hashlib
import json
import os
import tarfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fnbuild.function.reader import function_from_dict
from fnbuild.models import cache
from fnbuild.platforms.process import ProcessPlatform
from tests import storage_servers
from tests.cli.conftest import Outcome
from tests.storage_servers import FileServer

Fnbuild = Callable[..., Outcome]
WEIGHTS = bytes(range(256)) * 4000
DIGEST = hashlib.sha256(WEIGHTS).hexdigest()


@pytest.fixture
def web() -> Iterator[FileServer]:
    with storage_servers.file_server() as server:
        server.files["/m.pt"] = WEIGHTS
        yield server


@pytest.fixture(autouse=True)
def process(empty: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NUCTL_PLATFORM", "process")
    monkeypatch.delenv("HF_TOKEN", raising=False)


def pulled(fnbuild: Fnbuild, *arguments: object) -> Path:
    result = fnbuild("--platform", "process", "model", "pull", *arguments)
    assert result.status == 0, result
    return Path(result.out.strip())


def test_a_pull_prints_the_path_and_downloads_once(
    fnbuild: Fnbuild, web: FileServer, empty: Path
) -> None:
    path = pulled(fnbuild, f"{web.url}/m.pt", "--sha256", DIGEST)
    assert path.read_bytes() == WEIGHTS
    assert path.is_relative_to(empty / "models")
    count = [method for method, _, _ in web.requests].count("GET")
    assert pulled(fnbuild, f"{web.url}/m.pt") == path
    assert [method for method, _, _ in web.requests].count("GET") == count
    web.files["/m.pt"] = WEIGHTS[::-1]
    assert pulled(fnbuild, f"{web.url}/m.pt").read_bytes() == WEIGHTS[::-1]


def test_an_interrupted_download_continues(fnbuild: Fnbuild, web: FileServer) -> None:
    web.cuts = 2
    assert pulled(fnbuild, f"{web.url}/m.pt").read_bytes() == WEIGHTS
    assert web.ranges


def test_another_hash_is_an_error_and_the_cache_has_no_such_model(
    fnbuild: Fnbuild, web: FileServer
) -> None:
    result = fnbuild("model", "pull", f"{web.url}/m.pt", "--sha256", "0" * 64)
    assert result.status == 1
    assert f"its sha256 is {DIGEST}, not 000" in result.err
    assert json.loads(fnbuild("model", "list", "-o", "json").out) == []
    assert (
        "--sha256: 'x' is not a sha256"
        in fnbuild("model", "pull", f"{web.url}/m.pt", "--sha256", "x").err
    )


def test_a_model_of_the_hub_is_pulled_with_patterns_and_a_revision(
    fnbuild: Fnbuild, web: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", web.url)
    names = {"config.json": b"{}", "model.safetensors": WEIGHTS, "flax.msgpack": b"x"}
    tree = [{"type": "file", "path": name, "size": len(body)} for name, body in names.items()]
    api = "/api/models/owner/model"
    web.documents[f"{api}/revision/v2"] = (200, {}, b'{"sha": "abc"}')
    web.documents[f"{api}/tree/abc?recursive=true"] = (200, {}, json.dumps(tree).encode())
    for name, body in names.items():
        web.files[f"/owner/model/resolve/abc/{name}"] = body
    folder = pulled(fnbuild, "hf://owner/model@v2", "--exclude", "*.msgpack")
    assert sorted(os.listdir(folder)) == [".fnbuild", "config.json", "model.safetensors"]
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS


def test_the_cache_is_listed_and_used_offline(fnbuild: Fnbuild, web: FileServer) -> None:
    uri = f"{web.url}/m.pt"
    missing = fnbuild("model", "pull", uri, "--offline")
    assert (missing.status, "is not in the cache" in missing.err) == (1, True)
    path = pulled(fnbuild, uri)
    (listed,) = json.loads(fnbuild("model", "list", "-o", "json").out)
    assert (listed["uri"], listed["sha256"], listed["path"]) == (uri, DIGEST, str(path))
    assert listed["size"] == len(WEIGHTS)
    assert DIGEST in fnbuild("model", "ls", "-o", "wide").out
    web.files.clear()
    assert pulled(fnbuild, uri, "--offline", "--sha256", DIGEST) == path
    assert "sha256" in fnbuild("model", "pull", uri, "--offline", "--sha256", "0" * 64).err


def test_a_bundle_takes_a_model_to_a_machine_without_a_network(
    fnbuild: Fnbuild, web: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle, uri = tmp_path / "m.tar", f"{web.url}/m.pt"
    pulled(fnbuild, uri, "--bundle", bundle)
    web.files.clear()
    monkeypatch.setenv("FNBUILD_DATA_DIR", str(tmp_path / "other"))
    loaded = fnbuild("model", "load", bundle)
    assert loaded.status == 0, loaded
    assert Path(loaded.out.strip()).read_bytes() == WEIGHTS
    assert pulled(fnbuild, uri, "--offline") == Path(loaded.out.strip())


@pytest.mark.parametrize("damage", ["content", "missing", "path", "other", "dots", "gzip", "cut"])
def test_a_damaged_bundle_is_refused(
    fnbuild: Fnbuild, web: FileServer, tmp_path: Path, damage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = tmp_path / "m.tar"
    pulled(fnbuild, f"{web.url}/m.pt", "--bundle", bundle)
    with tarfile.open(bundle) as archive:
        archive.extractall(tmp_path / "content", filter="data")
    (folder,) = (tmp_path / "content").iterdir()
    if damage == "content":
        (folder / "files" / "m.pt").write_bytes(b"other")
    if damage == "missing":
        (folder / "files" / "m.pt").unlink()
    with tarfile.open(bundle, "w:gz" if damage == "gzip" else "w") as archive:
        if damage == "dots":
            archive.add(folder, ".", recursive=True)
        elif damage != "other":
            archive.add(folder, folder.name, recursive=True)
        if damage == "path":
            archive.add(folder / "model.json", f"{folder.name}/../../escaped")
        if damage == "other":
            archive.add(folder / "model.json", "README")
    if damage == "cut":
        os.truncate(bundle, bundle.stat().st_size // 2)
    monkeypatch.setenv("FNBUILD_DATA_DIR", str(tmp_path / "second"))
    result = fnbuild("model", "load", bundle)
    assert result.status == 1
    texts = {"content": "damaged", "missing": "damaged", "path": "cannot be stored"}
    assert texts.get(damage, "error: ") in result.err
    assert "internal" not in result.err
    assert json.loads(fnbuild("model", "list", "-o", "json").out) == []
    assert not list(tmp_path.rglob("escaped"))


def test_prune_removes_by_age_and_size(
    fnbuild: Fnbuild, web: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b"):
        web.files[f"/{name}.pt"] = WEIGHTS
        pulled(fnbuild, f"{web.url}/{name}.pt")
    prune = ("--platform", "process", "model", "prune")
    assert fnbuild(*prune).status == 2
    assert fnbuild(*prune, "--older-than=-1h").status == 2
    dry = json.loads(fnbuild(*prune, "--max-size", "1Mi", "--dry-run", "-o", "json").out)
    assert [(item["uri"], item["outcome"]) for item in dry] == [
        (f"{web.url}/a.pt", "would be removed")
    ]
    assert json.loads(fnbuild(*prune, "--older-than", "1h", "-o", "json").out) == []
    assert "removed" in fnbuild(*prune, "--max-size", "1Mi").out
    assert [model.uri for model in cache.cached_models()] == [f"{web.url}/b.pt"]
    env = [{"name": "STORAGE_URI", "value": f"file://{cache.cached_models()[0].path}"}]
    function = {"metadata": {"name": "user", "namespace": "nuclio"}, "spec": {"env": env}}
    ProcessPlatform().store_imported(function_from_dict(function, "x"))
    assert "stays: user uses it" in fnbuild(*prune, "--all").out
    ProcessPlatform().delete("nuclio", "user")
    assert fnbuild(*prune, "--all").status == 0
    assert cache.cached_models() == []


def test_a_model_in_a_functions_folder_is_ignored_by_git(
    fnbuild: Fnbuild, web: FileServer, tmp_path: Path
) -> None:
    path = pulled(fnbuild, f"{web.url}/m.pt", "--into", tmp_path / "function" / "weights")
    assert path == tmp_path / "function" / "weights" / "m.pt"
    assert path.read_bytes() == WEIGHTS
    assert path.with_name(".gitignore").read_text() == "/m.pt\n"
    # Another pull replaces the model, and nothing else.
    path.with_name(".gitignore").write_text("*.pyc\n/m.pt\n")
    path.write_bytes(b"old")
    assert pulled(fnbuild, f"{web.url}/m.pt", "--into", path.parent).read_bytes() == WEIGHTS
    assert path.with_name(".gitignore").read_text() == "*.pyc\n/m.pt\n"
    web.files["/main.py"] = WEIGHTS
    path.with_name("main.py").write_text("def handler(): ...")
    result = fnbuild("model", "pull", f"{web.url}/main.py", "--into", path.parent)
    assert (result.status, "not of a model that was pulled" in result.err) == (1, True)
    assert path.with_name("main.py").read_text() == "def handler(): ..."


def test_a_download_that_fails_its_check_does_not_pass_for_the_model_before(
    fnbuild: Fnbuild, web: FileServer
) -> None:
    uri = f"{web.url}/m.pt"
    path = pulled(fnbuild, uri, "--sha256", DIGEST)
    web.files["/m.pt"] = WEIGHTS[::-1]
    assert fnbuild("model", "pull", uri, "--sha256", DIGEST).status == 1
    assert fnbuild("model", "pull", uri, "--sha256", DIGEST, "--offline").status == 1
    web.files["/m.pt"] = WEIGHTS
    assert pulled(fnbuild, uri, "--sha256", DIGEST) == path
    path.unlink()
    assert "is not in the cache" in fnbuild("model", "pull", uri, "--offline").err


def test_two_pulls_of_one_model_wait_for_each_other(web: FileServer, empty: Path) -> None:
    request = cache.PullRequest(f"{web.url}/m.pt")
    with ThreadPoolExecutor(4) as pool:
        models = list(pool.map(lambda _: cache.pull(request, lambda _: None), range(4)))
    assert {model.path.read_bytes() for model in models} == {WEIGHTS}
    assert [method for method, _, _ in web.requests].count("GET") == 1


def test_a_local_path_is_checked_and_stays_where_it_is(fnbuild: Fnbuild, tmp_path: Path) -> None:
    path = tmp_path / "m.pt"
    path.write_bytes(WEIGHTS)
    assert pulled(fnbuild, path, "--sha256", DIGEST) == path
    assert fnbuild("model", "pull", path, "--sha256", "0" * 64).status == 1
    assert fnbuild("model", "pull", tmp_path / "none").status == 1
