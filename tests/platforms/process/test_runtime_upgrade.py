"""Functions that run while another version of fnbuild is installed in the same folder."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path

import pytest

import fnbuild
from fnbuild.datadir import function_lock
from fnbuild.platforms import Deployment
from fnbuild.platforms.process import ProcessPlatform, supervisor_client
from fnbuild.store import Store
from tests.platforms.process.author import NAMESPACE, Author, alive, invoke, wait_for

pytestmark = pytest.mark.system

NAME = "greeter"


class Installation:
    """A copy of fnbuild in a separate folder, at first with different messages of workers."""

    def __init__(self, folder: Path):
        self._folder = folder
        self._copy()
        self._edit("__init__.py", f'"{fnbuild.__version__}"', '"0.0.9"')
        self._edit("runtime/wire.py", "\nREADY = 17", "\nREADY = 77")

    def _copy(self) -> None:
        ignored = shutil.ignore_patterns("__pycache__", "library")
        shutil.copytree(Path(fnbuild.__file__).parent, self._folder / "fnbuild", ignore=ignored)

    def _edit(self, name: str, old: str, new: str) -> None:
        path = self._folder / "fnbuild" / name
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))

    def upgrade(self) -> None:
        """Install the current code in the same folder, and start its supervisor."""
        shutil.rmtree(self._folder / "fnbuild")
        self._copy()
        self.run("up")

    def run(self, *arguments: str) -> None:
        subprocess.run(
            [sys.executable, "-m", "fnbuild", *arguments],
            env={**os.environ, "PYTHONPATH": str(self._folder)},
            cwd=self._folder,
            check=True,
        )


@pytest.fixture
def installation(tmp_path: Path, data: Path) -> Installation:
    folder = tmp_path / "site"
    folder.mkdir()
    return Installation(folder)


@contextmanager
def no_request_fails(port: int) -> Iterator[None]:
    """Send requests until the block ends; each of them must be answered."""
    stop = threading.Event()
    failures: list[Exception] = []
    answers: list[str] = []

    def send() -> None:
        while not stop.is_set() and not failures:
            try:
                answers.append(invoke(port))
            except (AssertionError, OSError, HTTPException) as error:
                failures.append(error)

    client = threading.Thread(target=send)
    client.start()
    try:
        yield
    finally:
        stop.set()
        client.join()
    assert not failures
    assert set(answers) == {"one"}


def current(platform: ProcessPlatform) -> Deployment:
    return platform.deployment(NAMESPACE, NAME)


def worker(platform: ProcessPlatform) -> int:
    workers = current(platform).details.get("workers")
    return int(workers[0]["pid"] or 0) if workers else 0


def last_change() -> tuple[str, str, str]:
    with Store.open() as store:
        entry = store.audit(limit=1)[0]
    return entry.actor, entry.action, entry.outcome


def test_processors_of_another_version_are_replaced(
    installation: Installation, platform: ProcessPlatform, author: Author
) -> None:
    installation.run("deploy", "--path", str(author.write("one")), "--platform", "process")
    before = current(platform)
    with no_request_fails(before.http_port):
        installation.upgrade()
        assert wait_for(lambda: current(platform).revision == 2)
        assert wait_for(lambda: not alive(before.details["pid"]))
    assert wait_for(lambda: last_change() == ("supervisor", "redeploy", "done"))
    after = current(platform)
    assert (after.state, after.message, after.http_port) == ("ready", "", before.http_port)
    states = [(row.number, row.state) for row in platform.revisions(NAMESPACE, NAME)]
    assert states == [(2, "active"), (1, "superseded")]

    # The new processor and its workers have the same messages.
    ended = worker(platform)
    os.kill(ended, signal.SIGKILL)
    assert wait_for(lambda: worker(platform) not in (0, ended))
    assert invoke(after.http_port) == "one"

    # Another supervisor of the same code replaces nothing.
    supervisor = supervisor_client.running_supervisor()
    assert supervisor is not None
    os.kill(supervisor.pid, signal.SIGKILL)
    assert wait_for(lambda: not alive(supervisor.pid))
    installation.run("up")
    assert current(platform).details["pid"] == after.details["pid"]
    assert [row.number for row in platform.revisions(NAMESPACE, NAME)] == [2, 1]


def test_a_processor_that_cannot_be_replaced_goes_on_serving(
    installation: Installation, platform: ProcessPlatform, author: Author, tmp_path: Path
) -> None:
    marker = tmp_path / "upgraded"
    code = f"""\
        import os

        def init_context(context):
            if os.path.exists({str(marker)!r}):
                raise RuntimeError("no licence")

        def handler(context, event):
            return "one"
        """
    folder = author.write_code(code)
    installation.run("deploy", "--path", str(folder), "--platform", "process")
    before = current(platform)
    marker.touch()
    with no_request_fails(before.http_port):
        installation.upgrade()
        assert wait_for(lambda: "no licence" in current(platform).message)
    after = current(platform)
    assert (after.state, after.revision) == ("ready", 1)
    assert after.details["pid"] == before.details["pid"]
    assert f"`fnbuild redeploy {NAME}` tries again" in after.message
    states = [(row.number, row.state) for row in platform.revisions(NAMESPACE, NAME)]
    assert states == [(2, "failed"), (1, "active")]
    assert any("another version" in entry.message for entry in platform.logs(NAMESPACE, NAME))

    marker.unlink()
    assert platform.redeploy(NAMESPACE, NAME, author.progress.append).message == ""
    assert invoke(before.http_port) == "one"


def test_a_function_that_is_being_changed_is_replaced_afterwards(
    installation: Installation, platform: ProcessPlatform, author: Author, data: Path
) -> None:
    other = author.write("one", name="other")
    for folder in (author.write("one"), other):
        installation.run("deploy", "--path", str(folder), "--platform", "process")
    with function_lock(NAMESPACE, NAME, "deployed"):
        installation.upgrade()
        assert current(platform).revision == 1
    assert wait_for(lambda: current(platform).revision == 2)
    assert wait_for(lambda: platform.deployment(NAMESPACE, "other").revision == 2)
