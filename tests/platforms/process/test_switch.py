"""A redeploy under constant load loses no request."""

from __future__ import annotations

import http.client
import threading
import time
from dataclasses import dataclass, field

import pytest

from fnbuild.platforms.process import ProcessPlatform
from tests.platforms.process.author import NAMESPACE, Author, alive, wait_for

pytestmark = pytest.mark.system

CLIENTS = 8
IDLE = 4
ROUNDS = 10
GAP = 0.002  # seconds between a client's requests, so that other processes get time


class KeepAlive:
    """A client that keeps its connection open and never retries."""

    def __init__(self, port: int):
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)

    def invoke(self) -> tuple[int, str]:
        self._connection.request("POST", "/", b"{}", {"Content-Type": "application/json"})
        reply = self._connection.getresponse()
        return reply.status, reply.read().decode()

    def close(self) -> None:
        self._connection.close()


@dataclass
class Load:
    """Clients that send requests until they are stopped."""

    port: int
    answers: list[tuple[int, str]] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def _run(self) -> None:
        client = KeepAlive(self.port)
        try:
            while not self._stop.is_set():
                self.answers.append(client.invoke())
                time.sleep(GAP)
        except (OSError, http.client.HTTPException) as error:
            self.failures.append(repr(error))
        finally:
            client.close()

    def __enter__(self) -> Load:
        self._threads = [threading.Thread(target=self._run) for _ in range(CLIENTS)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


def test_redeploys_under_load_lose_no_requests(platform: ProcessPlatform, author: Author) -> None:
    spec = "triggers:\n  web:\n    kind: http\n    numWorkers: 2"
    deployment = author.deploy(author.write("revision 1", spec=spec))
    pids = [deployment.details["pid"]]
    with Load(deployment.http_port) as load:
        for number in range(2, ROUNDS + 2):
            idle = [KeepAlive(deployment.http_port) for _ in range(IDLE)]
            before = [client.invoke() for client in idle]
            deployment = author.deploy(author.write(f"revision {number}", spec=spec))
            assert deployment.revision == number
            pids.append(deployment.details["pid"])
            # These connections still belong to the old processor.
            across = [client.invoke() for client in idle]
            after = [client.invoke() for client in idle]
            for client in idle:
                client.close()
            assert before == [(200, f"revision {number - 1}")] * IDLE
            assert across == [(200, f"revision {number - 1}")] * IDLE
            assert after == [(200, f"revision {number}")] * IDLE
    assert load.failures == []
    assert {status for status, _ in load.answers} == {200}
    assert {text for _, text in load.answers} == {f"revision {n}" for n in range(1, ROUNDS + 2)}
    assert wait_for(lambda: not any(alive(pid) for pid in pids[:-1]))
    assert platform.deployment(NAMESPACE, "greeter").details["pid"] == pids[-1]


def test_only_ten_revisions_are_kept(platform: ProcessPlatform, author: Author) -> None:
    author.deploy(author.write())
    for _ in range(11):
        platform.redeploy(NAMESPACE, "greeter", author.progress.append)
    revisions = platform.revisions(NAMESPACE, "greeter")
    assert [revision.number for revision in revisions] == list(range(12, 2, -1))
    folder = platform.code_folder(NAMESPACE, "greeter")
    assert folder is not None
    assert {path.name for path in folder.parent.parent.iterdir()} == {str(n) for n in range(3, 13)}
