"""TorchServe on this machine with one server for most tests: deploys, failures, commands."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import sys
import threading
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from fnbuild.cli.app import run
from fnbuild.deploy import pipeline
from fnbuild.errors import (
    ConflictError,
    InputError,
    NotFoundError,
    NotReadyError,
    StoreError,
    UnavailableError,
    UsageError,
)
from fnbuild.function.types import Function, Spec
from fnbuild.platforms import Deployment, FunctionKey, lookup
from fnbuild.platforms.process.supervisor_client import is_alive
from fnbuild.platforms.torchserve import keeper, layout
from fnbuild.platforms.torchserve.server import LocalServer
from fnbuild.store import FunctionRow
from tests.engine import free_port, until
from tests.platforms.torchserve.conftest import use_data_directory

pytestmark = pytest.mark.system

KEY = FunctionKey("nuclio", "greeter")
CODE = """\
import time

def init_context(context):
    context.logger.info("the model is loaded")

def handler(context, event):
    time.sleep(float(event.headers.get("Pause", "0.02")))
    return context.Response(body="WORD", content_type="text/plain")
"""

SHAPES = """\
import base64

def handler(context, event):
    header = base64.b64decode(event.body["image"])[16:24]
    size = [int.from_bytes(header[:4], "big"), int.from_bytes(header[4:], "big")]
    shape = {"confidence": "1", "label": "WORD", "points": [0, 0, *size], "type": "rectangle"}
    return [shape]
"""

TREE_CONFIG = """\
inference_address=http://0.0.0.0:8085
management_address=http://0.0.0.0:8085
metrics_address=http://0.0.0.0:8082
metrics_format=prometheus
gpu_id=0
token_expiration_min=1
model_store=/mnt/models/model-store\t# the folder in the container
install_py_dep_per_model=true\t\t# for requirements.txt
model_snapshot={"name": "startup.cfg", "modelCount": 1, "models": {"my_model": {"1.0": {\
"defaultVersion": true, "marName": "my_model.mar", "minWorkers": 1, "maxWorkers": 3,\
"batchSize": 4, "maxBatchDelay": 100, "responseTimeout": 120}, "0.9": {\
"defaultVersion": false, "marName": "a_first_one.mar", "minWorkers": 1, "maxWorkers": 1,\
"batchSize": 1, "maxBatchDelay": 100, "responseTimeout": 120}}}}
"""


class Author:
    """A user who deploys the function `greeter` again and again."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.platform = lookup("torchserve")
        self.progress: list[str] = []
        folder.mkdir()

    def deploy(self, word: str, code: str = CODE, **settings: Any) -> Deployment:
        self.write(word, code, **settings)
        request = pipeline.DeployRequest(path=self.folder, platform="torchserve")
        return pipeline.deploy(request, self.progress.append)

    def write(self, word: str, code: str = CODE, **settings: Any) -> None:
        config = {
            "metadata": {"name": "greeter"},
            "spec": {
                "handler": "main:handler",
                "runtime": "python:3.11",
                "eventTimeout": "30s",
                "platform": {"attributes": {"torchserve": {"keep": 2, **settings}}},
            },
        }
        (self.folder / "function.yaml").write_text(yaml.safe_dump(config))
        (self.folder / "main.py").write_text(code.replace("WORD", word))

    @property
    def server(self) -> LocalServer:
        return layout.server_of(KEY)

    @property
    def deployment(self) -> Deployment:
        return self.platform.deployment(*KEY)

    def await_ready(self) -> None:
        until("readiness", lambda: self.deployment.state == "ready", 120)

    def ask(self, *, token: bool = True, pause: str = "0.02") -> tuple[int, str]:
        headers = self.platform.request_headers(self.deployment) if token else {}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request("POST", "/predictions/greeter", b"x", {**headers, "Pause": pause})
            reply = connection.getresponse()
            return reply.status, reply.read().decode()
        finally:
            connection.close()

    @property
    def port(self) -> int:
        state = self.server.state
        assert state is not None
        return state.config.port("inference_address")

    def archives(self, place: str = "model-store") -> list[str]:
        folder = layout.function_folder(KEY) / "store" / place
        return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


@pytest.fixture(scope="module")
def author(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Author]:
    """An author whose function is deployed; the tests leave it ready."""
    folder = tmp_path_factory.mktemp("machine")
    with pytest.MonkeyPatch.context() as patch:
        data = use_data_directory(folder / "data", patch)
        next(data)
        author = Author(folder / "greeter")
        author.deploy("hello")
        yield author
        next(data, None)


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    yield from use_data_directory(tmp_path / "data", monkeypatch)


class Clients:
    """Clients that send requests without a pause until they are stopped."""

    def __init__(self, author: Author, count: int):
        self._headers = author.platform.request_headers(author.deployment)
        self._port = author.port
        self._over = threading.Event()
        self.replies: list[tuple[int, str]] = []
        self._threads = [threading.Thread(target=self._send) for _ in range(count)]

    def _send(self) -> None:
        while not self._over.is_set():
            connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
            try:
                connection.request("POST", "/predictions/greeter", b"x", self._headers)
                reply = connection.getresponse()
                self.replies.append((reply.status, reply.read().decode()))
            except (OSError, http.client.HTTPException) as error:
                self.replies.append((0, str(error)))
            finally:
                connection.close()

    def __enter__(self) -> Clients:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()


def test_no_request_is_lost_in_deploys_failures_and_rollbacks(author: Author) -> None:
    author.deploy("one")
    stored, state = author.archives(), author.server.state
    with Clients(author, 2) as clients:
        with pytest.raises(NotReadyError, match="No module named 'nowhere_to_be_found'") as failure:
            author.deploy("broken", "import nowhere_to_be_found\n" + CODE)
        assert author.archives() == stored
        assert author.server.state == state
        author.deploy("two")
        author.deploy("three")
        author.platform.rollback(*KEY, None, author.progress.append)
    # The handler's own traceback, without TorchServe's misleading second error.
    assert "import nowhere_to_be_found" in (failure.value.detail or "")
    assert "ts.torch_handler" not in (failure.value.detail or "")
    assert "model_service_worker" not in (failure.value.detail or "")
    assert {status for status, _ in clients.replies} == {200}
    words = [word for _, word in clients.replies]
    assert (set(words), words[-1]) == ({"one", "two", "three"}, "two")
    [version] = author.server.management.describe("greeter")
    assert version.model_url == author.deployment.details["archive"]


def test_old_archives_move_to_the_backup_beside_the_store(author: Author) -> None:
    for word in ("four", "five", "six"):
        author.deploy(word)
    kept, moved = author.archives(), author.archives("backup")
    assert len(kept) == 2
    assert all(old < new for old in moved for new in kept)
    assert author.deployment.details["archive"] == kept[-1]
    first = author.platform.revisions(*KEY)[-1].number
    author.platform.rollback(*KEY, first, author.progress.append)
    assert author.ask() == (200, "hello")
    assert author.deployment.details["archive"] in author.archives()
    assert len(author.archives()) == 2
    assert len({*author.archives("backup"), *author.archives()}) == len({*moved, *kept})


def test_an_image_is_sent_as_cvat_sends_it(
    author: Author, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    author.deploy("shape", SHAPES)
    picture = tmp_path / "in.png"
    Image.new("RGB", (9, 7)).save(picture)
    assert run(["invoke", "greeter", "--platform", "torchserve", "--image", str(picture)]) == 0
    [shape] = json.loads(capsys.readouterr().out)
    assert (shape["label"], shape["points"]) == ("shape", [0, 0, 9, 7])


def test_an_unchanged_deploy_changes_nothing(author: Author) -> None:
    revision = author.deploy("same").revision
    author.progress.clear()
    assert author.deploy("same").revision == revision
    assert any("nothing has changed" in line for line in author.progress)


def test_a_long_request_of_the_old_version_is_answered(author: Author) -> None:
    author.deploy("before")
    replies: list[tuple[int, str]] = []
    thread = threading.Thread(target=lambda: replies.append(author.ask(pause="4")))
    thread.start()
    time.sleep(0.5)
    author.deploy("after")
    thread.join()
    assert replies == [(200, "before")]
    assert author.ask() == (200, "after")


def test_requests_need_the_token(author: Author) -> None:
    status, text = author.ask(token=False)
    assert (status, json.loads(text)["type"]) == (400, "InvalidKeyException")
    key_file = author.server.folder / "key_file.json"
    assert key_file.stat().st_mode & 0o077 == 0
    token = author.server.token("inference")
    assert token
    assert token not in author.server.log.read_text()


def test_commands_manage_the_models(
    author: Author, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def fnbuild(*words: str) -> str:
        assert run(words) == 0, capsys.readouterr().err
        return capsys.readouterr().out

    author.deploy("managed")
    [active] = author.server.management.describe("greeter")
    listed = fnbuild("torchserve", "models", "greeter", "-o", "wide")
    assert active.model_version in listed
    assert "1/1" in listed
    assert author.deployment.message == ""
    assert fnbuild("torchserve", "token", "greeter") == f"{author.server.token('inference')}\n"
    fnbuild("torchserve", "scale", "greeter", "--min-workers", "2")
    [described] = yaml.safe_load(fnbuild("torchserve", "describe", "greeter"))
    assert [worker["status"] for worker in described["workers"]] == ["READY", "READY"]
    other = next(name for name in author.archives() if name != active.model_url)
    fnbuild("torchserve", "register", "greeter", other)
    version = other.removeprefix("greeter_").removesuffix(".mar")
    fnbuild("torchserve", "set-default", "greeter", version)
    assert author.server.management.describe("greeter", "")[0].model_version == version
    assert f"version {version} was made the default" in author.deployment.message
    fnbuild("torchserve", "unregister", "greeter", active.model_version)
    assert other in author.archives()
    assert active.model_url in author.archives()
    assert run(["torchserve", "unregister", "greeter", "9"]) == 1
    assert "Model version: 9 does not exist" in capsys.readouterr().err
    assert run(["torchserve", "register", "greeter", other]) == 1
    assert "409: Model version" in capsys.readouterr().err
    assert run(["torchserve", "models", "nothing"]) == 1
    with author.platform.reserve(author.deployment.function, author.progress.append):
        assert run(["torchserve", "scale", "greeter", "--min-workers", "1"]) == 1
    assert "greeter is being deployed" in capsys.readouterr().err
    # The next deploy replaces whatever is registered.
    author.deploy("deployed")
    assert author.ask() == (200, "deployed")
    assert len(author.server.management.describe("greeter")) == 1


def test_a_killed_server_is_started_again(author: Author) -> None:
    before = author.server.process
    assert before is not None
    [java] = children(before.pid, "java")
    os.kill(java, signal.SIGKILL)
    until("another server", lambda: author.server.process not in (None, before), 60)
    author.await_ready()
    assert author.ask()[0] == 200
    restarts = author.platform.restarts("nuclio")["greeter"]
    assert restarts.count == 1
    assert "the server ended" in restarts.reason
    # The folders of the first server's models are gone.
    assert len(list((author.server.folder / "tmp/models").iterdir())) == 1


def test_a_killed_worker_is_started_again(author: Author) -> None:
    [worker] = author.deployment.workers
    assert worker.pid is not None
    os.kill(worker.pid, signal.SIGKILL)
    until("another worker", lambda: worker not in author.deployment.workers)
    author.await_ready()
    assert author.ask()[0] == 200


def test_a_server_without_its_keeper_serves_until_it_is_adopted(author: Author) -> None:
    server = author.server.process
    holder = json.loads((author.server.folder / keeper.LOCK_NAME).read_text())
    os.kill(holder["pid"], signal.SIGKILL)
    until("the end of the keeper", lambda: not author.server.is_kept)
    assert author.ask()[0] == 200
    assert author.deployment.state == "ready"
    assert KEY in author.platform.functions_to_restore()
    assert author.platform.restore(author.progress.append) == ("greeter",)
    assert author.server.is_kept
    assert author.server.process == server
    assert author.platform.functions_to_restore() == []


def test_a_server_that_has_lost_its_keeper_and_its_launcher_can_be_replaced(
    author: Author,
) -> None:
    server = author.server.process
    assert server is not None
    [java] = children(server.pid, "java")
    holder = json.loads((author.server.folder / keeper.LOCK_NAME).read_text())
    os.kill(holder["pid"], signal.SIGKILL)
    os.kill(server.pid, signal.SIGKILL)
    until("the end of the keeper", lambda: not author.server.is_kept)
    assert is_alive(java)
    author.deploy("replaced")
    assert not is_alive(java)
    assert author.ask() == (200, "replaced")


def test_a_configuration_that_cannot_be_written_leaves_the_old_version(author: Author) -> None:
    author.deploy("kept")
    stored, before = author.archives(), author.server.management.models()
    backed_up, oldest = author.archives("backup"), author.platform.revisions(*KEY)[-1].number
    draft = layout.function_folder(KEY) / "store/config/config.properties.new"
    draft.mkdir()
    with pytest.raises(StoreError, match=f"cannot write {draft}"):
        author.deploy("never")
    with pytest.raises(StoreError, match=f"cannot write {draft}"):
        author.platform.rollback(*KEY, oldest, author.progress.append)
    draft.rmdir()
    assert author.ask() == (200, "kept")
    assert (author.archives(), author.archives("backup")) == (stored, backed_up)
    after = author.server.management.models()
    assert [item.model_url for item in after] == [item.model_url for item in before]


def test_a_token_that_the_server_does_not_accept_is_not_a_start(author: Author) -> None:
    file = author.server.folder / "key_file.json"
    text = file.read_text()
    file.write_text(text.replace(json.loads(text)["management"]["key"], "wrong"))
    assert author.deployment.state == "unhealthy"
    assert "`fnbuild redeploy greeter`" in author.deployment.message
    file.write_text(text)
    assert author.deployment.state == "ready"


def test_another_configuration_of_the_server_restarts_it(author: Author) -> None:
    author.progress.clear()
    author.deploy("open", tokens=False)
    assert any("the server restarts" in line for line in author.progress)
    assert author.ask(token=False) == (200, "open")
    assert any("without tokens" in text for text in author.progress)
    author.deploy("everything", loadModels="all")
    [path] = author.deployment.external_urls
    assert path.endswith(author.deployment.details["archive"].removesuffix(".mar"))
    author.deploy("more", loadModels="all")
    # The archive of the rollback is served as a model of its own already.
    author.platform.rollback(*KEY, None, author.progress.append)
    assert author.deployment.external_urls == (path,)
    author.deploy("closed")
    assert author.ask(token=False)[0] == 400
    assert author.ask() == (200, "closed")


def test_a_port_of_another_program_leaves_the_old_server(author: Author) -> None:
    author.deploy("working")
    with socket.create_server(("127.0.0.1", free_port())) as other:
        port = other.getsockname()[1]
        with pytest.raises(UnavailableError, match=f"port {port} is in use by"):
            author.deploy("broken", ports={"metrics": port})
    assert author.ask() == (200, "working")
    assert author.platform.revisions(*KEY)[0].state == "failed"


def test_a_deleted_function_leaves_no_process(author: Author) -> None:
    server, name = author.server, author.server.folder
    process = server.process
    assert process is not None
    assert author.platform.delete(*KEY)
    assert not name.exists()
    until("the end of its processes", lambda: not list(group(process.pid)))
    author.deploy("hello")


def children(pid: int, name: str) -> list[int]:
    """Return the processes with this name in the group of a process."""
    return [
        member for member in group(pid) if Path(f"/proc/{member}/comm").read_text().strip() == name
    ]


def group(leader: int) -> Iterator[int]:
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                if os.getpgid(int(folder.name)) == leader:
                    yield int(folder.name)
            except ProcessLookupError:
                continue


def test_a_first_server_that_dies_leaves_nothing_running(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JAVA_TOOL_OPTIONS", "-Xnonsense")
    author = Author(tmp_path / "greeter")
    with pytest.raises(NotReadyError, match="TorchServe ended while it started") as failure:
        author.deploy("never")
    assert "Unrecognized option: -Xnonsense" in (failure.value.detail or "")
    assert (author.server.process, author.server.is_kept) == (None, False)
    assert author.archives() == []
    assert author.archives("config") == []
    assert author.deployment.state == "error"


@pytest.mark.parametrize("name", ["config", "model-store"])
def test_a_store_that_cannot_be_written_is_one_clear_error(
    data: Path, tmp_path: Path, name: str
) -> None:
    store = tmp_path / "models"
    store.mkdir()
    (store / name).write_text("a file in place of the folder")
    author = Author(tmp_path / "greeter")
    with pytest.raises((InputError, StoreError), match=f"cannot write {store}/{name}") as failure:
        author.deploy("never", store=str(store))
    assert failure.value.hint
    assert [path for path in store.rglob("*") if path.is_file()] == [store / name]
    assert author.server.process is None


def test_a_tree_of_archives_is_served_as_it_is(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The configuration is that of a container: paths below /mnt/models, one port for two APIs."""
    tree = tmp_path / "tree"
    (tree / "config").mkdir(parents=True)
    write_archive(tree / "model-store/my_model.mar", "my_model", "one")
    write_archive(tree / "model-store/a_first_one.mar", "my_model", "zero", version="0.9")
    config = tree / "config/config.properties"
    config.write_text(TREE_CONFIG)
    unchanged = run(["validate", str(tree), "--fix"])
    assert unchanged == 0, capsys.readouterr().err
    deploy = ["deploy", "--platform", "torchserve", "--path", str(tree)]
    assert run(deploy) == 0
    warnings = capsys.readouterr().err
    assert "under KServe" not in warnings
    text = config.read_text()
    platform = lookup("torchserve")
    deployment = platform.deployment("nuclio", "my_model")
    assert (deployment.state, len(deployment.workers)) == ("ready", 1)
    server = layout.server_of(FunctionKey("nuclio", "my_model"))
    assert len(server.management.describe("my_model")) == 2
    state = server.state
    assert state is not None
    assert int(state.config.other["token_expiration_min"]) > 1_000_000
    assert run(["invoke", "--platform", "torchserve", "my_model", "-b", "x"]) == 0
    assert capsys.readouterr().out.endswith("one")
    write_archive(tree / "model-store/my_model.mar", "my_model", "two")
    assert run(deploy) == 0, capsys.readouterr().err
    platform.rollback("nuclio", "my_model", None, print)
    capsys.readouterr()
    assert run(["invoke", "--platform", "torchserve", "my_model", "-b", "x"]) == 0
    assert capsys.readouterr().out.endswith("one")
    assert config.read_text() == text
    config.write_text(text.replace("my_model.mar", "other.mar"))
    assert run(deploy) == 1
    assert "has no other.mar" in capsys.readouterr().err
    config.write_text(text.partition("model_snapshot")[0])
    assert run(deploy) == 1
    assert "config.properties names no models" in capsys.readouterr().err


def write_archive(path: Path, model: str, reply: str, version: str = "1.0") -> None:
    path.parent.mkdir(exist_ok=True)
    manifest = {"modelName": model, "modelVersion": version, "handler": "handler.py:handle"}
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(
            "handler.py",
            f"def handle(data, context):\n    return ['{reply}' for _ in data or ()]\n",
        )
        archive.writestr("MAR-INF/MANIFEST.json", json.dumps({"model": manifest}))


@pytest.mark.parametrize("store", ["models", "link", "models/model-store/mine", "."])
def test_two_functions_cannot_share_a_store(data: Path, tmp_path: Path, store: str) -> None:
    """The stores may be one folder, or one may be in the other, which TorchServe would load."""
    author = Author(tmp_path / "greeter")
    used = tmp_path / "models"
    if store == ".":
        used = tmp_path / "model-store/models"
    (tmp_path / "link").symlink_to(used)
    with layout.open_records() as records:
        for name, folder in (("imported", "pvc://claim"), ("other", str(used))):
            attributes = {"torchserve": {"store": folder}}
            config = {"metadata": {"name": name}, "spec": {"platform": {"attributes": attributes}}}
            records.put_function(FunctionRow("nuclio", name, config=config))
    with pytest.raises(ConflictError, match="belongs to the function nuclio/other"):
        author.deploy("never", store=str(tmp_path / store))
    assert not used.exists()


@pytest.mark.parametrize(
    ("store", "text"),
    [("models", "not the absolute path"), ("pvc://claim/models", "is in a cluster")],
)
def test_a_store_on_this_machine_is_a_folder(
    data: Path, tmp_path: Path, store: str, text: str
) -> None:
    with pytest.raises(UsageError, match=text):
        Author(tmp_path / "greeter").deploy("never", store=store)


def test_python_and_java_are_checked_before_a_deploy(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    author = Author(tmp_path / "greeter")
    with pytest.raises(UnavailableError, match="has no torchserve") as missing:
        author.deploy("never", python=sys.executable)
    assert "-m pip install torchserve" in (missing.value.hint or "")
    with pytest.raises(UnavailableError, match="cannot be run"):
        author.deploy("never", python="/nowhere/python")
    runtime = Function(spec=Spec(runtime="python:3.8"))
    request = pipeline.DeployRequest(path=author.folder, platform="torchserve", overrides=runtime)
    author.write("never")
    with pytest.raises(UnavailableError, match="and TorchServe's is python") as old:
        pipeline.deploy(request, author.progress.append)
    assert "`--runtime python:3.11`" in (old.value.hint or "")
    monkeypatch.setenv("JAVA_HOME", "/nowhere")
    with pytest.raises(UnavailableError, match="there is no /nowhere/bin/java") as java:
        author.deploy("never")
    assert "default-jre-headless" in (java.value.hint or "")
    monkeypatch.delenv("FNBUILD_TORCHSERVE_PYTHON")
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    with pytest.raises(UnavailableError, match="no command torchserve"):
        author.deploy("never")
    with pytest.raises(NotFoundError):
        _ = author.deployment
