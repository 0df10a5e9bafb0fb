"""Real dashboards as processes on loopback, each with its own data directory."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import textwrap
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import urllib3

from fnbuild.builder import sdk
from tests import forkserver
from tests.fetched import copy_fetched
from tests.forkserver import ForkedProcess

PATIENCE = 180.0
_ADDRESS = re.compile(r"^the dashboard is at ([^\s,]+)", re.MULTILINE)
_HEALTH = re.compile(r"^its health is at (\S+)/ready$", re.MULTILINE)


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def text(self) -> str:
        return self.body.decode()


@dataclass
class Dashboard:
    """A running dashboard. `urls` are its addresses in order; `output` is its output so far;
    `session` is a cookie that a test may keep.
    """

    urls: list[str]
    health: str
    token: str
    data_dir: Path
    process: ForkedProcess
    errors: Path
    session: str = ""
    pool: urllib3.PoolManager = field(default_factory=lambda: urllib3.PoolManager(retries=False))

    @property
    def url(self) -> str:
        return self.urls[0]

    @property
    def output(self) -> str:
        return self.errors.read_text()

    @property
    def environment(self) -> dict[str, str]:
        return environment(self.data_dir)

    def request(
        self,
        method: str,
        path: str,
        *,
        json: Any = None,
        body: bytes | str | None = None,
        headers: Mapping[str, str] | None = None,
        token: bool = True,
        timeout: float = PATIENCE,
    ) -> Answer:
        """Send one request, with the write token unless `token` is false."""
        sent = dict(headers or {})
        if token:
            sent.setdefault("Authorization", f"Bearer {self.token}")
        try:
            answer = self.pool.request(
                method,
                path if "://" in path else self.url + path,
                body=body,
                headers=sent,
                timeout=timeout,
                redirect=False,
                **({} if json is None else {"json": json}),
            )
        except urllib3.exceptions.HTTPError as error:
            error.add_note(f"exit status of the dashboard: {self.process.poll()}\n{self.output}")
            raise
        return Answer(answer.status, answer.headers, answer.data)

    def cli(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run `fnbuild` on this dashboard's data directory."""
        done = forkserver.run(arguments, self.environment, timeout=300)
        assert not check or done.returncode == 0, f"{arguments}\n{done.stdout}\n{done.stderr}"
        return done

    def deploy(self, folder: Path, *flags: str) -> str:
        """Deploy the folder by the command line; return its name."""
        self.cli("deploy", "--path", str(folder), *flags)
        return folder.name

    def kill(self) -> None:
        """Kill the dashboard, as a crash does."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """Stop the dashboard in order; return its exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE)


def environment(data_dir: Path, **more: str) -> dict[str, str]:
    """Return the environment of commands on that data directory."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("FNBUILD_", "NUCLIO_", "NUCTL_"))
    }
    return {**kept, "FNBUILD_DATA_DIR": str(data_dir), **more}


@contextmanager
def running(
    data_dir: Path, *flags: str, listen: bool = True, env: Mapping[str, str] | None = None
) -> Iterator[Dashboard]:
    """Run a dashboard on free ports; with `listen` false, `flags` have to name its addresses."""
    surroundings = environment(data_dir, **(env or {}))
    token = surroundings.get("FNBUILD_DASHBOARD_TOKEN") or _token(data_dir)
    where = ["--listen", "127.0.0.1:0"] if listen else []
    number = sum(1 for _ in data_dir.parent.glob(f"{data_dir.name}.dashboard*"))
    errors = data_dir.parent / f"{data_dir.name}.dashboard{number}"
    with errors.open("w") as stream:
        process = forkserver.start(
            ["dashboard", *where, "--health", "127.0.0.1:0", *flags],
            surroundings,
            stdout=stream,
            stderr=stream,
        )
    try:
        urls, health = _addresses(process, errors)
        yield Dashboard(urls, health, token, data_dir, process, errors)
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _token(data_dir: Path) -> str:
    """Return the data directory's token, which is created once and stored next to it."""
    kept = data_dir.parent / f"{data_dir.name}.token"
    if not kept.exists():
        result = forkserver.run(["dashboard", "token"], environment(data_dir), PATIENCE)
        result.check_returncode()
        kept.write_text(result.stdout.strip())
    return kept.read_text()


def _addresses(process: ForkedProcess, errors: Path) -> tuple[list[str], str]:
    """Return the addresses that a dashboard prints."""
    from tests.dashboard.waiting import until

    def has_started() -> bool:
        return process.poll() is not None or _HEALTH.search(errors.read_text()) is not None

    until(has_started, "the dashboard starts", PATIENCE)
    output = errors.read_text()
    match = _HEALTH.search(output)
    assert match is not None, f"the dashboard ended with {process.poll()}:\n{output}"
    return _ADDRESS.findall(output), match.group(1)


Started = Callable[..., AbstractContextManager[Dashboard]]


@pytest.fixture(scope="session")
def fetched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The part of a data directory that is downloaded."""
    place = tmp_path_factory.mktemp("fetched")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FNBUILD_DATA_DIR", str(place))
        sdk.ensure_sdk((3, 11, 0))
    return place / "sdk"


def new_data_dir(home: Path, fetched: Path) -> Path:
    """Return a data directory below `home` with what every deploy would download."""
    place = home / "data"
    place.mkdir(mode=0o700)
    copy_fetched(fetched, place)
    return place


@pytest.fixture
def started(tmp_path: Path, fetched: Path) -> Iterator[Started]:
    """Start dashboards for one test: `with started("--read-token") as dashboard`.

    They share a data directory; its functions end with the test. Keywords as `running` has them.
    """
    place = new_data_dir(tmp_path, fetched)

    def start(*flags: str, **more: Any) -> AbstractContextManager[Dashboard]:
        more.setdefault("data_dir", place)
        return running(more.pop("data_dir"), "--show", "process", *flags, **more)

    yield start
    end_functions(place)


@pytest.fixture(scope="session")
def dashboard(tmp_path_factory: pytest.TempPathFactory, fetched: Path) -> Iterator[Dashboard]:
    """A dashboard with the process platform for all tests that leave it unchanged."""
    place = new_data_dir(tmp_path_factory.mktemp("dashboard"), fetched)
    with running(place, "--show", "process") as running_dashboard:
        yield running_dashboard
    end_functions(place)


def end_functions(data_dir: Path) -> None:
    """Stop the supervisor and all processes of functions."""
    forkserver.run(["down"], environment(data_dir), PATIENCE)


_ECHO = """\
def handler(context, event):
    context.logger.info_with("asked", path=event.path)
    return context.Response(
        body=event.body, content_type=event.content_type, headers={"X-Path": event.path}
    )
"""

_DETECTOR = """\
import json


def handler(context, event):
    found = [
        {"confidence": "0.9", "label": "person", "points": [10, 20, 110, 220], "type": "rectangle"},
        {"confidence": "0.4", "label": "car", "points": [30, 40, 90, 80], "type": "rectangle"},
    ]
    return context.Response(body=json.dumps(found), content_type="application/json")
"""

_DETECTOR_ANNOTATIONS = """\
  annotations:
    name: Two boxes
    type: detector
    framework: numpy
    spec: |
      [
        {"id": 1, "name": "person", "type": "rectangle"},
        {"id": 2, "name": "car", "type": "rectangle"}
      ]
"""


def write_function(
    home: Path, name: str, code: str = _ECHO, *, annotations: str = "", spec: str = ""
) -> Path:
    """Write the folder of a function; `annotations` and `spec` are lines of YAML, not indented."""
    folder = home / name
    folder.mkdir(parents=True)
    lines = [
        "metadata:",
        f"  name: {name}",
        *annotations.rstrip().splitlines(),
        "spec:",
        f"  description: {name} of the tests",
        "  handler: main:handler",
        "  runtime: python:3.11",
        textwrap.indent(textwrap.dedent(spec).strip(), "  "),
    ]
    (folder / "function.yaml").write_text("\n".join(lines).rstrip() + "\n")
    (folder / "main.py").write_text(code)
    return folder


@pytest.fixture(scope="session")
def greeter(dashboard: Dashboard, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The name of a function that replies with the request's body, and its path as `X-Path`."""
    return dashboard.deploy(write_function(tmp_path_factory.mktemp("functions"), "greeter"))


@pytest.fixture(scope="session")
def detector(dashboard: Dashboard, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A detector for CVAT that returns the same two boxes for each request."""
    home = tmp_path_factory.mktemp("functions")
    folder = write_function(home, "two-boxes", _DETECTOR, annotations=_DETECTOR_ANNOTATIONS)
    return dashboard.deploy(folder)
