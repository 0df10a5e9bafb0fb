"""Isolated functions: files they cannot read, and features that still work."""

from __future__ import annotations

import json
import os
import signal
import tempfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from fnbuild import trees
from fnbuild.deploy import pipeline
from fnbuild.errors import InputError, NotReadyError, PlatformError, PreconditionError
from fnbuild.platforms import FunctionKey
from fnbuild.platforms.process import ProcessPlatform, supervisor_client
from fnbuild.platforms.process.isolation import inaccessible_part, isolated_users
from fnbuild.platforms.process.layout import control_socket, launch_path
from fnbuild.platforms.process.processor_client import read_status
from tests import storage_servers
from tests.platforms.group_members import annotate, sleep_state
from tests.platforms.process.author import (
    NAMESPACE,
    Author,
    alive,
    end_everything,
    invoke,
    processes,
    wait_for,
)
from tests.platforms.process.test_builds import source_package
from tests.runtime.grpc_server.inference import Client, number

pytestmark = pytest.mark.system

SPY = """
import json
import os
import socket

import nuclio_sdk


def attempt(action):
    try:
        action()
    except OSError as error:
        return type(error).__name__
    return "allowed"


def connect_to(path):
    with socket.socket(socket.AF_UNIX) as link:
        link.connect(path)


def init_context(context):
    with open(os.path.join(os.path.expanduser("~"), "cache"), "w") as file:
        file.write("mine")
    with open(os.environ["TMPDIR"] + "/x", "w") as file:
        file.write("mine")


def handler(context, event):
    if event.path == "/call":
        answer = context.platform.call_function("victim", nuclio_sdk.Event(body="", method="GET"))
        return answer.body
    if event.path == "/own":
        with open("/opt/nuclio/main.py") as file:
            return {"code": len(file.read()), "groups": os.getgroups(), "user": os.getuid(),
                    "secret": os.environ.get("SECRET")}
    request = json.loads(event.body)
    results = {path: attempt(lambda: open(path).read()) for path in request["files"]}
    results.update((path, attempt(lambda: os.listdir(path))) for path in request["folders"])
    results.update((path, attempt(lambda: connect_to(path))) for path in request["sockets"])
    results["kill"] = attempt(lambda: os.kill(request["pid"], 0))
    for path in request["written"]:
        results["write " + path] = attempt(lambda: open(path, "a"))
    return results
"""

SECRET = "env:\n- name: SECRET\n  value: of-the-victim"


@pytest.fixture
def data(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A data directory with isolation, on a path that all users may traverse."""
    if os.geteuid() != 0:
        pytest.skip("separate users need root")
    if inaccessible_part("/usr/bin/python3.11") or not os.access("/usr/bin/python3.11", os.X_OK):
        pytest.skip("there is no Python 3.11 here that every user may run")
    top = Path(tempfile.mkdtemp(prefix="fnbuild-isolation-"))
    top.chmod(0o711)
    folder = top / "data"
    folder.mkdir(mode=0o700)
    (folder / "platform.yaml").write_text("isolate: users\nusers: 1900000100-1900000101\n")
    monkeypatch.setenv("FNBUILD_DATA_DIR", str(folder))
    try:
        yield folder
        ProcessPlatform().down()
        assert wait_for(lambda: not processes(folder))
    finally:
        for pid in processes(folder):
            os.kill(pid, signal.SIGKILL)
        trees.remove(top)


def user_of(pid: int) -> int:
    return Path(f"/proc/{pid}").stat().st_uid


def test_a_function_cannot_access_files_of_another(
    data: Path, platform: ProcessPlatform, author: Author
) -> None:
    victim = author.deploy(author.write("private", name="victim", spec=SECRET))
    spy = author.deploy(author.write_code(SPY, name="spy"))
    (data / "session.key").touch(mode=0o600)
    running = supervisor_client.running_supervisor()
    assert running is not None
    pid, worker = victim.details["pid"], victim.details["workers"][0]["pid"]
    assert user_of(pid) == user_of(worker) == 1900000100
    assert user_of(spy.details["workers"][0]["pid"]) == 1900000101
    assert json.loads((data / "users.json").read_text()) == {
        "nuclio/victim": 1900000100,
        "nuclio/spy": 1900000101,
    }

    folder = data / "functions" / NAMESPACE / "victim"
    key = FunctionKey(NAMESPACE, "victim")
    files = [
        *(folder / "revisions/1" / name for name in ("code/main.py", "processor.json")),
        *(data / name for name in ("fnbuild.db", "session.key", "users.json", "supervisor.log")),
        *(
            f"/proc/{process}/{name}"
            for process in (pid, worker, running.pid)
            for name in ("environ", "mem")
        ),
        folder / "log.jsonl",
        folder / "home/.profile",
        launch_path(key, 1),
        f"/proc/{worker}/root/opt/nuclio/main.py",
    ]
    folders = [data, folder, folder / "home", data / "run", data / "functions", f"/proc/{pid}/fd"]
    sockets = [control_socket(key, 1), data / "run/supervisor.sock"]
    written = [spy.details["code"] + "/main.py", spy.details["code"] + "/new.py", str(data / "new")]
    request = {
        "files": [str(file) for file in files],
        "folders": [str(folder) for folder in folders],
        "sockets": [str(path) for path in sockets],
        "written": written,
        "pid": pid,
    }
    answers = json.loads(post(spy.http_port, json.dumps(request)))
    assert len(answers) == len(files) + len(folders) + len(sockets) + len(written) + 1
    errors = {"PermissionError", "FileNotFoundError"}
    allowed = {action: outcome for action, outcome in answers.items() if outcome not in errors}
    assert allowed == {}
    # Missing files look like inaccessible ones, except directly in the last folder.
    assert answers[str(folder / "revisions/1/code/main.py")] == "PermissionError"
    assert answers[str(data / "fnbuild.db")] == "PermissionError"
    assert answers["kill"] == "PermissionError"

    own_report = json.loads(invoke(spy.http_port, "/own"))
    assert own_report["user"] == 1900000101
    assert own_report["code"] == len(SPY)
    assert own_report["groups"] in ([], [1900000101], [65534])
    assert own_report["secret"] is None
    # Functions can still call one another.
    assert invoke(spy.http_port, "/call") == "private"


def post(port: int, body: str) -> str:
    request = urllib.request.Request(f"http://127.0.0.1:{port}/", body.encode())
    with urllib.request.urlopen(request, timeout=60) as reply:
        return str(reply.read().decode())


def test_an_isolated_function_serves_grpc_as_its_own_user(
    data: Path, platform: ProcessPlatform, author: Author
) -> None:
    spec = "triggers: {web: {kind: http, attributes: {protocols: [grpc]}}}"
    deployment = author.deploy(author.write("one", spec=spec))
    assert deployment.warnings == ()
    request = number("x", 1)
    request.model_name = "greeter"
    with Client(f"127.0.0.1:{deployment.grpc_port}") as client:
        answer = client.infer(request)
    assert answer.outputs[0].contents.bytes_contents[0] == b'"one"'
    status = read_status(control_socket(FunctionKey(NAMESPACE, "greeter"), 1))
    children = Path(f"/proc/{status.pid}/task/{status.pid}/children").read_text().split()
    assert {user_of(int(pid)) for pid in children} == {1900000100}


def test_an_isolated_function_supports_all_operations(
    data: Path, platform: ProcessPlatform, author: Author
) -> None:
    first = author.deploy(author.write("one"))
    second = author.deploy(author.write("two"))
    assert invoke(second.http_port) == "two"
    assert user_of(second.details["pid"]) == user_of(second.details["workers"][0]["pid"])
    assert wait_for(lambda: not alive(first.details["pid"]))

    os.kill(second.details["workers"][0]["pid"], signal.SIGKILL)
    assert wait_for(lambda: platform.deployment(NAMESPACE, "greeter").state == "ready")
    os.kill(second.details["pid"], signal.SIGKILL)
    assert wait_for(lambda: platform.deployment(NAMESPACE, "greeter").state == "ready")
    assert invoke(second.http_port) == "two"

    running = supervisor_client.running_supervisor()
    assert running is not None
    before = platform.deployment(NAMESPACE, "greeter").details["pid"]
    os.kill(running.pid, signal.SIGKILL)
    assert wait_for(lambda: not alive(running.pid))
    assert invoke(second.http_port) == "two"
    platform.up()
    assert platform.deployment(NAMESPACE, "greeter").details["pid"] == before, "adopted"

    platform.rollback(NAMESPACE, "greeter", None, author.progress.append)
    assert invoke(second.http_port) == "one"
    end_everything(data)
    platform.up()
    assert invoke(second.http_port) == "one"
    pid = platform.deployment(NAMESPACE, "greeter").details["pid"]
    assert user_of(pid) == 1900000100
    assert platform.delete(NAMESPACE, "greeter") is True
    assert not (data / "functions" / NAMESPACE / "greeter").exists()
    # The same name gets the same user.
    redeployed = author.deploy(author.write("three"))
    assert user_of(redeployed.details["pid"]) == 1900000100


@pytest.mark.usefixtures("platform")
def test_the_model_of_a_function_belongs_to_its_user(data: Path, author: Author) -> None:
    code = """
        import os

        def handler(context, event):
            return open(os.path.join(os.environ["STORAGE_URI"], "m.txt")).read()
    """
    with storage_servers.file_server() as web:
        web.files["/m.txt"] = b"weights"
        spec = f"env:\n- name: STORAGE_URI\n  value: {web.url}/m.txt"
        deployed = author.deploy(author.write_code(code, spec=spec))
    assert invoke(deployed.http_port) == "weights"
    (file,) = (data / "functions" / NAMESPACE / "greeter" / "home").rglob("m.txt")
    assert file.stat().st_uid == 1900000100


def test_users_of_deleted_functions_are_reused(
    data: Path, platform: ProcessPlatform, author: Author
) -> None:
    for name in ("first", "second"):
        author.deploy(author.write(name=name))
    with pytest.raises(PlatformError, match="every user from 1900000100 to 1900000101"):
        author.deploy(author.write(name="third"))
    platform.delete(NAMESPACE, "first")
    deployment = author.deploy(author.write(name="third"))
    assert user_of(deployment.details["pid"]) == 1900000100


@pytest.mark.usefixtures("data", "platform")
def test_requirements_are_shared_and_read_only(tmp_path: Path, author: Author) -> None:
    code = """
        import os
        from importlib.metadata import distribution

        def handler(context, event):
            place = distribution("tiny").locate_file("")
            return [distribution("tiny").version, os.access(str(place), os.W_OK)]
        """
    folder = author.write_code(code)
    source_package(tmp_path, "tiny")
    (folder / "requirements.txt").write_text(f"--no-index\n--find-links {tmp_path}\ntiny\n")
    deployment = author.deploy(folder)
    assert json.loads(invoke(deployment.http_port)) == ["1", False]


def test_isolation_needs_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, author_at: Path
) -> None:
    (author_at / "platform.yaml").write_text("isolate: users\n")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(PreconditionError, match="requires root") as error:
        pipeline.deploy(pipeline.DeployRequest(path=Author(tmp_path).write()), print)
    assert "isolate: none" in (error.value.hint or "")


@pytest.fixture
def author_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    monkeypatch.setenv("FNBUILD_DATA_DIR", str(folder))
    return folder


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("isolate: users\nusers: 5-1\n", "is not a range of users"),
        ("isolate: users\nusers: 0-10\n", "is not a range of users"),
        ("isolate: containers\n", "isolate"),
        ("isolated: users\n", "isolated"),
        ("[", "platform.yaml"),
    ],
)
def test_an_invalid_isolation_configuration_is_refused(
    author_at: Path, text: str, message: str
) -> None:
    (author_at / "platform.yaml").write_text(text)
    with pytest.raises(InputError, match=message):
        isolated_users()
    (author_at / "platform.yaml").write_text("isolate: none\n")
    assert isolated_users() is None


def test_the_inaccessible_folder_of_a_path_is_named(tmp_path: Path) -> None:
    file = tmp_path / "open" / "file"
    file.parent.mkdir()
    file.touch(mode=0o644)
    closed = inaccessible_part(str(file))
    assert closed
    assert str(file).startswith(closed)
    assert inaccessible_part("/usr/bin/env") == ""


def test_the_import_check_runs_as_the_user_of_the_function(
    data: Path, platform: ProcessPlatform, author: Author
) -> None:
    gpu = "resources:\n  limits:\n    nvidia.com/gpu: 1"
    author.deploy(author.write("old", spec=gpu))
    code = "import os\nraise ValueError(f'user {os.getuid()}, {os.getgroups()}')\n"
    with pytest.raises(NotReadyError, match=r"user 190000010\d, \[\]") as failure:
        author.deploy(author.write_code(code, spec=gpu))
    assert failure.value.hint == "revision 1 goes on serving"
    deployment = author.deploy(author.write("new", spec=gpu))
    assert invoke(deployment.http_port) == "new"
    assert not [line for line in author.progress if "inconclusive" in line]


def test_isolated_functions_share_a_gpu_group(
    author: Author, platform: ProcessPlatform, data: Path
) -> None:
    first = author.deploy(annotate(author.write("one", name="one")))
    second = author.deploy(annotate(author.write("two", name="two")))
    assert invoke(first.http_port) == "one"
    assert sleep_state(platform.deployment(NAMESPACE, "two")) == "asleep"
    assert invoke(second.http_port) == "two"
    assert (data / "gpu-groups").stat().st_mode & 0o777 == 0o700
