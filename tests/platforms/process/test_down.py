"""`fnbuild down` keeps functions stopped, also during deploys."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from fnbuild.deploy import pipeline
from fnbuild.errors import ConflictError, UnavailableError
from fnbuild.platforms import Progress
from fnbuild.platforms.process import ProcessPlatform, layout, supervisor_client
from fnbuild.platforms.process.layout import supervisor_lock
from fnbuild.platforms.process.supervisor_protocol import (
    SupervisorRequest,
    SupervisorServer,
    encode,
)
from fnbuild.runtime import sockets
from fnbuild.runtime.file_locks import is_locked
from tests.platforms.process.author import NAMESPACE, Author, invoke, processes, wait_for
from tests.platforms.process.test_survival import end, policy

pytestmark = pytest.mark.system


def down_once(platform: ProcessPlatform) -> Progress:
    """Return a progress callback that calls `down` in the middle of a change."""

    def progress(sentence: str) -> None:
        if sentence.startswith("making revision"):
            platform.down()

    return progress


def test_a_redeploy_during_down_starts_nothing(
    data: Path, platform: ProcessPlatform, author: Author
) -> None:
    deployment = author.deploy(author.write("one"))
    with pytest.raises(ConflictError, match="`fnbuild down` ran meanwhile"):
        platform.redeploy(NAMESPACE, "greeter", down_once(platform))
    assert supervisor_client.running_supervisor() is None
    assert wait_for(lambda: not processes(data))
    current = platform.deployment(NAMESPACE, "greeter")
    assert (current.state, current.revision) == ("stopped", 1)
    assert platform.functions_to_restore() == []
    platform.up()
    assert invoke(deployment.http_port) == "one"
    assert platform.redeploy(NAMESPACE, "greeter", author.progress.append).state == "ready"


def test_a_first_deploy_during_down_starts_nothing(
    data: Path, platform: ProcessPlatform, author: Author
) -> None:
    request = pipeline.DeployRequest(path=author.write("one"))
    with pytest.raises(ConflictError, match="down"):
        pipeline.deploy(request, down_once(platform))
    assert supervisor_client.running_supervisor() is None
    assert processes(data) == []
    current = platform.deployment(NAMESPACE, "greeter")
    assert (current.state, current.revision) == ("error", 0)
    assert "`fnbuild down` ran meanwhile" in current.message


def test_a_supervisor_refuses_changes_from_before_the_last_down(
    platform: ProcessPlatform, author: Author
) -> None:
    deployment = author.deploy(author.write("one"))
    started = layout.last_down()
    layout.mark_down()
    with pytest.raises(ConflictError, match="greeter was not started"):
        supervisor_client.call(
            "switch", namespace=NAMESPACE, name="greeter", revision=1, began=started, overlap=False
        )
    assert platform.deployment(NAMESPACE, "greeter").details["pid"] == deployment.details["pid"]


def test_a_failed_function_is_not_started_by_another_deploy(
    data: Path, platform: ProcessPlatform, author: Author
) -> None:
    deployment = author.deploy(author.write("one", spec=policy("on-failure", 1)))
    end(deployment.details["pid"])
    assert wait_for(lambda: platform.deployment(NAMESPACE, "greeter").state == "ready")
    end(platform.deployment(NAMESPACE, "greeter").details["pid"])
    assert wait_for(lambda: "restart policy" in platform.deployment(NAMESPACE, "greeter").message)
    assert platform.down() == 0
    assert wait_for(lambda: not processes(data))
    author.deploy(author.write("two", name="second"))
    assert platform.deployment(NAMESPACE, "greeter").state == "stopped"
    with pytest.raises(ConnectionRefusedError):
        invoke(deployment.http_port)
    platform.up()
    assert invoke(deployment.http_port) == "one"


def test_a_request_after_the_close_of_the_server_is_ignored(data: Path) -> None:
    requests: list[str] = []

    async def answer(verb: str, arguments: dict[str, Any], progress: Progress) -> dict[str, Any]:
        requests.append(verb)
        return {}

    def is_connected() -> bool:
        names = [getattr(task.get_coro(), "__name__", "") for task in asyncio.all_tasks()]
        return "_handle_connection" in names

    async def exchange() -> bytes:
        path = data.parent / "control.sock"
        server = SupervisorServer(path, answer)
        await server.start()
        with sockets.connect_unix(path) as link:
            link.setblocking(False)
            async with asyncio.timeout(20):
                while not is_connected():
                    await asyncio.sleep(0.01)
                await server.close()
                loop = asyncio.get_running_loop()
                await loop.sock_sendall(link, encode(SupervisorRequest("any", "restore")))
                return await loop.sock_recv(link, 4096)

    assert asyncio.run(exchange()) == b""
    assert requests == []


def test_a_supervisor_that_ends_between_two_requests_is_an_error(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    supervisor_client.ensure_running()
    running = supervisor_client.running_supervisor()
    assert running is not None
    monkeypatch.setattr(
        supervisor_client, "ensure_running", lambda: None
    )  # it was running a moment ago
    end(running.pid)
    assert wait_for(lambda: not is_locked(supervisor_lock()))
    with pytest.raises(UnavailableError, match="has just ended"):
        supervisor_client.call("restore")
