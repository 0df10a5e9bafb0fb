"""The parts of `processor`, the program in an image, that can be tested without an image."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fnbuild import names
from fnbuild.builder import sdk
from fnbuild.runtime import container
from fnbuild.runtime.access.credentials import VARIABLE
from tests import engine
from tests.runtime import interpreters
from tests.runtime.conftest import PATIENCE, ROOT, Serve, ask, eventually

pytestmark = pytest.mark.system

# The admin listener of an image has a fixed port, which several tests cannot have at a time.
PROGRAM = """
import sys
sys.path.insert(0, {root!r})
from fnbuild.runtime import container, health
health.PORT = {port}
sys.exit(container.main())
"""
READY = "def handler(context, event): return 'ok'"


def program(port: int, *arguments: str, python: str = sys.executable, **environ: str) -> Any:
    source = PROGRAM.format(root=str(ROOT), port=port)
    return subprocess.Popen(
        [python, "-IS", "-c", source, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environ},
    )


def run(port: int, *arguments: str, **more: Any) -> tuple[int, str, str]:
    process = program(port, *arguments, **more)
    out, err = process.communicate(timeout=3 * PATIENCE)
    return process.returncode, out, err


def test_the_code_is_in_the_folder_of_the_image() -> None:
    assert container.CODE_PATH == names.CODE_FOLDER


def port_of(running: Any, listener: str = "admin") -> int:
    return int(json.loads((running.folder / "ports").read_text())[listener])


@pytest.fixture
def free_port() -> int:
    return engine.free_port()


@pytest.fixture
def admin() -> Iterator[Callable[[list[bytes]], int]]:
    """`admin(answers)`: a listener that sends these answers in turn and then closes."""
    listeners = []

    def begin(answers: list[bytes]) -> int:
        listener = socket.create_server(("127.0.0.1", 0))
        listeners.append(listener)

        def serve() -> None:
            for answer in answers:
                connection, _address = listener.accept()
                with connection:
                    connection.recv(4096)
                    connection.sendall(answer)
            listener.close()

        threading.Thread(target=serve, daemon=True).start()
        return int(listener.getsockname()[1])

    yield begin
    for listener in listeners:
        listener.close()


def reply(status: int, value: Any) -> bytes:
    return b"HTTP/1.1 %d Words\r\nA: b\r\n\r\n" % status + json.dumps(value).encode()


@pytest.mark.parametrize("version", interpreters.every(interpreters.PYPY))
def test_health_and_status_of_a_processor(version: str, serve: Serve) -> None:
    processor = serve(READY)
    python = str(interpreters.find(version))
    port = port_of(processor)
    assert run(port, "--health", python=python) == (0, "{}\n", "")
    status, out, err = run(port, "--status", python=python)
    assert (status, err) == (0, "")
    assert json.loads(out)["state"] == "ready"
    status, out, _err = run(port, "--wait", "5", python=python)
    assert (status, json.loads(out)["state"]) == (0, "ready")


def test_a_failing_function_is_unhealthy_with_its_reason(serve: Serve) -> None:
    processor = serve("raise ValueError('no weights')", wait="unhealthy")
    status, out, _err = run(port_of(processor), "--wait", "20")
    assert (status, json.loads(out)["state"]) == (1, "unhealthy")
    assert "no weights" in json.loads(out)["message"]
    status, out, _err = run(port_of(processor), "--health")
    assert status == 1
    assert "no weights" in out


def test_a_processor_in_a_container_sleeps_and_wakes(serve: Serve) -> None:
    processor = serve(READY, control=False)
    port = port_of(processor)
    status, out, _err = run(port, "--sleep")
    assert (status, json.loads(out)["state"]) == (0, "asleep")
    assert processor.status()["sleep"]["state"] == "asleep"
    status, out, _err = run(port, "--wake")
    assert (status, json.loads(out)["state"]) == (0, "awake")


def test_without_a_processor_health_and_status_fail(free_port: int) -> None:
    status, out, _err = run(free_port, "--health")
    assert (status, out.startswith(f"no answer from 127.0.0.1:{free_port}: ")) == (1, True)
    status, out, err = run(free_port, "--status")
    assert (status, out) == (1, "")
    assert len(err.splitlines()) == 1
    status, out, _err = run(free_port, "--wait", "0.1")
    assert (status, json.loads(out)["state"]) == (1, "starting")


def test_waiting_ends_if_the_processor_ends(admin: Callable[[list[bytes]], int]) -> None:
    starting = reply(200, {"state": "starting", "message": "here"})
    status, out, _err = run(admin([starting, starting]), "--wait", "20")
    assert (status, json.loads(out)) == (1, {"state": "stopped", "message": "here"})


def test_waiting_continues_if_the_processor_is_busy(admin: Callable[[list[bytes]], int]) -> None:
    port = admin([b"", b"HTTP/1.1 2", reply(200, {"state": "ready"})])
    assert run(port, "--wait", "20")[0] == 0


@pytest.fixture(scope="session")
def releases() -> Path:
    """The folder with every release of nuclio_sdk."""
    return sdk.ensure_all_sdks()[0].parent


@pytest.mark.parametrize("version", interpreters.few())
def test_the_release_of_nuclio_sdk_fits_the_workers_python(
    version: str, releases: Path, serve: Serve, tmp_path: Path
) -> None:
    folder = tmp_path / "sdk"
    shutil.copytree(releases, folder)
    (folder / "9.9.9").mkdir()
    source = "import nuclio_sdk\ndef handler(context, event): return nuclio_sdk.__file__"
    processor = serve(source, version=version, sdk_path=str(folder))
    release = Path(processor.send().body.decode()).relative_to(folder).parts[0]
    assert release == ("0.5.13" if version == "3.6" else max(os.listdir(releases)))


@pytest.fixture
def config(tmp_path: Path, free_port: int, releases: Path) -> Path:
    """A configuration with its own listeners, since a test does not have the image's ports."""
    (tmp_path / "main.py").write_text(
        "import os, sys\ndef handler(context, event): return [sys.executable, sys.path[:2]]"
    )
    values = {
        "handler": "main:handler",
        "code": str(tmp_path),
        "sdk_path": str(releases),
        "listeners": {"http": {"port": free_port}},
    }
    path = tmp_path / "processor.json"
    path.write_text(json.dumps(values))
    return path


@contextlib.contextmanager
def serving(config: Path, port: int, **environ: str) -> Iterator[Any]:
    """Run a processor; return its output and the reply of its function."""
    with program(0, "--config", str(config), **environ) as process:

        def answers() -> Any:
            try:
                return ask("POST", f"http://127.0.0.1:{port}", "/")
            except ConnectionRefusedError:
                assert process.poll() is None, process.communicate()
                return None

        try:
            reply_ = eventually(answers)
            assert reply_.status == 200, reply_
            yield process, json.loads(reply_.body)
        finally:
            process.terminate()


@pytest.mark.parametrize("requested", [sys.executable, "python-of-the-model"])
def test_the_requested_interpreter_is_used(
    requested: str, config: Path, free_port: int, tmp_path: Path
) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python-of-the-model").symlink_to(sys.executable)
    path = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
    environ = {
        "NUCLIO_PYTHON_EXE_PATH": requested,
        "NUCLIO_PYTHON_PATH": "/extra:/more",
        "PATH": path,
    }
    with serving(config, free_port, **environ) as (process, output):
        assert Path(output[0]).name == Path(requested).name
        assert output[1] == [str(tmp_path), "/extra"]
        process.send_signal(signal.SIGTERM)
        records = [json.loads(line) for line in process.stdout.read().splitlines()]
        assert process.wait(PATIENCE) == 0
    assert {record["level"] for record in records} == {"info"}


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["python3", "python"], "python3"),
        (["python"], "python"),
        (["python2"], ""),
        ([], ""),
    ],
)
def test_without_a_requested_interpreter_path_is_searched(
    names: list[str], expected: str, config: Path, free_port: int, tmp_path: Path
) -> None:
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in names:
        if name == "python2":
            (folder / "python").write_text("#!/bin/sh\nexit 1\n")
            (folder / "python").chmod(0o755)
        else:
            (folder / name).symlink_to(sys.executable)
    wanted = str(folder / expected) if expected else sys.executable
    with serving(config, free_port, PATH=str(folder), NUCLIO_PYTHON_EXE_PATH="") as (_, output):
        assert output[0] == wanted


def test_spans_need_packages_of_site_packages(config: Path, free_port: int) -> None:
    """The processor's Python uses it only if an OTEL_ variable is set."""
    pytest.importorskip("opentelemetry.sdk")
    environ = {"OTEL_TRACES_EXPORTER": "none", "NUCLIO_PYTHON_EXE_PATH": sys.executable}
    with serving(config, free_port, **environ) as (process, _):
        process.terminate()
        assert "there are no spans" not in process.stdout.read()


@pytest.mark.parametrize(
    ("arguments", "environ", "expected"),
    [
        ([], {}, "/etc/nuclio/config/processor/processor.json cannot be read: No such file"),
        (["--config", "CONFIG"], {"NUCLIO_PYTHON_EXE_PATH": "/no/python"}, "=/no/python is not "),
        (["--config", "BROKEN"], {}, "is not JSON"),
    ],
)
def test_a_failed_start_is_reported_in_one_line(
    arguments: list[str], environ: dict[str, str], expected: str, config: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.json"
    broken.write_text("{")
    paths = {"CONFIG": str(config), "BROKEN": str(broken)}
    status, out, err = run(0, *[paths.get(word, word) for word in arguments], **environ)
    assert (status, err) == (2, "")
    (line,) = out.splitlines()
    record = json.loads(line)
    assert (record["level"], record["name"]) == ("error", "processor")
    assert expected in record["message"]


def test_unknown_commands() -> None:
    status, out, err = run(0, "--heath")
    assert (status, out) == (2, "")
    assert "usage: processor" in err


ECHO = """
import json
def handler(context, event):
    header = event.get_header("x-nuclio-invoke-trigger")
    print(json.dumps([event.method, event.path, event.fields, header, event.body.decode()]))
    status = int(event.get_header("x-status") or 204)
    return context.Response(body="no\\nluck", status_code=status)
"""


@pytest.mark.parametrize("version", interpreters.every(interpreters.PYPY))
def test_one_call_of_a_function(version: str, serve: Serve) -> None:
    processor = serve(ECHO)
    python = str(interpreters.find(version))
    options = ["--header", "X-Nuclio-Invoke-Trigger=cron", "--body", "täglich"]
    assert run(0, "--invoke", f"{processor.url}/a?b=c", *options, python=python) == (0, "", "")
    record = processor.await_record('"POST"')
    assert json.loads(record["message"]) == ["POST", "/a", {"b": "c"}, "cron", "täglich"]
    status, out, err = run(0, "--invoke", processor.url, "--header", "X-Status=503", python=python)
    assert (status, out, err) == (1, "", f"{processor.url}: status 503: no luck\n")
    assert run(0, "--invoke", processor.url, "--method", "DELETE", python=python)[0] == 0
    assert processor.await_record('"DELETE"')


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://127.0.0.1:{port}/", "Connection refused"),
        ("http://nobody.invalid/", "Name or service not known"),
        ("ftp://127.0.0.1/", "'ftp://127.0.0.1' is neither"),
        ("http://127.0.0.1:nine/", "nine"),
    ],
)
def test_a_failed_call_is_reported_in_one_line(url: str, expected: str, free_port: int) -> None:
    status, out, err = run(0, "--invoke", url.format(port=free_port))
    assert (status, out, len(err.splitlines())) == (1, "", 1)
    assert expected in err


def test_a_call_of_a_closed_function_has_its_token(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    credentials = {VARIABLE: '{"token": "of high entropy"}'}
    attributes = {"authenticationMode": "api"}
    processor = serve(ECHO, trigger={"attributes": attributes}, env=dict(credentials))
    for value, expected in ((credentials[VARIABLE], 0), ("", 1), ("plain", 1)):
        monkeypatch.setenv(VARIABLE, value)
        assert run(0, "--invoke", processor.url)[0] == expected


def test_a_call_has_a_timeout(free_port: int) -> None:
    with socket.create_server(("127.0.0.1", free_port)):
        status, _out, err = run(0, "--invoke", f"http://127.0.0.1:{free_port}", "--timeout", "0.2")
    assert (status, err) == (1, f"http://127.0.0.1:{free_port}: timed out\n")


def test_an_invalid_header_is_refused() -> None:
    status, _out, err = run(0, "--invoke", "http://127.0.0.1", "--header", "cron")
    assert (status, "invalid" in err) == (2, True)


def test_under_kserve_the_variable_replaces_the_file_of_the_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "processor.json"
    file.write_text('{"handler": "file:handler"}')
    monkeypatch.setattr(container, "CONFIG_PATH", str(file))
    monkeypatch.setenv("FNBUILD_PROCESSOR", '{"handler": "variable:handler"}')
    config, _ = container._read_config(str(file), under_kserve=False)
    assert config.handler == "file:handler"
    config, origin = container._read_config(str(file), under_kserve=True)
    assert (config.handler, origin) == ("variable:handler", "FNBUILD_PROCESSOR")
    monkeypatch.delenv("FNBUILD_PROCESSOR")
    assert container._read_config(str(file), under_kserve=True)[0].handler == "file:handler"
