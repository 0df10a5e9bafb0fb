"""The model that STORAGE_URI names: on the disk before the workers start."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from tests import storage_servers
from tests.runtime import interpreters
from tests.runtime.conftest import Serve, eventually
from tests.storage_servers import FileServer

pytestmark = pytest.mark.system

HANDLER = """
import os

def init_context(context):
    folder = os.environ["STORAGE_URI"]
    context.user_data.model = open(os.path.join(folder, "m.txt")).read()

def handler(context, event):
    return context.user_data.model + " " + os.environ["STORAGE_URI"]
"""


@pytest.fixture
def web():
    with storage_servers.file_server() as server:
        yield server


@pytest.mark.parametrize("version", interpreters.few())
def test_workers_start_with_the_model(
    version: str, serve: Serve, web: FileServer, tmp_path: Path
) -> None:
    web.files["/m.txt"] = b"weights"
    digest = hashlib.sha256(b"weights").hexdigest()
    env = {"STORAGE_URI": f"{web.url}/m.txt", "STORAGE_SHA256": digest}
    models = str(tmp_path / "models")
    processor = serve(HANDLER, version=version, env=env, models=models)
    assert processor.send().body.decode() == f"weights {models}"
    assert processor.records(message=f"downloading {web.url}/m.txt: 1 files, 0.0 MiB")


def test_a_model_in_the_folder_of_the_code_is_found(serve: Serve, tmp_path: Path) -> None:
    code = tmp_path / "source"
    (code / "weights").mkdir(parents=True)
    (code / "weights" / "m.txt").write_text("weights")
    (code / "main.py").write_text(HANDLER)
    env = {
        "STORAGE_URI": "file:///opt/nuclio/weights",
        "STORAGE_SHA256": hashlib.sha256(b"weights").hexdigest(),
    }
    models = str(tmp_path / "models")
    processor = serve(HANDLER, env=env, models=models, mount="/opt/nuclio", code=str(code))
    assert processor.send().body == b"weights /opt/nuclio/weights"


def test_a_missing_model_is_the_reason_until_it_appears(
    serve: Serve, web: FileServer, tmp_path: Path
) -> None:
    env = {"STORAGE_URI": f"{web.url}/m.txt"}
    processor = serve(HANDLER, env=env, models=str(tmp_path / "models"), wait="unhealthy")
    status = processor.status()
    assert "/m.txt cannot be read: 404" in status["reason"]
    assert processor.admin("/ready").status == 503
    web.files["/m.txt"] = b"late"
    processor.await_state("ready")
    assert processor.send().body.startswith(b"late ")
    assert len(processor.records(level="error")) == 1


def test_a_server_that_answers_something_else_is_the_reason(
    serve: Serve, web: FileServer, tmp_path: Path
) -> None:
    text = b"<List><Contents><Key>a</Key><Size>large</Size></Contents></List>"
    web.documents["/bucket/?encoding-type=url&list-type=2&prefix=a"] = (200, {}, text)
    env = {"STORAGE_URI": "s3://bucket/a", "AWS_ENDPOINT_URL": web.url}
    processor = serve(HANDLER, env=env, models=str(tmp_path / "models"), wait="unhealthy")
    assert "ValueError: invalid literal" in processor.status()["reason"]


def test_a_processor_can_end_during_the_download(
    serve: Serve, web: FileServer, tmp_path: Path
) -> None:
    env = {"STORAGE_URI": f"{web.url}/m.txt"}
    processor = serve(HANDLER, env=env, models=str(tmp_path / "models"), wait="unhealthy")
    assert processor.end() == 0


def test_a_local_model_is_used_in_place(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "m.txt").write_text("local")
    env = {"STORAGE_URI": f"file://{tmp_path}"}
    processor = serve(HANDLER, env=env, models=str(tmp_path / "models"))
    assert processor.send().body.decode() == f"local {tmp_path}"


def test_an_invalid_uri_is_the_reason(serve: Serve, tmp_path: Path) -> None:
    env = {"STORAGE_URI": "ftp://example.com/m"}
    processor = serve(HANDLER, env=env, models=str(tmp_path / "models"), wait="unhealthy")
    assert "the scheme 'ftp' is not supported" in processor.status()["reason"]


def test_workers_that_die_start_again_without_a_download(
    serve: Serve, web: FileServer, tmp_path: Path
) -> None:
    web.files["/m.txt"] = b"weights"
    env = {"STORAGE_URI": f"{web.url}/m.txt"}
    crash = HANDLER.replace("    return", "    if event.body: os._exit(3)\n    return")
    processor = serve(crash, env=env, models=str(tmp_path / "models"))
    requests = len(web.requests)
    assert processor.send(json.dumps({})).status == 500
    eventually(lambda: processor.send(method="GET").status == 200)
    assert len(web.requests) == requests
